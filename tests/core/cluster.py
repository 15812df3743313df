"""A few real machines with disks, on one event heap without any chance in it: any of them can be stopped between any
two effects and started again from its disk, and everything that must hold is checked after every step."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

import msgspec

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash, trusted_head
from primep2p.core.genesis import Gathering
from primep2p.core.pen import entry_of
from primep2p.core.roster import peers_of
from primep2p.core.runs import Run
from primep2p.core.votes import open_votes, slot_of
from primep2p.core.waking import Waking
from primep2p.model.errors import PeerError
from primep2p.model.ids import NIL, Cid, Hash, PeerId
from primep2p.model.journal import JournalEntry, Moved, Signed
from primep2p.model.messages import Certified, OverlayMessage, Proposed, Records
from primep2p.model.records import Checkpoint, Header, Proposal, RoundPolicy, Update, Vote
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes, Opened, Peeked
from tests.core.kit import NETWORK, Group, cid, join_of, member, records_in

LATENCY_S = 0.01
TRAINING_S = 0.1
RESTART_S = 0.05
"""Short enough that the round under way is still the one that it stopped in."""

LIMIT_S = 90.0
POLL_S = 0.1


class Broken(AssertionError):
    """An invariant does not hold."""


class Stopped(Exception):
    """The node is gone: its memory is lost."""


class Remembered(Envelopes):
    """Envelopes that do every signature once, for all members and all repetitions of a scenario."""

    _peeked: ClassVar[dict[bytes, Peeked]] = {}
    _opened: ClassVar[dict[bytes, Opened[msgspec.Struct]]] = {}
    _sealed: ClassVar[dict[tuple[PeerId, type, bytes], Opened]] = {}  # type: ignore[type-arg]

    def peek(self, raw: bytes) -> Peeked:
        if raw not in self._peeked:
            self._peeked[raw] = super().peek(raw)
        return self._peeked[raw]

    def read(self, peeked: Peeked) -> msgspec.Struct:
        return self._opened[peeked.raw].record if peeked.raw in self._opened else super().read(peeked)

    def verify(self, peeked: Peeked) -> Opened[msgspec.Struct]:
        if peeked.raw not in self._opened:
            self._opened[peeked.raw] = super().verify(peeked)
        return self._opened[peeked.raw]

    def seal(self, record):  # type: ignore[no-untyped-def]
        key = (self.peer_id, type(record), encode(record))
        if key not in self._sealed:
            self._sealed[key] = super().seal(record)
        return self._sealed[key]


@dataclass(frozen=True)
class Script:
    """What happens, but for the crash. The chosen member may be stopped in the first `rounds`; two more follow."""

    name: str
    n: int = 4
    rounds: int = 1
    policy: RoundPolicy = field(default_factory=RoundPolicy)
    gathers: bool = False
    joins: int = 0
    """Peers that are no members at first and ask to be."""
    absent: frozenset[int] = frozenset()
    """Ranks that never start."""
    untrained: Callable[[int, int], bool] = lambda rank, round: False
    """Whose trainer fails, by rank and round."""
    training_s: Callable[[int, int], float] = lambda rank, round: TRAINING_S
    """How long a training takes, by rank and round."""
    delay_s: Callable[[int, int, OverlayMessage, Opened[msgspec.Struct] | None], float | None] = (
        lambda sender, receiver, message, record: 0.0
    )
    """What the network adds to a message from one rank to another one, or, where it carries a signed record, from the
    rank that signed it; None where it is lost."""


@dataclass
class Disk:
    """What outlives a crash."""

    journal: dict[int, list[bytes]] = field(default_factory=dict)
    chain: list[tuple[Checkpoint, bytes]] = field(default_factory=list)
    blobs: set[Cid] = field(default_factory=set)
    signed: set[bytes] = field(default_factory=set)
    """The envelopes in the journal."""
    proven: set[tuple[int, Hash]] = field(default_factory=set)
    """Views and headers with a quorum of prevotes in the journal."""

    def entries(self, round: int) -> list[JournalEntry]:
        return [entry_of(raw) for raw in self.journal.get(round, [])]


class Node:
    """One member as its services run it. Subclasses break what the disk or the driver promise."""

    def __init__(self, cluster: Cluster, envelopes: Envelopes) -> None:
        self.cluster = cluster
        self.envelopes = envelopes
        self.peer = envelopes.peer_id
        self.disk = Disk()
        self.machine: Gathering | Waking | Run | None = None
        self.connected: set[PeerId] = set()
        self.up = False
        self.lives = 0
        self.points = 0
        """Places passed in this life where it could have been stopped."""
        self.watched = False
        self.muted: list[int] = []
        self.moves: list[Moved] = []

    # ---- life

    def start(self) -> None:
        """As services/runs/rounds.py does it: from the store, through Waking, to a run."""
        self.up = True
        self.lives += 1
        self.points = 0
        cluster = self.cluster
        others = [node for node in cluster.nodes.values() if node.up and node is not self]
        for other in others:
            cluster.later(self, LATENCY_S, lambda o=other: self.handle(fx.Connected(o.peer)))
            cluster.later(other, LATENCY_S, lambda o=other: o.handle(fx.Connected(self.peer)))
        if not self.disk.chain:
            gathering = Gathering(cluster.spec, cluster.joins[self.peer], self.envelopes)
            self.machine = gathering
            self.perform(gathering.begin(self.disk.entries(0)))
            return
        checkpoint, state = self.disk.chain[-1]
        head = trusted_head(cluster.spec, checkpoint, state, self.envelopes.open_any)
        self.machine = Waking(head, self.disk.entries(head.round + 1), self.peer, self.envelopes.open_any)
        self.perform(self._try_begin())
        if cluster.script.joins:
            self._poll()

    def stop(self) -> None:
        """Its memory is lost."""
        self.up = False
        self.machine = None
        self.connected = set()
        for other in self.cluster.nodes.values():
            if other.up:
                self.cluster.later(other, LATENCY_S, lambda o=other: o.handle(fx.Lost(self.peer)))

    def _try_begin(self) -> list[fx.Effect]:
        waking = self.machine
        if not isinstance(waking, Waking) or not waking.ready:
            return []
        run = Run(waking.head, self.envelopes)
        self.machine = run
        run.connected.update(self.connected)
        first_round = waking.first_round
        effects = run.begin(self.cluster.now, entries=waking.entries, foreign=waking.foreign, first_round=first_round)
        self.cluster.check_restored(self, run, first_round)
        for peer in sorted(self.connected):
            effects += run.handle(fx.Connected(peer), self.cluster.now)
        return effects

    def handle(self, event: fx.Event) -> None:
        """As `RunService._handle`, then the effects."""
        match event:
            case fx.Connected(peer):
                self.connected.add(peer)
            case fx.Lost(peer):
                self.connected.discard(peer)
        match self.machine:
            case Gathering() as gathering:
                effects = gathering.handle(event)
                if gathering.head is not None:
                    waking = Waking(gathering.head, [], self.peer, self.envelopes.open_any)
                    self.machine = waking
                    for peer in sorted(self.connected):
                        effects += waking.handle(fx.Connected(peer))
                    effects += self._try_begin()
            case Run() as run:
                effects = run.handle(event, self.cluster.now)
            case Waking() as waking:
                effects = waking.handle(event) + self._try_begin()
            case None:
                return
        self.perform(effects)

    @property
    def head(self) -> Head | None:
        return None if self.machine is None else self.machine.head

    # ---- effects

    def perform(self, effects: list[fx.Effect]) -> None:
        """In order; between any two of them the node may be stopped."""
        # What the owner is told is no place where being stopped could matter: it would only be many of them.
        for step in self.steps([effect for effect in effects if not isinstance(effect, fx.Arrived)]):
            self._point()
            self.do(step)
        self._point()

    def steps(self, effects: list[fx.Effect]) -> Iterator[fx.Effect | list[fx.Journal]]:
        """One after the other, or, as the driver does it, journal entries that stand together in one write before what
        stands between them."""
        if not self.cluster.batched:
            yield from effects
            return
        entries: list[fx.Journal] = []
        waiting: list[fx.Effect] = []
        for effect in [*effects, None]:
            if isinstance(effect, fx.Journal):
                entries.append(effect)
            elif effect is None or isinstance(effect, fx.Commit):
                if entries:
                    yield list(entries)
                yield from waiting
                entries, waiting = [], []
                if effect is not None:
                    yield effect
            else:
                waiting.append(effect)

    def do(self, step: fx.Effect | list[fx.Journal]) -> None:
        cluster = self.cluster
        match step:
            case list():
                for entry in step:
                    self.write(entry)
            case fx.Journal():
                self.write(step)
            case fx.Broadcast(message):
                cluster.check_sent(self, message)
                for peer in sorted(self._audience() - {self.peer}):
                    cluster.carry(self, peer, message)
            case fx.Send(peer, message):
                cluster.check_sent(self, message)
                cluster.carry(self, peer, message)
            case fx.StartTimer(timer, after_s):
                cluster.later(self, after_s, lambda: self.handle(fx.Expired(timer)))
            case fx.Train(round, _):
                takes_s = cluster.script.training_s(cluster.rank(self.peer), round)
                cluster.later(self, takes_s, lambda: self._trained(round))
            case fx.Obtain(_, update, delta, providers):
                self._fetch(delta, providers, fx.Obtained(update), fx.Unobtained(update))
            case fx.HoldParams(params, providers):
                self._fetch(params, providers, fx.ParamsHeld(params), None)
            case fx.HoldOptimiser(optimiser, providers):
                self._fetch(optimiser, providers, fx.OptimiserHeld(optimiser), None)
            case fx.Aggregate():
                cluster.later(self, LATENCY_S, lambda: self._aggregated(step))
            case fx.Commit():
                self.commit(step)
            case fx.CatchUp(peer, first):
                self._catch_up(peer, first)
            case fx.AskRecords(peer):
                cluster.later(self, 2 * LATENCY_S, lambda: self._records_of(peer))
            case fx.Accuse(peer, reason):
                raise Broken(f"{self} accuses {cluster.nodes[peer]}, which is honest: {reason}")
            case fx.Publish() | fx.Stepped() | fx.Finished():
                pass

    def write(self, effect: fx.Journal) -> None:
        """Durable when this returns."""
        self.cluster.lasts()
        self.disk.journal.setdefault(effect.round, []).append(encode(effect.entry))
        if isinstance(effect.entry, Moved):
            self.moves.append(effect.entry)
            self.disk.proven.add((effect.entry.view, header_hash(effect.entry.header)))
        elif isinstance(effect.entry, Signed):
            self.disk.signed.add(effect.entry.envelope)
            self.cluster.check_signed(self, effect.entry.envelope)

    def commit(self, effect: fx.Commit) -> None:
        """Durable when this returns."""
        self.cluster.lasts()
        self.disk.chain.append((effect.head.checkpoint, encode(effect.head.state)))
        self.cluster.check_committed(self, effect)

    def __str__(self) -> str:
        return f"rank {self.cluster.rank(self.peer)}"

    def _point(self) -> None:
        if self.watched and (self.head is None or self.head.round < self.cluster.script.rounds):
            self.points += 1
            self.cluster.on_point(self)

    def _audience(self) -> frozenset[PeerId]:
        match self.machine:
            case Run() as run:
                return run.audience
            case Gathering() as gathering:
                return gathering.audience
            case _:
                return frozenset()

    def _trained(self, round: int) -> None:
        if self.cluster.script.untrained(self.cluster.rank(self.peer), round):
            self.handle(fx.TrainingFailed(round))
            return
        delta = cid("delta", self.peer, round, self.lives > 1)  # a trainer that trains again comes to something else
        self.disk.blobs.add(delta)
        self.handle(fx.Trained(round, delta, 10, ()))

    def _aggregated(self, effect: fx.Aggregate) -> None:
        missing = {effect.base, effect.optimiser, *effect.deltas} - self.disk.blobs - {None}
        if missing:
            raise Broken(f"{self} is to aggregate what it does not hold")
        inputs = (effect.base, effect.optimiser, effect.deltas, effect.weights, effect.seed)
        params, optimiser = cid("params", *inputs), cid("optimiser", *inputs)
        self.disk.blobs.update((params, optimiser))
        self.handle(fx.Aggregated(effect.round, effect.key, params, optimiser, ""))

    def _fetch(self, blob: Cid, providers: Iterable[PeerId], done: fx.Event, failed: fx.Event | None) -> None:
        nodes = self.cluster.nodes

        def arrive() -> None:
            if blob in self.disk.blobs or any(nodes[p].up and blob in nodes[p].disk.blobs for p in providers):
                self.disk.blobs.add(blob)
                self.handle(done)
            elif failed is not None:
                self.handle(failed)
            else:
                self.cluster.later(self, POLL_S, arrive)

        self.cluster.later(self, 2 * LATENCY_S, arrive)

    def _catch_up(self, peer: PeerId, first: int) -> None:
        other = self.cluster.nodes[peer]

        def arrive() -> None:
            chain = tuple(c for c, _ in other.disk.chain if c.certificate.round >= first)
            if other.up and chain:
                self.handle(fx.Synced(peer, chain))

        self.cluster.later(self, 2 * LATENCY_S, arrive)

    def _records_of(self, peer: PeerId) -> None:
        """As services/peers/answers.py answers."""
        other = self.cluster.nodes[peer]
        if not other.up:
            self.handle(fx.RecordsUnheard(peer))
            return
        run, items = other.machine, ()
        if isinstance(run, Run) and run.round is not None:
            items = tuple(opened.raw for opened in run.round.records.by(self.peer))
        round = other.head.round + 1 if other.head is not None else 0
        self.handle(fx.RecordsHeard(peer, items, round))

    def _poll(self) -> None:
        """As services/runs/joining.py does it while this node is outside: ask to be let in, and follow."""
        head = self.head
        if isinstance(self.machine, Run) and head is not None and self.peer not in peers_of(head.state):
            join = join_of(self.cluster.index[self.peer], self.cluster.spec, round=head.round)
            for peer in sorted(peers_of(head.state)):
                self.cluster.carry(self, peer, Records(head.run, (join.raw,)))
                self._catch_up(peer, head.round + 1)
        self.cluster.later(self, POLL_S, self._poll)


class Cluster:
    """The nodes of a script, and what must always hold. `stops` are the points where the chosen member is stopped, one
    for each of its lives, and with it `everybody`, as a power cut would."""

    def __init__(
        self,
        script: Script,
        chosen: int,
        stops: Iterable[int] = (),
        *,
        batched: bool = False,
        chosen_is: type[Node] = Node,
        restart_s: float = RESTART_S,
        everybody: bool = False,
    ) -> None:
        self.script, self.batched, self.restart_s, self.everybody = script, batched, restart_s, everybody
        self.now = 0.0
        self.stops = list(stops)
        self.passed = 0
        """Points of the chosen member."""
        self.distinct_of: list[list[int]] = []
        """By life: those before which something happened that outlives the member: between two others it only changed
        what it keeps in memory, so that stopping it at one or the other is the same."""
        self.certified: dict[int, Hash] = {}
        self.views: set[int] = set()
        self.voids: set[int] = set()
        self.ages: list[int] = []
        """Of all updates that entered."""
        self._entered: set[Hash] = set()
        self.heads: list[tuple[Node, Head]] = []
        self._is_back_in_time = True
        self._lasting = 1
        self._seen = 0
        self._slots: dict[tuple[PeerId, object], Hash] = {}
        self._heap: list[tuple[float, int, Node, int, Callable[[], None]]] = []
        self._order = count()
        self.group = Group(script.n, policy=script.policy)
        self.spec = self.group.spec
        ranked = [who.peer_id for who in self.group.ranks]
        ranked += [member(i).peer_id for i in range(script.n, script.n + script.joins)]
        self._ranks = {peer: rank for rank, peer in enumerate(ranked)}
        self.index = {member(i).peer_id: i for i in range(len(ranked))}
        self.joins = {peer: join_of(index, self.spec) for peer, index in self.index.items()}
        self.nodes: dict[PeerId, Node] = {}
        for peer, index in sorted(self.index.items()):
            kind = chosen_is if self.rank(peer) == chosen else Node
            self.nodes[peer] = kind(self, Remembered(NETWORK, member(index)._signer))
        self.chosen = self.nodes[ranked[chosen]]
        self.chosen.watched = True
        self.nodes[self.spec.record.creator].disk.blobs.add(self.spec.record.params)
        if not script.gathers:
            head = self.group.head
            self.certified[0] = head.hash
            for node in self.nodes.values():
                node.disk.chain.append((head.checkpoint, encode(head.state)))
                node.disk.blobs.add(head.header.params)

    def rank(self, peer: PeerId) -> int:
        return self._ranks[peer]

    @property
    def distinct(self) -> list[int]:
        """Of the first life."""
        return self.distinct_of[0]

    @property
    def present(self) -> list[Node]:
        return [node for node in self.nodes.values() if self.rank(node.peer) not in self.script.absent]

    # ---- time and the network

    def later(self, node: Node, after_s: float, what: Callable[[], None], *, any_life: bool = False) -> None:
        life = -1 if any_life else node.lives
        heapq.heappush(self._heap, (self.now + after_s, next(self._order), node, life, what))

    def carry(self, sender: Node, peer: PeerId, message: OverlayMessage) -> None:
        self.lasts()
        receiver = self.nodes[peer]
        if not receiver.up or peer not in sender.connected:
            return
        for part in _parts(message):
            opened = self._first_of(part)
            whose = sender.peer if opened is None else opened.signer
            extra_s = self.script.delay_s(self.rank(whose), self.rank(peer), part, opened)
            if extra_s is not None:
                event = fx.Received(sender.peer, part)
                self.later(receiver, LATENCY_S + extra_s, lambda e=event: receiver.handle(e))

    def _first_of(self, message: OverlayMessage) -> Opened[msgspec.Struct] | None:
        raws = records_in(message)
        return self.chosen.envelopes.open_any(raws[0]) if raws else None

    def run(self) -> Cluster:
        """To the end, which must come. Raises Broken."""
        for node in self.present:
            self._guarded(node, node.start)
        while not self._finished():
            at, _, node, life, what = heapq.heappop(self._heap)
            self._lasting += at != self.now or node is not self.chosen
            self.now = at
            if self.now > LIMIT_S:
                raise Broken(f"no progress: heads are {[n.head and n.head.round for n in self.present]}")
            if life == -1 or (node.up and node.lives == life):
                self._guarded(node, what)
        self._check_end()
        return self

    def _guarded(self, node: Node, what: Callable[[], None]) -> None:
        try:
            what()
        except Stopped:
            for stopped in self.present if self.everybody else [node]:
                if stopped.up:
                    stopped.stop()
                    self.later(stopped, self.restart_s, stopped.start, any_life=True)

    def lasts(self) -> None:
        """Something happened that a crash of the chosen member does not undo."""
        self._lasting += 1

    def on_point(self, node: Node) -> None:
        life = node.lives - 1
        self.passed += 1
        if life == len(self.distinct_of):
            self.distinct_of.append([])
        if self._lasting != self._seen:
            self.distinct_of[life].append(node.points)
            self._seen = self._lasting
        if life < len(self.stops) and node.points == self.stops[life]:
            raise Stopped

    def _finished(self) -> bool:
        return all(node.head is not None and node.head.is_last for node in self.present)

    # ---- what must always hold

    def check_signed(self, node: Node, raw: bytes) -> None:
        """No two signatures in one slot, over all lives, whether they were sent or only written."""
        opened = node.envelopes.open_any(raw)
        slot = slot_of(opened.record)
        if self._slots.setdefault((node.peer, slot), opened.hash) != opened.hash:
            raise Broken(f"{node} signed two records for {slot}")

    def check_sent(self, node: Node, message: OverlayMessage) -> None:
        """What leaves the node and what it rests on is on its disk."""
        match message:
            case Records(items=items):
                for raw in items:
                    self._check_own(node, raw)
            case Proposed(proposal=raw):
                self._check_own(node, raw)
                self._check_proof(node, message)
            case Certified(checkpoint=checkpoint):
                if len(node.disk.chain) <= checkpoint.certificate.round:
                    raise Broken(f"{node} shows a checkpoint that it has not stored")

    def _check_own(self, node: Node, raw: bytes) -> None:
        opened = node.envelopes.open_any(raw)
        if opened.signer != node.peer:
            return
        try:
            slot_of(opened.record)
        except PeerError:
            return
        self.check_signed(node, raw)
        record = opened.record
        round: int = record.round  # type: ignore[attr-defined]
        if raw not in node.disk.signed:
            raise Broken(f"{node} sends a record of {slot_of(record)} that is not in its journal")
        if isinstance(record, Update) and record.base != self.certified.get(round - 1):
            raise Broken(f"{node} signs an update that starts from no checkpoint")
        if round > 0 and len(node.disk.chain) < round:
            raise Broken(f"{node} sends a record of round {round} and has not stored checkpoint {round - 1}")
        match record:
            case Update(delta=delta) if delta not in node.disk.blobs:
                raise Broken(f"{node} announces a delta that it does not hold")
            case Vote(step="precommit", view=view, header=header) if header != NIL and round > 0:
                if (view, header) not in node.disk.proven:
                    raise Broken(f"{node} precommits without the proof in its journal")
            case Vote(step="prevote", header=header) if header != NIL and isinstance(node.machine, Run):
                current = node.machine.round
                if current is not None and current.round == round and header in current.candidates:
                    named = decode(Header, current.candidates[header].raw)
                    if not named.void and not {named.params, named.optimiser} <= node.disk.blobs:
                        raise Broken(f"{node} prevotes for params or a state that it does not hold")

    def _check_proof(self, node: Node, message: Proposed) -> None:
        """A proposal that is put forward again brings what makes others accept it."""
        proposal = node.envelopes.open(Proposal, message.proposal).record
        if proposal.valid_view >= 0 and isinstance(node.machine, Run):
            self._require_quorum(node, node.machine.head, message.prevotes, proposal.valid_view, proposal.header)

    def _require_quorum(self, node: Node, head: Head, prevotes: tuple[bytes, ...], view: int, header: Hash) -> None:
        votes = open_votes(
            prevotes, node.envelopes.open_any, run=head.run, round=head.round + 1, step="prevote", header=header
        )
        voters = {vote.signer for vote in votes if vote.signer in head.committee and vote.record.view == view}
        if len(voters) < head.committee.q:
            raise Broken(f"{node} cannot prove the value of view {view}")

    def check_restored(self, node: Node, run: Run, first_round: int) -> None:
        """After a start: it is where it was, and can prove it."""
        if node is self.chosen:
            newest = max(len(other.disk.chain) - 1 for other in self.present)
            self._is_back_in_time = newest < self.script.policy.rounds - 1
        if run.head.round != max(c.certificate.round for c, _ in node.disk.chain):
            raise Broken(f"{node} starts from round {run.head.round}, which is not the newest that it stored")
        if (round := run.round) is None:
            return
        if round.pen.muted and round.round >= first_round:
            raise Broken(f"{node} finds its journal to be older than what others hold")
        moves = [move for move in node.moves if decode(Header, move.header).round == round.round]
        consensus = round.consensus
        for found, wanted in (
            (consensus.valid, [(m.view, header_hash(m.header)) for m in moves]),
            (consensus.locked, [(m.view, header_hash(m.header)) for m in moves if m.locked]),
        ):
            if found != (wanted[-1] if wanted else None):
                raise Broken(f"{node} was at {wanted} and is at {found}")
            if found is not None:
                prevotes = consensus.tally.quorum(found[0], "prevote", found[1])
                self._require_quorum(node, run.head, prevotes, *found)
        for raw in (e.envelope for e in node.disk.entries(round.round) if isinstance(e, Signed)):
            vote = node.envelopes.open_any(raw).record
            lies_on = isinstance(vote, Vote) and vote.step == "precommit" and vote.header != NIL
            if lies_on and (consensus.locked is None or consensus.locked[0] < vote.view):
                raise Broken(f"{node} precommitted in view {vote.view} and its lock is {consensus.locked}")

    def check_committed(self, node: Node, effect: fx.Commit) -> None:
        head = effect.head
        self.views.add(effect.view)
        self.heads.append((node, head))
        if head.round not in self.certified:
            for inclusion in head.header.inclusions:
                self.ages.append(inclusion.staleness)
                if inclusion.update in self._entered:
                    raise Broken(
                        f"checkpoint {head.round} takes an update of rank {self.rank(inclusion.trainer)} again"
                    )
                self._entered.add(inclusion.update)
        if head.header.void:
            self.voids.add(head.round)
        if self.certified.setdefault(head.round, head.hash) != head.hash:
            raise Broken(f"two certified checkpoints of round {head.round}")
        if head.round != len(node.disk.chain) - 1:
            raise Broken(f"{node} stores checkpoint {head.round} after {len(node.disk.chain) - 1} others")

    def _check_end(self) -> None:
        """Everywhere the same chain, whole; and the chosen member took part to the end."""
        last = self.script.policy.rounds
        for node in self.present:
            rounds = [checkpoint.certificate.round for checkpoint, _ in node.disk.chain]
            if rounds != list(range(last + 1)):
                raise Broken(f"{node} has lost something certified: it holds {rounds}")
            if [header_hash(c.header) for c, _ in node.disk.chain] != [self.certified[r] for r in rounds]:
                raise Broken(f"{node} is on another chain")
        signed = (self.chosen.envelopes.open_any(raw).record for raw in self.chosen.disk.signed)
        if self._is_back_in_time and all(record.round < last for record in signed):  # type: ignore[attr-defined]
            raise Broken(f"{self.chosen} signs nothing any more")


def _parts(message: OverlayMessage) -> list[OverlayMessage]:
    """One record a message, so that a script can tell them apart."""
    if isinstance(message, Records):
        return [Records(message.run, (raw,)) for raw in message.items]
    return [message]
