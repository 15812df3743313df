"""A world: nodes on one event heap, a network between them, and what happens to both."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from primep2p.core import effects as fx
from primep2p.model.ids import Cid, PeerId
from primep2p.model.messages import OverlayMessage, Records
from primep2p.model.records import Join
from primep2p.wire.envelope import Opened
from tests.sim import perturbations
from tests.sim.adversaries import KINDS, Adversary, Gang
from tests.sim.beginning import begin, join_now, spec_of
from tests.sim.heap import Heap
from tests.sim.invariants import Broken, Invariants
from tests.sim.keys import RINGS, Shelf, SimEnvelopes
from tests.sim.memo import LARGE, shared
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.scenario import Scenario
from tests.sim.trace import Printer, said

__all__ = ["Told", "World"]

RESTART_S = (0.05, 3.0)
"""How long a node is away that died at a write."""

JOIN_EVERY_S = 1.0


@dataclass
class Told:
    """What a finished world has to say."""

    rounds: int = 0
    certificates: int = 0
    voids: int = 0
    updates: int = 0
    """That entered checkpoints."""
    stale: int = 0
    """Of them those from an earlier head."""
    steps: int = 0
    signed: int = 0
    verified: int = 0
    held: int = 0
    seconds: float = 0.0
    views: Counter[int] = field(default_factory=Counter)
    """Rounds by the views that their decision took."""
    healed: int = 0
    """The most views until a decision after the network had healed."""
    equivocations: int = 0
    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Sent, by the sender's role and by kind."""
    received: Counter[str] = field(default_factory=Counter)
    """By the receiver's role."""
    published: Counter[str] = field(default_factory=Counter)
    """By kind."""
    turns: Counter[str] = field(default_factory=Counter)
    """Rounds of nodes, by the role that they had in it."""


class World:
    """All of it follows from the scenario and the seed."""

    network_name = "sim"

    def __init__(self, scenario: Scenario, seed: int, *, keys: str = "", teller: Printer | None = None) -> None:
        self.scenario = scenario
        self.seed = seed
        self.chance = random.Random(f"world/{seed}")
        self.heap = Heap(f"heap/{seed}")
        self.ring = RINGS[keys or scenario.keys]()
        self.shelf = Shelf()
        self.teller = teller
        self.told = Told()
        self.wrong_blobs: set[Cid] = set()
        """Deltas that are not of the run's schema."""
        self.strangers: set[PeerId] = set()
        """Peers without a node."""
        self.accusations: list[tuple[SimNode, PeerId, str, bool]] = []
        self.last_certified = 0
        self.invariants = Invariants(self)
        self.gang = Gang(self)
        self.members = self.chance.choice(scenario.nodes)
        self.nodes = [SimNode(self, index) for index in range(self.members + scenario.joiners)]
        self.everyone = list(self.nodes)
        """With those that have another's key."""
        self.by_peer = {node.peer: node for node in self.nodes}
        self.peers = tuple(self.by_peer)
        self.network = Network(self, scenario.network, self.chance)
        self.crash_at_write = self.chance.choice(scenario.crash_at_write)
        self._views_at_healing: dict[int, int] = {}
        self._behind: set[int] = set()
        """Honest nodes without the last checkpoint."""
        self._draw_clocks()
        self.spec = spec_of(self)
        self._draw_liars()

    # ---- what the seed draws

    def _draw_clocks(self) -> None:
        skew = self.network.skew
        for node in self.nodes:
            node.rate = skew ** self.chance.uniform(-1, 1)

    def _draw_liars(self) -> None:
        """Creators may lie too. All have the same plan, or each its own."""
        liars = self.scenario.liars
        names = list(liars.kinds or KINDS)
        count, each = self.chance.choice(liars.count), self.chance.choice(liars.each)
        chosen = self.chance.sample(self.nodes[: self.members], count)
        plan = self.chance.sample(names, min(each, len(names)))
        alike = self.chance.random() < liars.alike
        for node in chosen:
            kinds = plan if alike else self.chance.sample(names, min(each, len(names)))
            node.adversaries = [KINDS[name](node, self.gang) for name in kinds]

    @property
    def honest(self) -> list[SimNode]:
        """Who follows the rules."""
        return [node for node in self.nodes if node.honest]

    def describe(self) -> str:
        """The world in one line."""
        lies = [f"{node.index} {', '.join(a.name for a in node.adversaries)}" for node in self.gang.nodes]
        return f"{self.members} nodes, {self.network}; liars: {'; '.join(lies) or 'none'}"

    # ---- what happens

    def run(self) -> Told:
        """Until every honest node has finished. Raises Broken where something does not hold, or nothing goes on."""
        with shared() if self.ring.shares and self.members > LARGE else nullcontext():
            return self._run()

    def _run(self) -> Told:
        scenario = self.scenario
        self._behind = {node.index for node in self.honest}
        begin(self)
        for joiner in self.nodes[self.members :]:
            self.heap.at(self.chance.uniform(0.3, 3.0), lambda node=joiner: self._join(node))
        self._plan_ends()
        perturbations.plan(self)
        self.heap.at(scenario.heals_s, self._heal)
        while not self.finished() and (owner := self.heap.step(scenario.limit_s)) is not None:
            if isinstance(owner, SimNode):
                self.invariants.after_step(owner)
        if not self.finished():
            heads = [node.head.round if node.head else None for node in self.nodes]
            raise Broken(f"no progress: at {self.heap.now:.0f} s the nodes' heads are {heads}")
        return self._tell_all()

    def _plan_ends(self) -> None:
        """Clocks that are over, and who leaves when."""
        scenario = self.scenario
        if scenario.over_s:
            for node in self.nodes:
                self.heap.at(scenario.over_s * self.chance.uniform(0.9, 1.1), lambda node=node: self._time_up(node))
        for turn, leaver in enumerate(self.chance.sample(self.honest, scenario.leavers)):
            self.heap.at(self.chance.uniform(0.2, 4.0), lambda node=leaver, turn=turn: self._leave(node, turn % 2 == 1))

    def _time_up(self, node: SimNode) -> None:
        node.time_is_up = True
        if node.running is not None:
            node.handle(fx.TimeUp())

    def _leave(self, node: SimNode, comes_back: bool) -> None:
        is_member = node.head is not None and node.peer in node.head.members
        if is_member and not node.wants_out:
            node.leave()
        if is_member or not node.wants_out:
            self.heap.at(self.heap.now + JOIN_EVERY_S, lambda: self._leave(node, comes_back))
        elif comes_back:
            self.heap.at(self.heap.now + JOIN_EVERY_S, lambda: self._come_back(node))
        else:
            self._behind.discard(node.index)

    def _come_back(self, node: SimNode) -> None:
        node.wants_out = False
        self._join(node)

    def finished(self) -> bool:
        """Every honest node has the last checkpoint."""
        return not self._behind

    def crash(self, node: SimNode, *, for_s: float | None = None) -> None:
        """A node dies, and comes back after a while."""
        if node.up:
            node.crash()
            away_s = self.chance.uniform(*RESTART_S) if for_s is None else for_s
            self.heap.at(self.heap.now + away_s, lambda: node.up or self.restart(node))

    def restart(self, node: SimNode) -> None:
        """With what is on its disk."""
        self.tell(node, "starts again")
        node.start()

    def dies_at_write(self, node: SimNode) -> Literal["", "before", "after"]:
        """Whether a write to the journal is a node's last act, or its last intention."""
        if not self.crash_at_write or not node.honest or self.network.calm:
            return ""
        if self.chance.random() >= self.crash_at_write:
            return ""
        return self.chance.choice(("before", "after"))

    def _heal(self) -> None:
        self.network.heal()
        for node in self.honest:
            if node.running is not None and node.running.round is not None:
                round = node.running.round
                before = self._views_at_healing.get(round.round, 0)
                self._views_at_healing[round.round] = max(before, round.consensus.view)
        self.tell(None, "the network has healed")

    def _join(self, node: SimNode) -> None:
        """Somebody who has followed the run from its beginning asks to be a member, until it is."""

        def ask() -> None:
            run = node.running
            if run is None or run.round is not None or run.finished or node.wants_out:
                return
            join = join_now(self, node)
            for member in sorted(self.by_peer):
                if member != node.peer:
                    node.post(member, Records(self.spec.hash, (join.raw,)))
            self.heap.after(node, JOIN_EVERY_S, ask)

        ask()

    def join_of(self, node: SimNode) -> Opened[Join]:
        """What a node says that wants to be there from the beginning."""
        return join_now(self, node)

    def add_twin(self, node: SimNode) -> None:
        """Another node with the same key, which begins where that one is."""
        assert node.head is not None
        twin = SimNode(self, node.index)
        twin.adversaries = [Adversary(twin, self.gang)]
        twin.rate = node.rate
        twin.disk.blobs.update(node.disk.blobs)
        node.twin = twin
        self.everyone.append(twin)
        twin.start_at(node.head)

    def stranger(self, seed: bytes) -> SimEnvelopes:
        """Somebody without a node."""
        envelopes = SimEnvelopes(
            self.network_name, self.ring.make(sha256(seed).digest()), self.ring, self.shelf, lambda opened: None
        )
        self.strangers.add(envelopes.peer_id)
        return envelopes

    # ---- what nodes report

    @property
    def views(self) -> int:
        """Once the network has healed, an honest member decides within so many views: of n - q + 1 proposers in a row
        one is neither silent nor a liar; the first of them may not know yet of a value that somebody is locked on, and
        learns of it while it waits; clocks and time-outs take another view to meet."""
        if self.scenario.views:
            return self.scenario.views
        committee = next(iter(self.invariants.heads.values())).committee
        return 2 * committee.k + 1

    def on_commit(self, node: SimNode, effect: fx.Commit) -> None:
        """A node has a new head."""
        self.invariants.on_commit(node, effect.head)
        if node.honest:
            self.last_certified = max(self.last_certified, effect.head.round)
            if effect.head.is_last:
                self._behind.discard(node.index)
            self._count_views(node, effect)
        header = effect.head.header
        void = f", void: {header.void}" if header.void else f", {len(header.inclusions)} updates"
        self.tell(node, f"commits round {header.round} in view {effect.view}: {effect.head.hash.hex()[:8]}{void}")

    def _count_views(self, node: SimNode, effect: fx.Commit) -> None:
        round = effect.head.round
        if effect.view < 0 or round == 0:
            return
        self.told.views[effect.view + 1] += 1
        if not self.network.calm:
            return
        used = effect.view + 1 - self._views_at_healing.get(round, 0)
        self.told.healed = max(self.told.healed, used)
        if used > self.views:
            raise Broken(f"{node} needed {used} views for round {round} after the network had healed")

    def on_accused(self, node: SimNode, effect: fx.Accuse) -> None:
        """A node found somebody at fault."""
        self.accusations.append((node, effect.peer, effect.reason, effect.evidence is not None))
        if node.honest and effect.evidence is not None:
            self.told.equivocations += 1
        if self.teller is not None:
            peer = self.by_peer.get(effect.peer)
            self.tell(node, f"accuses {peer or effect.peer[-6:]}: {effect.reason}")

    def tell(self, node: SimNode | None, what: str) -> None:
        """For the trace."""
        if self.teller is not None:
            lies = "" if node is None or node.honest else "*"
            self.teller(self.heap.now, "world" if node is None else f"{node.index}{lies}", what)

    def tell_said(self, sender: SimNode, receiver: SimNode | None, message: OverlayMessage) -> None:
        """For a trace of all messages."""
        if self.teller is not None and self.teller.messages:
            self.tell(sender, f"-> {receiver.index if receiver is not None else '?'}: {said(sender, message)}")

    def _tell_all(self) -> Told:
        told = self.told
        told.rounds = self.last_certified
        told.certificates = len(self.invariants.certificates) - 1
        told.voids = sum(bool(head.header.void) for head in self.invariants.heads.values())
        entered = [i for head in self.invariants.heads.values() if not head.header.void for i in head.header.inclusions]
        told.updates, told.stale = len(entered), sum(inclusion.staleness > 0 for inclusion in entered)
        told.steps, told.seconds = self.heap.steps, self.heap.now
        told.signed, told.verified = self.ring.signed, self.ring.verified
        told.held = self.invariants.most_held
        network = self.network
        told.messages, told.received, told.published = network.carried, network.received, network.published
        return told
