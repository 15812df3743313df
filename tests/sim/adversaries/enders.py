"""Liars who want a run to end, or never to end, and who would have others out or back in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from primep2p.core import effects as fx
from primep2p.model.ids import PeerId
from primep2p.model.messages import Abstained, OverlayMessage, Records
from primep2p.model.records import Collected, Leave, Metric
from primep2p.wire.codec import encode
from tests.sim.adversaries.base import Adversary, Gang, adversary
from tests.sim.adversaries.trainers import Rewriter

if TYPE_CHECKING:
    from tests.sim.node import SimNode

AGAIN_S = 0.5


@adversary
class Hurrier(Rewriter):
    """Says that time is over, from the beginning; and claims that it has learnt all there is to learn."""

    name = "ends runs"
    kind = Collected

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        return msgspec.structs.replace(record, over=True)

    def trains(self, trained: fx.Trained) -> fx.Trained:
        return fx.Trained(trained.round, trained.delta, trained.examples, (Metric("loss", -1e300),))


@adversary
class Delayer(Rewriter):
    """Says that time is not over, ever; and claims to learn nothing."""

    name = "never ends runs"
    kind = Collected

    def rewritten(self, peer: PeerId, record: msgspec.Struct) -> msgspec.Struct:
        return msgspec.structs.replace(record, over=False)

    def trains(self, trained: fx.Trained) -> fx.Trained:
        return fx.Trained(trained.round, trained.delta, trained.examples, (Metric("loss", 1e300),))


@adversary
class Evictor(Adversary):
    """Repeats every Join and Leave of others for ever, says Leaves in their name, and that they abstain."""

    name = "evicts others"

    def __init__(self, node: SimNode, gang: Gang) -> None:
        super().__init__(node, gang)
        self._heard: dict[bytes, None] = {}

    def begins(self) -> None:
        self.every(AGAIN_S, self._repeat)

    def hears(self, event: fx.Event) -> bool:
        match event:
            case fx.Received(_, Records(items=items)):
                self._heard |= dict.fromkeys(raw for raw in items if self._is_notice(raw))
        return True

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if self.round is None:
            return (message,)
        return (message, Abstained(message.run, self.round.round))

    def _is_notice(self, raw: bytes) -> bool:
        return self.node.envelopes.peek(raw).kind in ("join", "leave")

    def _repeat(self) -> None:
        round = self.round
        if round is None:
            return
        mine = self.node.envelopes.seal(Leave(round.head.run, max(1, round.head.round)))
        envelope = self.node.envelopes.peek(mine.raw).envelope
        others = self.others()
        forged = [encode(msgspec.structs.replace(envelope, signer=peer)) for peer in others]
        for peer in others:
            self.node.post(peer, Records(round.head.run, (*self._heard,)))
            for raw in forged:
                self.node.post(peer, Records(round.head.run, (raw,)))
