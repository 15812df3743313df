"""What this node answers to questions over `/primep2p/sync/1`: anyone may ask about a run whose id it knows."""

from collections.abc import Mapping

from primep2p.core.chain import Head as ChainHead
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
from primep2p.model.records import Checkpoint
from primep2p.services.peers.members import Overlay
from primep2p.services.runs.rounds import RunService
from primep2p.store.seam import RunStore, StoredCheckpoint
from primep2p.tasks import Offload
from primep2p.wire.codec import MAX_RECORD_BYTES, encode

__all__ = ["Answers"]

MAX_HINTS = 256
"""What the message has room for."""

OVERHEAD_BYTES = 64
"""What the message around a field takes, and more."""


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
        head = self._services[run].head
        return Head(newest[1].checkpoint, newest[1].state, self._hints(head) if head else ())

    def _hints(self, head: ChainHead) -> tuple[Addresses, ...]:
        """Where members were heard of, those who vote first."""
        order = (*head.committee.members, *sorted(head.members.keys() - set(head.committee.members)))
        known = ((member, self._overlay.addresses_of(member)) for member in order)
        return tuple(Addresses(member, addresses) for member, addresses in known if addresses)[:MAX_HINTS]

    async def _chain(self, run: RunId, first: int) -> SyncAnswer:
        stored = await self._offload(self._runs.chain, run, first, MAX_CHAIN)
        if not stored:
            begun = await self._offload(self._runs.head, run)
            return Nothing("no checkpoint from there on") if begun else NotBegun()
        return Chain(_that_fit(stored), stored[0].state)

    def _votes(self, peer: PeerId, service: RunService) -> SyncAnswer:
        """The asker's own records, of the round under way."""
        machine = service.machine
        if not isinstance(machine, Run) or machine.round is None:
            head = service.head
            return Votes(head.round + 1 if head else 0, ())
        own = tuple(opened.raw for opened in machine.round.records.by(peer))
        return Votes(machine.round.round, own[:1024])


def _that_fit(stored: list[StoredCheckpoint]) -> tuple[Checkpoint, ...]:
    """The first of them, as many as an answer has room for: checkpoints of large runs are large."""
    room = MAX_RECORD_BYTES - len(stored[0].state) - OVERHEAD_BYTES
    fit: list[Checkpoint] = []
    for entry in stored:
        room -= len(encode(entry.checkpoint)) + OVERHEAD_BYTES
        if fit and room < 0:
            break
        fit.append(entry.checkpoint)
    return tuple(fit)
