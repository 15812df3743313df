"""What a liar may do differently, and how liars of one world work together."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from primep2p.core import effects as fx
from primep2p.core.rounds import Round
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.messages import OverlayMessage

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World

__all__ = ["KINDS", "Adversary", "Gang", "adversary"]

KINDS: dict[str, type[Adversary]] = {}
"""By the name that scenarios use."""


def adversary(kind: type[Adversary]) -> type[Adversary]:
    """Have scenarios find a kind of liar."""
    if kind.name in KINDS:
        raise ValueError(f"two kinds of liars are called {kind.name}")
    KINDS[kind.name] = kind
    return kind


class Adversary:
    """A node with a real machine around which it lies. Honest in what a kind does not override."""

    name: ClassVar[str] = ""

    def __init__(self, node: SimNode, gang: Gang) -> None:
        self.node = node
        self.gang = gang
        self.world = node.world
        self.chance = random.Random(f"liar/{node.world.seed}/{node.index}/{self.name}")

    def begins(self) -> None:
        """The node has started, or started again."""

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        """What one peer hears in place of a message of the machine's."""
        return (message,)

    def publishes(self, message: OverlayMessage) -> bool:
        """Whether everybody hears what its machine has for everybody."""
        return True

    def hears(self, event: fx.Event) -> bool:
        """Something happened; whether the machine may know."""
        return True

    def serves(self, asker: SimNode, blob: Cid) -> bool:
        """Whether it gives a blob that it has."""
        return True

    def recalls(self, peer: PeerId, items: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What it says that it holds of somebody's own records."""
        return items

    def trains(self, trained: fx.Trained) -> fx.Trained:
        """What its trainer made."""
        return trained

    # ---- for all kinds

    @property
    def round(self) -> Round | None:
        """The round under way in its machine."""
        return self.node.running.round if self.node.running is not None else None

    def every(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it again and again while this life lasts."""

        def again() -> None:
            what()
            self.world.heap.after(self.node, seconds, again)

        self.world.heap.after(self.node, seconds, again)

    def others(self) -> list[PeerId]:
        """Everybody else."""
        return [node.peer for node in self.world.nodes if node.peer != self.node.peer]


class Gang:
    """The liars of one world: what they know of each other, and what they have agreed on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sides: dict[int, dict[int, int]] = {}
        self.headers: dict[tuple[int, int], tuple[Hash, Hash]] = {}
        """By round and view: what side 0 was told, and side 1."""

    @property
    def nodes(self) -> list[SimNode]:
        """The liars."""
        return [node for node in self._world.nodes if not node.honest]

    @property
    def round(self) -> int:
        """The last that is certified anywhere."""
        return self._world.last_certified

    def side(self, node: SimNode) -> int:
        """Which of two stories a node hears in this round: the honest in two halves, the larger one first."""
        sides = self._sides.get(self.round)
        if sides is None:
            honest = [other.index for other in self._world.nodes if other.honest]
            random.Random(f"sides/{self._world.seed}/{self.round}").shuffle(honest)
            first = honest[: (len(honest) + 1) // 2]
            sides = self._sides[self.round] = {index: 0 if index in first else 1 for index in honest}
        return sides.get(node.index, node.index % 2)

    def side_of(self, peer: PeerId) -> int:
        """The same, by peer."""
        return self.side(self._world.by_peer[peer])

    def target(self) -> PeerId:
        """The honest member that is to be left out in this round."""
        return random.Random(f"target/{self._world.seed}/{self.round}").choice(self._world.honest).peer

    def header_for(self, round: int, view: int, peer: PeerId) -> Hash | None:
        """What they agreed to vote for before one peer."""
        told = self.headers.get((round, view))
        return told[self.side_of(peer)] if told is not None else None
