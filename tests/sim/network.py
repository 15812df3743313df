"""What lies between nodes: latency, loss, copies, partitions that heal, and the run's topic. Counts what it carries."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from primep2p.core import effects as fx
from primep2p.model.ids import PeerId
from primep2p.model.messages import OverlayMessage, Records
from primep2p.model.records import Vote
from tests.sim.scenario import Latency, Net

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.world import World

__all__ = ["Malice", "Network"]

CALM_S = 0.05
"""No message takes longer once the network has healed: well below every time-out of a vote step."""

OVERTAKEN_S = 0.5

NOTICED_S = 0.05
"""Until both ends know of a connection that came or went."""

TAIL = 1.2
"""The exponent of a heavy tail: its mean is finite, its variance is not."""

GOSSIP_HOPS = 4
"""A topic's message crosses so many links to reach everybody among a thousand nodes with six neighbours each."""


class Network:
    """One world's. Whatever it draws comes from one stream of chance."""

    def __init__(self, world: World, net: Net, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.latency = chance.choice(net.latency)
        self.loss = chance.choice(net.loss)
        self.duplicated = chance.choice(net.duplicated)
        self.reordered = chance.choice(net.reordered)
        self.skew = chance.choice(net.skew)
        self.malice = Malice(world) if net.malice else None
        self.calm = False
        self.carried: Counter[tuple[str, str]] = Counter()
        """Messages by the sender's role in the round, and by kind."""
        self.received: Counter[str] = Counter()
        """Messages that arrived, by the receiver's role; those of the topic apart."""
        self.published: Counter[str] = Counter()
        self._draw_s = _sampler(self.latency, chance)
        self._cuts: list[frozenset[int]] = []

    def __str__(self) -> str:
        parts = [f"{self.latency.kind} latency from {self.latency.least_s} s"]
        for name in ("loss", "duplicated", "reordered", "skew"):
            parts.append(f"{name} {getattr(self, name)}")
        return ", ".join(parts)

    # ---- messages

    def carry(self, sender: SimNode, peer: PeerId, message: OverlayMessage) -> None:
        """From one node towards another. Nobody promises that it arrives."""
        receiver = self.world.by_peer.get(peer)
        self.carried[sender.role, type(message).__name__] += 1
        self.world.tell_said(sender, receiver, message)
        if receiver is None:
            return
        receiver = receiver.facing(sender)
        if not receiver.up or not self.linked(sender, receiver):
            return
        self._deliver(sender, receiver, message)
        if self.duplicated and not self.calm and self.chance.random() < self.duplicated:
            self._deliver(sender, receiver, message)

    def publish(self, sender: SimNode, message: OverlayMessage) -> None:
        """On the run's topic: to everybody who can be reached, member or not."""
        self.published[type(message).__name__] += 1
        for receiver in self.world.nodes:
            if receiver is not sender and receiver.up and self.linked(sender, receiver):
                after_s = sum(self.latency_s() for _ in range(GOSSIP_HOPS))
                event = fx.Received(sender.peer, message)
                self.received["topic"] += 1
                self.world.heap.after(receiver, after_s, partial(receiver.handle, event))

    def latency_s(self) -> float:
        """Of one message."""
        return min(self._draw_s(), CALM_S) if self.calm else self._draw_s()

    def _deliver(self, sender: SimNode, receiver: SimNode, message: OverlayMessage) -> None:
        after_s = self.latency_s()
        if not self.calm:
            if self.loss and self.chance.random() < self.loss:
                return
            if self.reordered and self.chance.random() < self.reordered:
                after_s += self.chance.uniform(0, OVERTAKEN_S)
            if self.malice is not None:
                after_s += self.malice.delay_s(sender, receiver, message)
        self.received[receiver.role] += 1
        self.world.heap.after(receiver, after_s, partial(receiver.handle, fx.Received(sender.peer, message)))

    # ---- connections

    def linked(self, a: SimNode, b: SimNode) -> bool:
        """Whether no partition lies between them."""
        return all((a.index in cut) == (b.index in cut) for cut in self._cuts)

    def cut(self, some: frozenset[int]) -> None:
        """Part these nodes from all others."""
        self._change([*self._cuts, some])

    def mend(self, some: frozenset[int]) -> None:
        """The end of a cut."""
        self._change([cut for cut in self._cuts if cut is not some])

    def _change(self, cuts: list[frozenset[int]]) -> None:
        nodes = [node for node in self.world.everyone if node.up]
        before = [(a, b) for a in nodes for b in nodes if a is not b and self.linked(a, b)]
        self._cuts = cuts
        were = set(before)
        for a in nodes:
            for b in nodes:
                if a is b or (linked := self.linked(a, b)) == ((a, b) in were):
                    continue
                event = fx.Connected(b.peer) if linked else fx.Lost(b.peer)
                self.world.heap.after(a, NOTICED_S, partial(a.handle, event))

    def heal(self) -> None:
        """From now on all is well here."""
        self.calm = True
        if self._cuts:
            self._change([])


class Malice:
    """A network on the liars' side: in the first view of a round it lets one honest member, the favourite, decide
    alone. Its precommit comes late to all, its prevote to one other, who then knows of no valid header."""

    def __init__(self, world: World) -> None:
        self._world = world

    def favourite(self, round: int) -> SimNode:
        """Of a round."""
        return random.Random(f"malice/{self._world.seed}/{round}").choice(self._world.honest)

    def delay_s(self, sender: SimNode, receiver: SimNode, message: OverlayMessage) -> float:
        """What it adds to the latency."""
        if not isinstance(message, Records) or not sender.honest:
            return 0.0
        vote = sender.record(message.items[0])
        if not isinstance(vote, Vote) or vote.view > 0 or vote.round == 0 or sender is not self.favourite(vote.round):
            return 0.0
        others = [node for node in self._world.honest if node is not sender]
        deaf = random.Random(f"deaf/{self._world.seed}/{vote.round}").choice(others)
        late = vote.step == "precommit" or receiver is deaf
        return self._world.network.chance.uniform(0.5, 2.0) if late else 0.0


def _sampler(latency: Latency, chance: random.Random) -> Callable[[], float]:
    least_s, most_s = latency.least_s, latency.most_s
    match latency.kind:
        case "constant":
            return lambda: least_s
        case "uniform":
            return lambda: chance.uniform(least_s, most_s)
        case "heavy-tailed":
            return lambda: min(least_s * chance.paretovariate(TAIL), most_s)
