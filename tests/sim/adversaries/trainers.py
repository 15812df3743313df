"""Liars who train, list and serve."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from primep2p.core import effects as fx
from primep2p.model.ids import Cid, PeerId
from primep2p.model.messages import OverlayMessage, Records
from primep2p.model.records import Collected, Header, Update, UpdateRef
from primep2p.wire.codec import decode
from tests.core.kit import cid
from tests.sim.adversaries.base import Adversary, adversary

if TYPE_CHECKING:
    from tests.sim.node import SimNode


class Rewriter(Adversary):
    """Signs some of its own records anew before it sends them."""

    kind: type[msgspec.Struct]

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if not isinstance(message, Records):
            return (message,)
        items = []
        for raw in message.items:
            record = self.node.record(raw)
            mine = isinstance(record, self.kind) and self.node.envelopes.peek(raw).signer == self.node.peer
            items.append(self.node.envelopes.seal(self.rewritten(peer, record)).raw if mine else raw)
        return (Records(message.run, tuple(items)),)

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        """What one peer reads."""
        raise NotImplementedError


@adversary
class SelectiveServer(Adversary):
    """Serves what it has to one side only."""

    name = "serves some"

    def serves(self, asker: SimNode, blob: Cid) -> bool:
        return self.gang.side(asker) == 0


@adversary
class EquivocatingTrainer(Rewriter):
    """Another update for each side, both with bytes that are there."""

    name = "equivocating trainer"
    kind = Update

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Update)
        if self.gang.side_of(peer) == 0:
            return record
        other = cid("another delta", self.node.peer, record.round)
        self.node.disk.blobs.add(other)
        return msgspec.structs.replace(record, delta=other)


@adversary
class Boaster(Adversary):
    """Claims more examples than there are people."""

    name = "boasts of examples"

    def trains(self, trained: fx.Trained) -> fx.Trained:
        return fx.Trained(trained.round, trained.delta, 2**40, trained.metrics)


@adversary
class Minimiser(Adversary):
    """Claims a single example, so that honest claims look large."""

    name = "claims one example"

    def trains(self, trained: fx.Trained) -> fx.Trained:
        return fx.Trained(trained.round, trained.delta, 1, trained.metrics)


@adversary
class WrongTrainer(Adversary):
    """Its deltas are of no schema."""

    name = "trains nonsense"

    def trains(self, trained: fx.Trained) -> fx.Trained:
        wrong = cid("nonsense", self.node.peer, trained.round)
        self.world.wrong_blobs.add(wrong)
        return fx.Trained(trained.round, wrong, trained.examples, trained.metrics)


@adversary
class Inventor(Rewriter):
    """Lists an update of every trainer that nobody has seen."""

    name = "invents updates"
    kind = Collected

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Collected)
        assert self.round is not None
        refs = tuple(UpdateRef(each, sha256(each.encode()).digest()) for each in sorted(self.round.head.cohort))
        return msgspec.structs.replace(record, updates=refs)


@adversary
class Replayer(Rewriter):
    """Sends all updates that it ever signed again and again, and lists of each trainer one that has entered before."""

    name = "replays updates"
    kind = Collected

    def begins(self) -> None:
        self.every(0.5, self._again)

    def _again(self) -> None:
        node = self.node
        mine = tuple(raw for raw in sorted(node.disk.signed) if isinstance(node.record(raw), Update))
        for peer in self.others() if mine else ():
            node.post(peer, Records(self.world.spec.hash, mine[-20:]))

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Collected)
        headers = [decode(Header, checkpoint.header) for checkpoint in self.node.disk.chain[-3:]]
        entered = {each.trainer: each.update for header in headers for each in header.inclusions}
        known = {ref.trainer: ref.update for ref in record.updates} | entered
        return msgspec.structs.replace(record, updates=tuple(UpdateRef(*pair) for pair in sorted(known.items())))


@adversary
class WrongBase(Rewriter):
    """Says of its updates that they start from another header than the round that they are for does."""

    name = "names another base"
    kind = Update

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Update)
        if record.round % 2:
            return msgspec.structs.replace(record, round=record.round + 1)
        parent = self.node.head.header.parent if self.node.head is not None else record.base
        return msgspec.structs.replace(record, base=parent)


@adversary
class Retainer(Adversary):
    """Keeps its updates for some rounds, and sends them all at once."""

    name = "holds updates back"

    def begins(self) -> None:
        self._kept: list[bytes] = []
        self.every(2.5, self._release)

    def _release(self) -> None:
        for peer in self.others() if self._kept else ():
            self.node.post(peer, Records(self.world.spec.hash, tuple(self._kept)))
        self._kept.clear()

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if not isinstance(message, Records):
            return (message,)
        peek = self.node.envelopes.peek
        mine = [raw for raw in message.items if (peek(raw).kind, peek(raw).signer) == ("update", self.node.peer)]
        self._kept += [raw for raw in mine if raw not in self._kept]
        rest = tuple(raw for raw in message.items if raw not in mine)
        return (Records(message.run, rest),) if rest else ()


@adversary
class TwoLists(Rewriter):
    """A full list before one side, an empty one before the other."""

    name = "equivocating list"
    kind = Collected

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Collected)
        return record if self.gang.side_of(peer) == 0 else msgspec.structs.replace(record, updates=())
