"""Real machines of a run on one event heap, with seeded latency, loss, crashes and liars; invariants after every step.

Trainers, aggregation and blobs are stand-ins that cost virtual time; records, signatures, journal and votes are real.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash
from primep2p.core.genesis import Gathering
from primep2p.core.runs import Run
from primep2p.core.votes import slot_of
from primep2p.keys import Identity
from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.journal import JournalEntry, Moved, Signed
from primep2p.model.messages import Proposed, Records
from primep2p.model.records import (
    Admission,
    Checkpoint,
    Collected,
    Header,
    Join,
    Metric,
    Pipeline,
    Proposal,
    RoundPolicy,
    RunSpec,
    TensorSpec,
    UpdateRef,
    Vote,
)
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes, Opened
from tests.core.kit import KERNELS, cid

NETWORK = "sim"


@dataclass
class Scenario:
    """What a world is made of. Probabilities are of each message; times are virtual seconds."""

    seed: int
    nodes: int = 4
    rounds: int = 4
    loss: float = 0.0
    latency_s: tuple[float, float] = (0.002, 0.05)
    train_s: tuple[float, float] = (0.05, 0.5)
    crashes: int = 0
    liars: dict[int, str] = field(default_factory=dict)
    hostile: bool = False
    """The network itself is against agreement: see `World.malice_s`."""
    partitions: int = 0
    partition_s: tuple[float, float] = (1.0, 8.0)
    forget_journal: bool = False
    limit_s: float = 600.0
    policy: RoundPolicy | None = None


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Certified:
    """What an honest node committed."""

    header: Header
    hash: Hash


class SimNode:
    """One member: its machine, its disk, its place in the world."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.identity = Identity(sha256(f"{world.scenario.seed}/{index}".encode()).digest())
        self.peer: PeerId = self.identity.peer_id
        self.envelopes = Envelopes(NETWORK, self.identity)
        self.machine: Gathering | Run | None = None
        self.journal: dict[int, list[JournalEntry]] = {}
        self.chain: list[Checkpoint] = []
        self.head: Head | None = None
        self.blobs: set[Cid] = set()
        self.up = True
        self.lives = 0
        self.trainings = 0
        self.lie = world.scenario.liars.get(index, "")
        self.adversary = random.Random(f"adversary/{world.scenario.seed}/{index}")

    # ---- life

    def start(self) -> None:
        self.up = True
        self.lives += 1
        if self.head is None:
            machine = Gathering(self.world.spec, self.world.joins[self.peer], self.envelopes)
            self.machine = machine
            self.perform(machine.begin(self.journal.get(0, [])))
        else:
            self._run(self.journal.get(self.head.round + 1, []), self._foreign())
        for other in self.world.nodes:
            if other.up and other is not self:
                self.world.later(self, lambda o=other: self.handle(fx.Connected(o.peer)), 0.01)
                self.world.later(other, lambda o=other: o.handle(fx.Connected(self.peer)), 0.01)

    def _foreign(self) -> list[bytes]:
        """This node's own records of the round that others hold, as it would ask for after a start."""
        found = []
        for other in self.world.nodes:
            run = other.machine
            if other.lie:
                found += [b"junk", other.envelopes.seal(Join(self.world.spec.hash, 1, (), KERNELS)).raw]
            if other is self or not isinstance(run, Run) or run.round is None or self.head is None:
                continue
            if run.round.round == self.head.round + 1:
                found += [opened.raw for opened in run.round.records.by(self.peer)]
        return found

    def _run(self, entries: list[JournalEntry], foreign: list[bytes]) -> None:
        assert self.head is not None
        run = Run(self.head, self.envelopes)
        self.machine = run
        self.perform(run.begin(self.world.now, entries=entries, foreign=foreign))

    def crash(self) -> None:
        self.up = False
        self.machine = None
        if self.world.scenario.forget_journal:
            self.journal.clear()
        for other in self.world.nodes:
            if other.up and other is not self:
                self.world.later(other, lambda o=other: o.handle(fx.Lost(self.peer)), 0.02)

    def handle(self, event: fx.Event) -> None:
        if self.lie == "tells two stories":
            self._tell_two_stories(event)
        match self.machine:
            case Gathering() as machine:
                self.perform(machine.handle(event))
                if machine.head is not None:
                    self._run([], [])
                    for other in self.world.nodes:
                        if other.up and other is not self:
                            self.handle(fx.Connected(other.peer))
            case Run() as machine:
                self.perform(machine.handle(event, self.world.now))

    def _tell_two_stories(self, event: fx.Event) -> None:
        """In the first view, vote for the header to the favourite and for nil to all others; later for everything."""
        match event:
            case fx.Received(_, Proposed(run=run, proposal=raw)):
                proposal = self.envelopes.open(Proposal, raw).record
                if proposal.round == 0:
                    return
                favourite = self.world.favourite(proposal.round).peer
                for peer in self.world.peers:
                    header = proposal.header if proposal.view > 0 or peer == favourite else b""
                    for step in ("prevote", "precommit"):
                        vote = Vote(run, proposal.round, 0, proposal.view, step, header)
                        self.world.carry(self, peer, Records(run, (self.envelopes.seal(vote).raw,)))
            case _:
                pass

    # ---- effects

    def perform(self, effects: list[fx.Effect]) -> None:
        world = self.world
        for effect in effects:
            if not self.up:
                return
            match effect:
                case fx.Journal(round, entry):
                    self.journal.setdefault(round, []).append(entry)
                    world.on_journal(self, entry)
                    if world.crash_points and world.chance.random() < world.crash_points:
                        world.crash(self)
                        return
                case fx.Broadcast(message):
                    for peer in world.peers:
                        if peer != self.peer:
                            self._send(peer, message)
                case fx.Send(peer, message):
                    self._send(peer, message)
                case fx.StartTimer(timer, after_s):
                    world.later(self, lambda t=timer: self.handle(fx.Expired(t)), after_s, exact=True)
                case fx.Train(round, _):
                    delta = cid("delta", self.peer, round)
                    self.blobs.add(delta)
                    trained = fx.Trained(round, delta, 10 + self.index, (Metric("loss", 1.0 / round),))
                    world.later(self, lambda e=trained: self.handle(e), world.chance.uniform(*world.scenario.train_s))
                case fx.Obtain(_, update, delta, providers):
                    self._fetch(delta, providers, fx.Obtained(update), fx.Unobtained(update))
                case fx.HoldParams(params, providers):
                    held = fx.ParamsHeld(params)
                    self._fetch(params, (*providers, *world.peers), held, None)
                case fx.Aggregate(round, key, base, deltas, weights):
                    params = cid("params", base, deltas, weights)
                    self.blobs.add(params)
                    done = fx.Aggregated(round, key, params, "")
                    world.later(self, lambda e=done: self.handle(e), world.chance.uniform(0.001, 0.02))
                case fx.Commit(head, _):
                    self.head = head
                    self.chain.append(head.checkpoint)
                    world.on_commit(self, head)
                case fx.CatchUp(peer, first):
                    self._catch_up(peer, first)
                case fx.Accuse(peer, reason, evidence):
                    world.accusations.append((self.peer, peer, reason, evidence is not None))
                case fx.Stepped() | fx.Finished():
                    pass

    def _send(self, peer: PeerId, message: object) -> None:
        for out in lie(self, peer, message) if self.lie else [message]:
            self.world.carry(self, peer, out)

    def _fetch(self, blob: Cid, providers: tuple[PeerId, ...], done: fx.Event, failed: fx.Event | None) -> None:
        def arrive() -> None:
            there = blob in self.blobs or any(
                world.by_peer[p].up and blob in world.by_peer[p].blobs and world.linked(self, world.by_peer[p])
                for p in providers
                if p in world.by_peer
            )
            if there:
                self.blobs.add(blob)
                self.handle(done)
            elif failed is not None:
                self.handle(failed)
            else:
                world.later(self, arrive, 1.0)

        world = self.world
        world.later(self, arrive, world.chance.uniform(*world.scenario.latency_s) * 2)

    def _catch_up(self, peer: PeerId, first: int) -> None:
        other = self.world.by_peer[peer]
        chain = tuple(c for c in other.chain if c.certificate.round >= first)[:64]
        if other.up and self.world.linked(self, other) and chain:
            self.world.later(self, lambda: self.handle(fx.Synced(peer, chain)), 0.05)


class World:
    """Nodes, the heap, and what must always hold."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.chance = random.Random(f"world/{scenario.seed}")
        self.now = 0.0
        self.steps = 0
        self.crash_points = 0.0
        self.accusations: list[tuple[PeerId, PeerId, str, bool]] = []
        self.certified: dict[int, Certified] = {}
        self._heap: list[tuple[float, int, SimNode, int, Callable[[], None]]] = []
        self._sequence = 0
        self._signed: dict[tuple[PeerId, tuple[object, ...]], Hash] = {}
        self._cut: set[int] = set()
        self.nodes = [SimNode(self, index) for index in range(scenario.nodes)]
        self.by_peer = {node.peer: node for node in self.nodes}
        self.peers = [node.peer for node in self.nodes]
        self.spec = self._make_spec()
        self.joins: dict[PeerId, Opened[Join]] = {
            node.peer: node.envelopes.seal(Join(self.spec.hash, 0, (), KERNELS)) for node in self.nodes
        }
        self.nodes[0].blobs.add(self.spec.record.params)

    def _make_spec(self) -> Opened[RunSpec]:
        n = self.scenario.nodes
        policy = self.scenario.policy or RoundPolicy(
            rounds=self.scenario.rounds, first_members=n, min_members=n, min_updates=1, collect_s=5.0
        )
        return self.nodes[0].envelopes.seal(
            RunSpec(
                creator=self.nodes[0].peer,
                name="sim",
                nonce=bytes(16),
                tensors=(TensorSpec("w", "float32", (2,)),),
                trainer="fake",
                trainer_config={},
                params=cid("initial"),
                pipeline=Pipeline(),
                policy=policy,
                admission=Admission(),
            )
        )

    @property
    def honest(self) -> list[SimNode]:
        return [node for node in self.nodes if not node.lie]

    # ---- time and the network

    def later(self, node: SimNode, what: Callable[[], None], after_s: float, *, exact: bool = False) -> None:
        jitter = 0.0 if exact else self.chance.random() * 1e-4
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + after_s + jitter, self._sequence, node, node.lives, what))

    def linked(self, a: SimNode, b: SimNode) -> bool:
        return (a.index in self._cut) == (b.index in self._cut)

    def carry(self, sender: SimNode, peer: PeerId, message: object) -> None:
        receiver = self.by_peer.get(peer)
        if receiver is None or not receiver.up or not self.linked(sender, receiver):
            return
        if self.chance.random() < self.scenario.loss:
            return
        event = fx.Received(sender.peer, message)  # type: ignore[arg-type]
        latency_s = self.chance.uniform(*self.scenario.latency_s)
        if self.scenario.hostile:
            latency_s += self.malice_s(sender, receiver, message)
        self.later(receiver, lambda: receiver.handle(event), latency_s)

    def favourite(self, round: int) -> SimNode:
        """The honest member that a hostile network lets decide first."""
        return random.Random(f"malice/{self.scenario.seed}/{round}").choice(self.honest)

    def malice_s(self, sender: SimNode, receiver: SimNode, message: object) -> float:
        """What the favourite votes in the first view comes late: its precommit to all, so that it decides alone, and
        its prevote to one other, who then knows of no valid header."""
        if not isinstance(message, Records):
            return 0.0
        peeked = sender.envelopes.peek(message.items[0])
        if peeked.kind != "vote":
            return 0.0
        vote = decode(Vote, peeked.envelope.payload)
        if vote.view > 0 or vote.round == 0 or sender is not self.favourite(vote.round):
            return 0.0
        others = [node for node in self.honest if node is not sender]
        deaf = random.Random(f"deaf/{self.scenario.seed}/{vote.round}").choice(others)
        return self.chance.uniform(0.5, 2.0) if vote.step == "precommit" or receiver is deaf else 0.0

    def run(self) -> None:
        """Until every honest node has finished, or time is up."""
        for node in self.nodes:
            node.start()
        self._plan()
        while self._heap and self.now < self.scenario.limit_s:
            self.now, _, node, life, what = heapq.heappop(self._heap)
            if node.up and node.lives == life:
                self.steps += 1
                what()
                if self.finished():
                    return

    def finished(self) -> bool:
        return all(n.head is not None and n.head.round >= self.scenario.rounds for n in self.honest)

    def _plan(self) -> None:
        """Crashes and partitions at seeded times, each with its end."""
        for _ in range(self.scenario.crashes):
            victim = self.chance.choice(self.honest)
            self._at(self.chance.uniform(0.3, 4.0), lambda v=victim: self.crash(v))
        for _ in range(self.scenario.partitions):
            at = self.chance.uniform(0.3, 4.0)
            some = set(self.chance.sample(range(len(self.nodes)), len(self.nodes) // 2))
            self._at(at, lambda s=some: self._partition(s))
            self._at(at + self.chance.uniform(*self.scenario.partition_s), lambda: self._partition(set()))

    def _at(self, when: float, what: Callable[[], None]) -> None:
        """Whatever happens to nodes happens through a clock that none of them owns."""
        clock = SimNode.__new__(SimNode)
        clock.up, clock.lives = True, 0
        self.later(clock, what, when)

    def crash(self, node: SimNode) -> None:
        if node.up:
            node.crash()
            self._at(self.chance.uniform(0.05, 3.0), lambda: node.up or node.start())

    def _partition(self, cut: set[int]) -> None:
        before, self._cut = self._cut, cut
        for a in self.nodes:
            for b in self.nodes:
                if a is b or not a.up or not b.up:
                    continue
                was = (a.index in before) == (b.index in before)
                if was and not self.linked(a, b):
                    self.later(a, lambda a=a, b=b: a.handle(fx.Lost(b.peer)), 0.05)
                elif not was and self.linked(a, b):
                    self.later(a, lambda a=a, b=b: a.handle(fx.Connected(b.peer)), 0.05)

    # ---- what must always hold

    def on_journal(self, node: SimNode, entry: JournalEntry) -> None:
        """No honest node signs two records in one slot, in any of its lives."""
        if node.lie or isinstance(entry, Moved):
            return
        assert isinstance(entry, Signed)
        opened = node.envelopes.verify(node.envelopes.peek(entry.envelope))
        slot = (node.peer, slot_of(opened.record))
        before = self._signed.setdefault(slot, opened.hash)
        if before != opened.hash:
            raise Broken(f"node {node.index} signed two records for {slot[1]}")

    def on_commit(self, node: SimNode, head: Head) -> None:
        """No two certificates for one round; each is what its inclusions give; no honest update is left out that every
        honest member lists."""
        if node.lie:
            return
        mine = Certified(head.header, head.hash)
        agreed = self.certified.setdefault(head.round, mine)
        if agreed.hash != head.hash:
            raise Broken(f"two certified checkpoints of round {head.round}")
        if head.round == 0:
            return
        parent = self.certified[head.round - 1]
        if head.header.parent != parent.hash:
            raise Broken(f"checkpoint {head.round} does not follow checkpoint {head.round - 1}")
        inclusions = head.header.inclusions
        expected = cid(
            "params", parent.header.params, tuple(i.delta for i in inclusions), tuple(i.weight for i in inclusions)
        )
        if head.header.params != (parent.header.params if head.header.void else expected):
            raise Broken(f"checkpoint {head.round} has params that its inclusions do not give")
        self._check_inclusions(head)

    def _check_inclusions(self, head: Head) -> None:
        included = {(i.trainer, i.update) for i in head.header.inclusions}
        for trainer, update in included:
            node = self.by_peer[trainer]
            signed = self._signed.get((trainer, ("update", head.round)))
            if not node.lie and signed != update:
                raise Broken(f"round {head.round} includes an update that node {node.index} never signed")
        listed = []
        for node in self.honest:
            raws = [e.envelope for e in node.journal.get(head.round, []) if isinstance(e, Signed)]
            records = [node.envelopes.verify(node.envelopes.peek(raw)).record for raw in raws]
            lists = [r for r in records if type(r).__name__ == "Collected"]
            if not lists:
                return
            listed.append({(ref.trainer, ref.update) for ref in lists[0].updates})  # type: ignore[attr-defined]
        everywhere = set.intersection(*listed)
        honest = {n.peer for n in self.honest}
        left_out = {(t, u) for t, u in everywhere - included if t in honest}
        if left_out and len(everywhere) >= head.spec.policy.min_updates:
            raise Broken(f"round {head.round} leaves out an update that every honest member lists")


# ---- liars


def lie(node: SimNode, peer: PeerId, message: object) -> list[object]:
    """What a liar sends to one peer in place of `message`."""
    if not isinstance(node.machine, Run):
        return [message]  # checkpoint 0 needs everybody: a liar that stops it gains nothing
    match node.lie, message:
        case "equivocates", Records(run=run, items=items):
            return [Records(run, tuple(_other_vote(node, peer, raw) for raw in items))]
        case "lies about inclusions", Proposed():
            return [_without_an_inclusion(node, message)]
        case "splits proposals", Proposed():
            return [message] if _side(node, peer) else [_without_an_inclusion(node, message)]
        case "invents updates", Records(run=run, items=items):
            return [Records(run, tuple(_invented_list(node, raw) for raw in items))]
        case "silent", _:
            return []
        case "tells two stories", Records(items=items) if node.envelopes.peek(items[0]).kind == "vote":
            return []
        case _:
            return [message]


def _invented_list(node: SimNode, raw: bytes) -> bytes:
    """A list of an update of every trainer that nobody has seen."""
    entry = node.envelopes.open_any(raw).record
    if not isinstance(entry, Collected):
        return raw
    refs = tuple(UpdateRef(peer, sha256(peer.encode()).digest()) for peer in sorted(node.world.peers))
    return node.envelopes.seal(Collected(entry.run, entry.round, refs)).raw


def _side(node: SimNode, peer: PeerId) -> bool:
    """Two halves of the world hear two stories."""
    return node.world.by_peer[peer].index % 2 == 0


def _other_vote(node: SimNode, peer: PeerId, raw: bytes) -> bytes:
    """To one half of the members the vote that the machine cast; to the other half another one."""
    opened = node.envelopes.verify(node.envelopes.peek(raw))
    vote = opened.record
    if not isinstance(vote, Vote) or vote.round == 0 or _side(node, peer):
        return raw
    machine = node.machine
    known = (
        [h for h, _, _ in machine.round.candidates.judgeable()] if isinstance(machine, Run) and machine.round else []
    )
    others = [h for h in (*known, b"") if h != vote.header]
    header = node.adversary.choice(others) if others else b""
    return node.envelopes.seal(Vote(vote.run, vote.round, 0, vote.view, vote.step, header)).raw


def _without_an_inclusion(node: SimNode, message: Proposed) -> Proposed:
    """A header that leaves out its first inclusion, properly signed."""
    header = decode(Header, message.header)
    if not header.inclusions:
        return message
    kept = header.inclusions[1:]
    forged = encode(
        Header(
            header.run, header.round, header.parent, header.bundle, kept,
            cid("params", "forged", header.params), header.optimiser, header.seen, header.changes,
            header.state, header.beacon, header.metrics, header.void,
        )
    )  # fmt: skip
    try:
        proposal = node.envelopes.open(Proposal, message.proposal).record
    except PeerError:
        return message
    mine = Proposal(proposal.run, proposal.round, 0, proposal.view, proposal.valid_view, header_hash(forged))
    return Proposed(message.run, node.envelopes.seal(mine).raw, forged, message.bundle, message.prevotes)
