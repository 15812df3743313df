"""What this node answers to questions over `/primep2p/sync/1`: anyone may ask about a run whose id it knows."""

from collections.abc import Mapping

from primep2p.core.roster import peers_of
from primep2p.core.runs import Run
from primep2p.model.ids import PeerId, RunId
from primep2p.model.messages import (
    MAX_CHAIN,
    Addresses,
    AskChain,
    AskHead,
    AskSpec,
    AskVotes,
    Chain,
    Head,
    Introduce,
    NotBegun,
    Nothing,
    Records,
    Spec,
    SyncAnswer,
    SyncQuestion,
    Votes,
)
from primep2p.services.members import Overlay
from primep2p.services.rounds import RunService
from primep2p.store.seam import RunStore
from primep2p.tasks import Offload

__all__ = ["Answers"]


class Answers:
    """Answers from the machines and the store of this node's runs."""

    def __init__(
        self, services: Mapping[RunId, RunService], runs: RunStore, overlay: Overlay, offload: Offload
    ) -> None:
        self._services = services
        self._runs = runs
        self._overlay = overlay
        self._offload = offload

    async def answer(self, peer: PeerId, question: SyncQuestion) -> SyncAnswer:
        """The answer to `peer`."""
        service = self._services.get(question.run)
        if service is None:
            return Nothing("this node is not in that run")
        match question:
            case AskSpec():
                return Spec(service.row.spec)
            case AskHead(run):
                return await self._head(run)
            case AskChain(run, first):
                return await self._chain(run, first)
            case AskVotes():
                return self._votes(peer, service)
            case Introduce(run, join):
                await service.receive(peer, Records(run, (join,)))
                return Nothing()

    async def _head(self, run: RunId) -> SyncAnswer:
        newest = await self._offload(self._runs.head, run)
        if newest is None:
            return NotBegun()
        service = self._services[run]
        members = peers_of(service.head.state) if service.head else frozenset()
        hints = tuple(Addresses(member, self._overlay.addresses_of(member)) for member in sorted(members))
        return Head(newest[1].checkpoint, newest[1].state, hints)

    async def _chain(self, run: RunId, first: int) -> SyncAnswer:
        stored = await self._offload(self._runs.chain, run, first, MAX_CHAIN)
        if not stored:
            begun = await self._offload(self._runs.head, run)
            return Nothing("no checkpoint from there on") if begun else NotBegun()
        return Chain(tuple(entry.checkpoint for entry in stored), stored[0].state)

    def _votes(self, peer: PeerId, service: RunService) -> SyncAnswer:
        """The asker's own records, of the round under way."""
        machine = service.machine
        if not isinstance(machine, Run) or machine.round is None:
            head = service.head
            return Votes(head.round + 1 if head else 0, ())
        own = tuple(opened.raw for opened in machine.round.records.by(peer))
        return Votes(machine.round.round, own[:1024])
