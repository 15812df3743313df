"""Liars who train, list and serve."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from primep2p.core import effects as fx
from primep2p.model.ids import Cid, PeerId
from primep2p.model.messages import OverlayMessage, Records
from primep2p.model.records import Collected, Update, UpdateRef
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
class TwoLists(Rewriter):
    """A full list before one side, an empty one before the other."""

    name = "equivocating list"
    kind = Collected

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        assert isinstance(record, Collected)
        return record if self.gang.side_of(peer) == 0 else msgspec.structs.replace(record, updates=())
