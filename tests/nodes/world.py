"""Whole nodes in one process under a virtual clock: real services, stores and kernels, a network in memory.

What must hold is checked at every commit and at every accusation, on each node. One seed makes one history, as far as
the order of tasks goes: trio's own dice are seeded too, since its plugin for hypothesis makes them the only chance.
"""

import gc
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import hypothesis  # noqa: F401  its plugin for trio makes the order of tasks follow from the dice below
import structlog
import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from primep2p.config import ComputeSection, NodeConfig, NodeSection, PlansSection, TrainWhenSection
from primep2p.core.chain import header_hash
from primep2p.core.roster import peers_of
from primep2p.keys import backup_path
from primep2p.model.errors import Unavailable
from primep2p.model.ids import Cid, Hash, PeerId, RunId
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import KERNELS_DIGEST, Header, RoundPolicy, RunState
from primep2p.model.views.runs import RunSummary
from primep2p.net.memory_host import MemoryNetwork
from primep2p.node import Node
from primep2p.run_config import RunConfig, StopConfig
from primep2p.services.aggregating.backends import Checked, OneThread, check
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.resting import Machine
from primep2p.store.db import open_store
from primep2p.store.seam import RunStore, StoredCheckpoint
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode
from tests.nodes.trainers import SimTrainers
from tests.sim.keys import FakeRing, Shelf, SimEnvelopes

NETWORK = "sim"

PLAIN = Pipeline()
NEVER = StopConfig()
OWNER_AGAIN_S = 1.0

BEGAN_S = 1_000_000_000.0
"""By everybody's clock, at the virtual time 0."""

GARBAGE = (100_000, 50, 1000)
"""Thresholds of the collector: a hundred nodes are so many objects that looking through all of them as often as it is
wont to took a third of the time."""

BOOTSTRAPS = 3
"""The first so many nodes are those that every other one looks for at its start."""

T = TypeVar("T")


class Broken(AssertionError):
    """Something that must always hold does not."""


@dataclass(frozen=True)
class Scenario:
    """What a world is like."""

    seed: int
    nodes: int
    policy: RoundPolicy
    pipeline: Pipeline = PLAIN
    latency_s: float = 0.02
    tick_s: float = 0.0
    """See `MemoryNetwork`."""
    gossip_loss: float = 0.0
    stop: StopConfig = NEVER
    train_s: tuple[float, float] = (0.5, 1.0)
    slow: float = 1.0
    """The last node's trainings take so many times as long."""


async def inline(function: Callable[..., T], /, *arguments: Any) -> T:
    """Where time is virtual, what blocks takes none of it."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """The collector of garbage as a large world needs it."""
    before = gc.get_threshold()
    gc.set_threshold(*GARBAGE)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def simulate(scenario: Scenario, root: Path, story: "Callable[[World], Awaitable[None]]") -> "World":
    """The world after `story`, in which it must not break."""
    trio_run._r.seed(scenario.seed)
    world = World(scenario, root)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world.nursery = nursery
            await story(world)
            nursery.cancel_scope.cancel()

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with rarely_collecting():
            trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        structlog.configure(**before)
        if world.faults:
            raise Broken(f"seed {scenario.seed}: " + "; ".join(world.faults[:5]))
    return world


class World:
    """The nodes, the network between them, and all that they certified."""

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self.scenario = scenario
        self.chance = Random(f"world/{scenario.seed}")
        self.network = MemoryNetwork(
            scenario.seed, latency_s=scenario.latency_s, tick_s=scenario.tick_s, gossip_loss=scenario.gossip_loss
        )
        self.root = root
        self.faults: list[str] = []
        self.certified: dict[tuple[RunId, int], Hash] = {}
        self.trainers: dict[int, frozenset[PeerId]] = {}
        """Whose updates are in each round's checkpoint."""
        self.ages: dict[PeerId, list[int]] = {}
        """The staleness of each update of a trainer that entered."""
        self.optimisers: list[Cid | None] = []
        """The state that each checkpoint names."""
        self.run = ""
        self.ring, self.shelf = FakeRing(), Shelf()
        self.nursery: trio.Nursery
        self._moved = trio.lowlevel.ParkingLot()
        self.nodes = [SimNode(self, index) for index in range(scenario.nodes)]

    @property
    def up(self) -> "list[SimNode]":
        """Nodes that run now."""
        return [node for node in self.nodes if node.node is not None]

    def grow(self) -> "SimNode":
        """One node more, which has not started."""
        self.nodes.append(SimNode(self, len(self.nodes)))
        return self.nodes[-1]

    # ---- the story

    async def found(self, creator: "SimNode", others: "Iterable[SimNode]", *, settled: bool = True) -> None:
        """Start these nodes, and a run of them."""
        await creator.start()
        self.run = (
            await creator.alive.create_run(
                RunConfig(
                    name="sim",
                    trainer="sim",
                    policy=self.scenario.policy,
                    pipeline=self.scenario.pipeline,
                    stop=self.scenario.stop,
                )
            )
        ).run
        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(self.enter, other)
        if settled:
            await self.until_round(0, [creator, *others])

    async def enter(self, node: "SimNode") -> None:
        """Start a node within a second, and let it join."""
        await trio.sleep(self.chance.random())
        await node.start()
        await node.join()

    async def until_round(self, round: int, nodes: "Iterable[SimNode]", *, within_s: float = 300.0) -> None:
        """Each of these has a head of `round` or later. Broken where that takes too long."""
        awaited = list(nodes)
        await self.until(
            lambda: all(node.round >= round for node in awaited),
            within_s,
            lambda: f"not at round {round}: " + ", ".join(f"{n.index}: {n.round}" for n in awaited if n.round < round),
        )

    async def until_any_round(self, round: int, *, within_s: float = 300.0) -> None:
        """Some node has a head of `round` or later."""
        await self.until(
            lambda: any(node.round >= round for node in self.nodes), within_s, lambda: f"nobody is at round {round}"
        )

    async def until(self, holds: Callable[[], bool], within_s: float, failure: Callable[[], str]) -> None:
        """Looks again whenever a node commits something."""
        with trio.move_on_after(within_s) as scope:
            while not holds():
                self.stop_if_broken()
                await self._moved.park()
        if scope.cancelled_caught:
            raise Broken(f"seed {self.scenario.seed}: after {within_s:g} s {failure()}")

    def stop_if_broken(self) -> None:
        if self.faults:
            raise Broken(self.faults[0])

    def part(self, some: "Iterable[SimNode]") -> None:
        """These nodes and all others cannot reach each other until the network heals."""
        few = {node.peer for node in some}
        self.network.partition(few, {node.peer for node in self.nodes} - few)

    # ---- what must always hold

    def on_commit(self, node: "SimNode", run: RunId, round: int, stored: StoredCheckpoint) -> None:
        """One model a round."""
        hash_ = header_hash(stored.checkpoint.header)
        if (run, round) not in self.certified:
            self.certified[run, round] = hash_
            header = decode(Header, stored.checkpoint.header)
            self.optimisers.append(header.optimiser)
            self.trainers[round] = frozenset(inclusion.trainer for inclusion in header.inclusions)
            for inclusion in header.inclusions:
                self.ages.setdefault(inclusion.trainer, []).append(inclusion.staleness)
        elif self.certified[run, round] != hash_:
            self.faults.append(f"node {node.index} has another checkpoint {round} than others")
        node.certified[round] = hash_
        node.round = max(node.round, round)
        node.members = peers_of(decode(RunState, stored.state))
        self._moved.unpark_all()

    def on_accused(self, node: "SimNode", peer: PeerId, reason: str) -> None:
        """Everybody here is honest."""
        accused = next(other.index for other in self.nodes if other.peer == peer)
        self.faults.append(f"node {node.index} accuses node {accused}: {reason}")
        self._moved.unpark_all()


class SimNode:
    """A node through all its lives: its identity and its home stay."""

    def __init__(self, world: World, index: int) -> None:
        seed = sha256(f"{world.scenario.seed}/{index}".encode()).digest()
        self.world = world
        self.index = index
        self.signer = world.ring.make(seed)
        self.peer = self.signer.peer_id
        self.home = world.root / f"node{index}"
        self.node: Node | None = None
        self.round = -1
        """Of the newest checkpoint that it has stored, in any of its lives."""
        self.trust: tuple[PeerId, ...] = ()
        """Owners whose plans it runs."""
        self.train_when = TrainWhenSection()
        self.machine: Machine = LocalMachine()
        self.kernels = KERNELS_DIGEST
        """What its machine makes of fixed vectors."""
        self._entropy = Random(f"entropy/{world.scenario.seed}/{index}")
        self.certified: dict[int, Hash] = {}
        """What it has stored, by round."""
        self.members: frozenset[PeerId] = frozenset()
        """The roster after it."""
        self._scope = trio.CancelScope()
        self._gone = trio.Event()

    @property
    def alive(self) -> Node:
        assert self.node is not None, f"node {self.index} does not run"
        return self.node

    def summary(self) -> RunSummary:
        """Its run now."""
        return self.alive.runs()[0]

    async def start(self) -> None:
        """Returns when it runs."""
        await self.world.nursery.start(self._live)

    async def stop(self) -> None:
        """At once, wherever it is: what is stored is stored, nothing else is finished."""
        self._scope.cancel()
        await self._gone.wait()

    async def join(self, pin: tuple[int, bytes] | None = None) -> None:
        """Take part in the run of this world. Its owner asks again and again, until somebody knows the run."""
        while True:
            try:
                await self.alive.join_run(self.world.run, pin)
            except Unavailable:
                await trio.sleep(OWNER_AGAIN_S)
            else:
                return

    def rotate(self) -> PeerId:
        """Another identity in its home, as `primep2p keys rotate` leaves it; gives the old one."""
        former = backup_path(self.home / "identity.key", self.peer)
        former.parent.mkdir(exist_ok=True)
        former.touch()
        self.signer = self.world.ring.make(sha256(f"rotated/{self.peer}".encode()).digest())
        old, self.peer = self.peer, self.signer.peer_id
        return old

    @property
    def _train_s(self) -> tuple[float, float]:
        scenario = self.world.scenario
        times = scenario.slow if self.index == scenario.nodes - 1 else 1.0
        return times * scenario.train_s[0], times * scenario.train_s[1]

    def _check(self, name: str, thread: OneThread) -> Checked:
        """What the node is said to compute, which the test decides."""
        return replace(check(name, thread), digest=self.kernels)

    async def _live(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        bootstrap = tuple(node.peer for node in self.world.nodes[:BOOTSTRAPS] if node is not self)
        self._scope, self._gone = trio.CancelScope(), trio.Event()
        try:
            with self._scope, closing(open_store(self.home, fsync=False)) as store:
                node = Node(
                    NodeConfig(
                        node=NodeSection(home=str(self.home), network=NETWORK),
                        train_when=self.train_when,
                        compute=ComputeSection(backend="numpy", compiled=False),
                        plans=PlansSection(trust=self.trust),
                    ),
                    SimEnvelopes(NETWORK, self.signer, self.world.ring, self.world.shelf, lambda opened: None),
                    host=self.world.network.host(self.peer, bootstrap),
                    blobs=store.blobs,
                    runs=Watched(store.runs, self),  # type: ignore[arg-type]  # what is not watched is passed on
                    shelf=store.shelf,
                    trainers=SimTrainers(self.home / "trainers", self._train_s),
                    offload=inline,
                    entropy=self._entropy.randbytes,
                    unix_time=lambda: BEGAN_S + trio.current_time(),
                    machine=self.machine,
                    check=self._check,
                )
                async with trio.open_nursery() as nursery:
                    await nursery.start(node.run)
                    self.node = node
                    task_status.started()
        finally:
            self.node = None
            self._gone.set()


class Watched:
    """A store of runs whose commits and accusations the world sees."""

    def __init__(self, runs: RunStore, node: SimNode) -> None:
        self._runs = runs
        self._node = node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)

    def commit(self, run: RunId, round: int, stored: StoredCheckpoint) -> None:
        self._runs.commit(run, round, stored)
        self._node.world.on_commit(self._node, run, round, stored)

    def accuse(self, peer: PeerId, reason: str, evidence: bytes | None, *, run: RunId | None) -> None:
        self._runs.accuse(peer, reason, evidence, run=run)
        self._node.world.on_accused(self._node, peer, reason)
