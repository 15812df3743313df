"""Liars who say too much."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import ClassVar

import msgspec

from primep2p.core import effects as fx
from primep2p.model.ids import PeerId
from primep2p.model.messages import Certified, Digest, OverlayMessage, Proposed, Records
from primep2p.model.records import Collected, Vote
from primep2p.wire.codec import encode
from tests.sim.adversaries.base import Adversary, adversary
from tests.sim.beginning import join_of

FLOOD_EVERY_S = 0.1
"""Often enough that a machine that kept all of it would be full within a round or two."""


class Flood(Adversary):
    """Sends more than its share, for as long as it lives; when it is expelled too."""

    def begins(self) -> None:
        self.every(FLOOD_EVERY_S, self._pour)

    def _pour(self) -> None:
        if self.node.running is None:
            return
        messages = list(self.flood())
        for peer in self.others():
            for message in messages:
                self.node.post(peer, message)

    def flood(self) -> Iterable[OverlayMessage]:
        """All that it thinks of this time."""
        raise NotImplementedError

    @property
    def due(self) -> int:
        """The round under way, as far as it knows."""
        return self.node.head.round + 1 if self.node.head is not None else 1

    def noise(self) -> bytes:
        """A hash of nothing."""
        return sha256(self.chance.randbytes(8)).digest()

    def vote(self, round: int, view: int) -> bytes:
        """For a header that nobody knows."""
        step = self.chance.choice(("prevote", "precommit"))
        return self.node.envelopes.seal(Vote(self.world.spec.hash, round, 0, view, step, self.noise())).raw  # type: ignore[arg-type]


@adversary
class VoteFlood(Flood):
    """Votes for headers that nobody knows, in every view that others may be in, and for rounds to come."""

    name = "floods votes"

    def flood(self) -> Iterable[OverlayMessage]:
        round, view = self.due, self.round.consensus.view if self.round is not None else 0
        votes = [self.vote(round, self.chance.randrange(view + 6)) for _ in range(12)]
        ahead = [self.vote(round + 1 + self.chance.randrange(2), self.chance.randrange(4)) for _ in range(4)]
        return [Records(self.world.spec.hash, tuple(votes))] + [Records(self.world.spec.hash, (raw,)) for raw in ahead]


@adversary
class JoinFlood(Flood):
    """Brings a crowd of strangers that ask to join, and lists that name what nobody has."""

    name = "floods joins"
    _crowd: ClassVar[int] = 8

    def flood(self) -> Iterable[OverlayMessage]:
        run, round = self.world.spec.hash, self.due
        joins = []
        for _ in range(self._crowd):
            stranger = self.world.stranger(self.chance.randbytes(8))
            joins.append(join_of(self.world, stranger, round - 1).raw)
        notices = tuple(sorted(self.noise() for _ in range(16)))
        listed = self.node.envelopes.seal(Collected(run, round, (), notices)).raw
        return [Records(run, tuple(joins)), Records(run, (listed,)), Digest(run, round, ())]


@adversary
class FarViews(Flood):
    """Claims to be in views that nobody will ever see."""

    name = "jumps to far views"

    def flood(self) -> Iterable[OverlayMessage]:
        view = self.chance.choice((3, 9, 1000, 2**31))
        return [Records(self.world.spec.hash, (self.vote(self.due, view),))]


@adversary
class FarRounds(Flood):
    """Claims to be rounds ahead, and has no chain to show."""

    name = "jumps to far rounds"

    def flood(self) -> Iterable[OverlayMessage]:
        run, round = self.world.spec.hash, self.due
        return [Digest(run, round + 7, ()), Records(run, (self.vote(round + 1000, 0),))]


@adversary
class Replayer(Flood):
    """Says again what others said, of this round and of old ones, and shows old checkpoints as new."""

    name = "replays old rounds"
    _kept: ClassVar[int] = 400

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._heard: list[OverlayMessage] = []

    def hears(self, event: fx.Event) -> bool:
        if (
            isinstance(event, fx.Received)
            and isinstance(event.message, Records | Proposed)
            and len(self._heard) < self._kept
        ):
            self._heard.append(event.message)
        return True

    def flood(self) -> Iterable[OverlayMessage]:
        old = [self.chance.choice(self._heard) for _ in range(4)] if self._heard else []
        chain = self.node.disk.chain
        return [*old, Certified(self.world.spec.hash, self.chance.choice(chain))]


@adversary
class Babbler(Flood):
    """Bytes that are no records, and records under names that did not sign them."""

    name = "babbles"

    def flood(self) -> Iterable[OverlayMessage]:
        mine = self.node.envelopes.peek(self.vote(self.due, 0))
        stolen: list[PeerId] = self.others()[:2]
        forged = tuple(encode(msgspec.structs.replace(mine.envelope, signer=peer)) for peer in stolen)
        run = self.world.spec.hash
        return [Records(run, (self.chance.randbytes(40),)), *(Records(run, (raw,)) for raw in forged)]
