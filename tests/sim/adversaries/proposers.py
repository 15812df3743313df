"""Liars whose turn it is to propose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import msgspec

from primep2p.core.chain import header_hash
from primep2p.core.roster import state_hash
from primep2p.model.ids import PeerId
from primep2p.model.messages import OverlayMessage, Proposed, Records
from primep2p.model.records import Bundle, Collected, Departure, Header, Proposal
from tests.core.kit import cid
from tests.sim.adversaries.base import Adversary, adversary
from tests.sim.adversaries.forge import Forgery, another_right_header, forged, params_of, proposed_with

if TYPE_CHECKING:
    from tests.sim.node import SimNode


@adversary
class SilentProposer(Adversary):
    """Never proposes."""

    name = "silent proposer"

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        return () if isinstance(message, Proposed) else (message,)


@adversary
class EquivocatingProposer(Adversary):
    """Two headers, both right, one for each side; its friends hear which of them to vote for, and where."""

    name = "equivocating proposer"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._stories: dict[bytes, Proposed] = {}

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if not isinstance(message, Proposed):
            return (message,)
        return (self.other_story(message) if self.gang.side_of(peer) == 1 else message,)

    def other_story(self, message: Proposed) -> Proposed:
        """What side 1 hears: of each proposal one other."""
        story = self._stories.get(message.proposal)
        if story is None:
            story = self._stories[message.proposal] = self._invent(message)
        return story

    def _invent(self, message: Proposed) -> Proposed:
        proposal = self.node.record(message.proposal)
        other = another_right_header(self.node, message)
        if not isinstance(proposal, Proposal) or proposal.valid_view >= 0 or other is None:
            return message
        self.gang.headers[proposal.round, proposal.view] = (proposal.header, header_hash(other[0]))
        return proposed_with(self.node, message, *other)


class Forger(Adversary):
    """Proposes headers that are wrong in one thing."""

    forgeries: ClassVar[dict[str, Forgery]] = {}

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if not isinstance(message, Proposed):
            return (message,)
        return (forged(self.node, message, self.forgeries[self.name]),)


def _other_lists(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """One list twice in place of another: a quorum in number only."""
    return header, msgspec.structs.replace(bundle, lists=(*bundle.lists[:-1], bundle.lists[0]))


def _fewer_inclusions(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """Without the first, all else as it would be then."""
    return params_of(node, msgspec.structs.replace(header, inclusions=header.inclusions[1:])), bundle


def _other_weights(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """The first counts ten times as much."""
    inclusions = list(header.inclusions)
    if inclusions:
        inclusions[0] = msgspec.structs.replace(inclusions[0], weight=10 * inclusions[0].weight)
    return params_of(node, msgspec.structs.replace(header, inclusions=tuple(inclusions))), bundle


def _other_ages(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """The first is older than it is, so that less of what its trainer brings is used up."""
    inclusions = list(header.inclusions)
    if inclusions:
        inclusions[0] = msgspec.structs.replace(inclusions[0], staleness=inclusions[0].staleness + 1)
    return params_of(node, msgspec.structs.replace(header, inclusions=tuple(inclusions))), bundle


def _other_params(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """Params of its own making."""
    params = cid("poison", node.peer, header.round)
    node.disk.blobs.add(params)
    return msgspec.structs.replace(header, params=params), bundle


def _other_optimiser(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """A state of the optimiser of its own making: this round's params are right, the next one's would be its own."""
    state = cid("poisoned state", node.peer, header.round)
    node.disk.blobs.add(state)
    return msgspec.structs.replace(header, optimiser=state), bundle


def _other_parent(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """A past that never was."""
    return msgspec.structs.replace(header, parent=header.beacon), bundle


def _other_seen(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """Somebody who was there was not seen."""
    return msgspec.structs.replace(header, seen=header.seen[1:]), bundle


def _void_for_nothing(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """A round without a model."""
    assert node.head is not None
    kept = {"params": node.head.header.params, "optimiser": node.head.header.optimiser}
    return msgspec.structs.replace(header, inclusions=(), metrics=(), void="I would rather not", **kept), bundle


def _other_roster(node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
    """An honest member is dropped, with a state to match."""
    assert node.head is not None
    victim = node.world.gang.target()
    members = tuple(member for member in node.head.state.members if member.peer != victim)
    state = msgspec.structs.replace(node.head.state, round=header.round, members=members)
    return msgspec.structs.replace(header, left=(Departure(victim, "dropped"),), state=state_hash(state)), bundle


def _forger(name: str, forgery: Forgery) -> type[Adversary]:
    return adversary(
        type("Forger", (Forger,), {"name": name, "forgeries": {name: forgery}, "__doc__": forgery.__doc__})
    )


FORGERS = [
    _forger("lies about lists", _other_lists),
    _forger("lies about inclusions", _fewer_inclusions),
    _forger("lies about weights", _other_weights),
    _forger("lies about ages", _other_ages),
    _forger("lies about params", _other_params),
    _forger("lies about the optimiser", _other_optimiser),
    _forger("lies about parent", _other_parent),
    _forger("lies about who was seen", _other_seen),
    _forger("lies about the roster", _other_roster),
    _forger("voids rounds", _void_for_nothing),
]


@adversary
class Censor(Adversary):
    """One honest member in each round does not exist: not in its list, not in its header, not for its bytes."""

    name = "censors"

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if isinstance(message, Proposed):
            return (forged(self.node, message, self._without),)
        if isinstance(message, Records):
            kept = [self._purged(raw) for raw in message.items]
            return (Records(message.run, tuple(kept)),)
        return (message,)

    def serves(self, asker: SimNode, blob: str) -> bool:
        round = self.round
        target = self.gang.target()
        updates = round.collection.updates.values() if round is not None else ()
        return all(update.record.delta != blob or update.signer != target for update in updates)

    def _purged(self, raw: bytes) -> bytes:
        record, target = self.node.record(raw), self.gang.target()
        if not isinstance(record, Collected) or self.node.envelopes.peek(raw).signer != self.node.peer:
            return raw
        kept = tuple(ref for ref in record.updates if ref.trainer != target)
        return self.node.envelopes.seal(msgspec.structs.replace(record, updates=kept)).raw

    def _without(self, node: SimNode, header: Header, bundle: Bundle) -> tuple[Header, Bundle]:
        target = self.gang.target()
        kept = tuple(inclusion for inclusion in header.inclusions if inclusion.trainer != target)
        return params_of(node, msgspec.structs.replace(header, inclusions=kept)), bundle
