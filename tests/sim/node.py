"""One node of a world: a real machine, its disk, its clock, and what it lies about, if it lies.

Trainers, aggregation and blobs are stand-ins that cost virtual time; records, journal, waking and votes are real.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from primep2p.core import effects as fx
from primep2p.core.chain import Head
from primep2p.core.genesis import Gathering
from primep2p.core.runs import Run
from primep2p.core.waking import Waking
from primep2p.model.ids import Cid, PeerId
from primep2p.model.journal import JournalEntry
from primep2p.model.messages import MAX_CHAIN, OverlayMessage, Records
from primep2p.model.records import Leave, Metric
from tests.core.kit import KERNELS
from tests.sim.adversaries.base import Adversary
from tests.sim.blobs import aggregated, delta_of
from tests.sim.disk import Disk
from tests.sim.keys import SimEnvelopes

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["SimNode"]

RETRY_S = 1.0
"""Between two tries to have params."""

ASKED_S = 0.02
"""What a question costs beyond two latencies."""


class SimNode:
    """A member, or somebody who wants to be one."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.envelopes = SimEnvelopes(
            world.network_name,
            world.ring.make(sha256(f"{world.seed}/{index}".encode()).digest()),
            world.ring,
            world.shelf,
            lambda opened: world.invariants.on_sealed(self, opened),
        )
        self.peer: PeerId = self.envelopes.peer_id
        self.kernels = bytes(32) if world.members - world.scenario.odd <= index < world.members else KERNELS
        """What its machine makes of fixed vectors."""
        self.disk = Disk()
        self.machine: Gathering | Waking | Run | None = None
        self.connected: set[PeerId] = set()
        self.adversaries: list[Adversary] = []
        self.twin: SimNode | None = None
        """Another node with the same key; who lies so decides who sees which."""
        self.life = 0
        self.up = False
        self.paused_until = 0.0
        self.rate = 1.0
        self.role = "plain"
        self.time_is_up = False
        """By its own clock."""
        self.wants_out = False
        """It has asked to leave, and not to join again."""
        self._audience: tuple[PeerId, ...] = ()
        self._do: dict[type, Callable[..., None]] = {
            fx.Journal: self._journal,
            fx.Broadcast: self._broadcast,
            fx.Publish: self._publish,
            fx.Send: lambda effect: self._say((effect.peer,), effect.message),
            fx.StartTimer: self._start_timer,
            fx.Train: self._train,
            fx.Obtain: self._obtain,
            fx.HoldParams: self._hold_params,
            fx.HoldOptimiser: self._hold_optimiser,
            fx.Aggregate: self._aggregate,
            fx.Commit: self._commit,
            fx.CatchUp: self._catch_up,
            fx.AskRecords: self._ask_records,
            fx.Accuse: self._accuse,
            fx.Stepped: lambda effect: world.tell(self, f"round {effect.round} view {effect.view} {effect.step}"),
            fx.Arrived: lambda effect: None,
            fx.Finished: lambda effect: None,
        }

    def __repr__(self) -> str:
        return f"node {self.index}"

    @property
    def honest(self) -> bool:
        """Whether it follows the rules, with a disk that is what it left."""
        return not self.adversaries

    @property
    def is_odd(self) -> bool:
        """It has no vote, since others compute what the protocol says and it does not."""
        return self.kernels != KERNELS and self.world.scenario.odd < self.world.members

    @property
    def head(self) -> Head | None:
        """The newest checkpoint that it has."""
        return self.disk.head

    @property
    def running(self) -> Run | None:
        """Its machine, once rounds have begun."""
        return self.machine if isinstance(self.machine, Run) else None

    @property
    def now(self) -> float:
        """By its own clock."""
        return self.world.heap.now * self.rate

    def record(self, raw: bytes) -> msgspec.Struct:
        """What an envelope says."""
        return self.envelopes.read(self.envelopes.peek(raw))

    def facing(self, other: SimNode) -> SimNode:
        """Which of two nodes with one key `other` has before it."""
        return self if self.twin is None or self.world.gang.side(other) == 0 else self.twin

    # ---- life

    def start(self) -> None:
        """Begin, or begin again with what is on the disk."""
        self.up = True
        self.life += 1
        if self.head is None:
            gathering = Gathering(self.world.spec, self.world.join_of(self), self.envelopes)
            self.machine = gathering
            self.perform(gathering.begin(self.disk.entries(0)))
        else:
            self._wake(self.head)
        for other in self.world.everyone:
            if other.up and other.peer != self.peer and self.world.network.linked(self, other):
                self.world.heap.after(self, 0.01, partial(self.handle, fx.Connected(other.peer)))
                self.world.heap.after(other, 0.01, partial(other.handle, fx.Connected(self.peer)))
        for adversary in self.adversaries:
            adversary.begins()

    def start_at(self, head: Head) -> None:
        """Begin with a checkpoint that everybody has, connected to everybody."""
        self.up = True
        self.life += 1
        self.disk.commit(head)
        self._take_part(head)
        self.connected = {other.peer for other in self.world.everyone if other.peer != self.peer}
        self._run(Run(head, self.envelopes), self.disk.entries(head.round + 1), [])
        for adversary in self.adversaries:
            adversary.begins()

    def crash(self) -> None:
        """The end of this life."""
        self.up = False
        self.life += 1
        self.machine = None
        self.connected.clear()
        self.world.tell(self, "dies")
        for other in self.world.everyone:
            if other.up and other.peer != self.peer:
                self.world.heap.after(other, 0.02, partial(other.handle, fx.Lost(self.peer)))

    def _wake(self, head: Head) -> None:
        self._take_part(head)
        waking = Waking(head, self.disk.entries(head.round + 1), self.peer, self.envelopes.open_any)
        self.machine = waking
        for peer in sorted(self.connected):
            self.perform(waking.handle(fx.Connected(peer)))
        self._try_begin(waking)

    def _try_begin(self, waking: Waking) -> None:
        if not waking.ready or self.machine is not waking:
            return
        run = Run(waking.head, self.envelopes)
        self._run(run, waking.entries, waking.foreign, waking.first_round)
        for peer in sorted(self.connected):
            if self.machine is run:
                self.perform(run.handle(fx.Connected(peer), self.now))

    def _run(self, run: Run, entries: list[JournalEntry], foreign: list[bytes], first_round: int = 0) -> None:
        self.machine = run
        run.connected.update(self.connected)
        evidence = self.disk.evidence
        effects = run.begin(self.now, entries=entries, foreign=foreign, evidence=evidence, first_round=first_round)
        self.perform(effects)
        if self.time_is_up:
            self.perform(run.handle(fx.TimeUp(), self.now))
        if self.wants_out:
            self.leave()
        if run.round is not None and run.round.pen.muted:
            self.world.tell(self, f"is mute in round {run.round.round}")

    def leave(self) -> None:
        """Say that it wants to be no member any more, as long as it is one."""
        self.wants_out = True
        run = self.running
        if run is not None and self.peer in run.head.members:
            leave = self.envelopes.seal(Leave(run.head.run, max(1, run.head.round)))
            self.handle(fx.Received(self.peer, Records(run.head.run, (leave.raw,))))

    def handle(self, event: fx.Event) -> None:
        """Something happened."""
        match event:
            case fx.Connected(peer):
                self.connected.add(peer)
            case fx.Lost(peer):
                self.connected.discard(peer)
        machine = self.machine
        match machine:
            case Run():
                heard = [adversary.hears(event) for adversary in self.adversaries]
                if not all(heard):
                    return
                self.perform(machine.handle(event, self.now))
            case Waking():
                self.perform(machine.handle(event))
                self._try_begin(machine)
            case Gathering():
                self.perform(machine.handle(event))
                if machine.head is not None and self.machine is machine:
                    self._wake(machine.head)

    # ---- effects

    def perform(self, effects: list[fx.Effect]) -> None:
        """In order; the rest of the list dies with the node."""
        life = self.life
        for effect in effects:
            self._do[type(effect)](effect)
            if self.life != life:
                return

    def later(self, after_s: float, event: fx.Event) -> None:
        """Something will happen here."""
        self.world.heap.after(self, after_s, partial(self.handle, event))

    def post(self, peer: PeerId, message: OverlayMessage) -> None:
        """A message on its way, as it is."""
        self.world.network.carry(self, peer, message)

    def _say(self, peers: tuple[PeerId, ...], message: OverlayMessage) -> None:
        if self.honest:
            self.world.invariants.on_said(self, message)
            for peer in peers:
                self.world.network.carry(self, peer, message)
            return
        for peer in peers:
            messages = [message]
            if isinstance(self.machine, Run):  # checkpoint 0 needs everybody: who stops it gains nothing
                for adversary in self.adversaries:
                    messages = [out for each in messages for out in adversary.says(peer, each)]
            for out in messages:
                self.world.network.carry(self, peer, out)

    def _broadcast(self, effect: fx.Broadcast) -> None:
        audience = self._audience
        if isinstance(self.machine, Gathering):
            audience = tuple(sorted(self.machine.audience - {self.peer}))
        self._say(audience, effect.message)

    def _publish(self, effect: fx.Publish) -> None:
        if self.honest:
            self.world.invariants.on_said(self, effect.message)
        if self.honest or all(adversary.publishes(effect.message) for adversary in self.adversaries):
            self.world.network.publish(self, effect.message)

    def _accuse(self, effect: fx.Accuse) -> None:
        if effect.evidence is not None:
            self.disk.evidence.append(effect.evidence)
        self.world.on_accused(self, effect)

    def _journal(self, effect: fx.Journal) -> None:
        dies = self.world.dies_at_write(self)
        if dies == "before":
            self.world.crash(self)
            return
        self.disk.append(effect.round, effect.entry)
        self.world.invariants.on_journal(self, effect.entry)
        if dies == "after":
            self.world.crash(self)

    def _start_timer(self, effect: fx.StartTimer) -> None:
        self.later(effect.after_s / self.rate, fx.Expired(effect.timer))

    def _train(self, effect: fx.Train) -> None:
        delta = delta_of(self.peer, effect.round, self.life)
        trained = fx.Trained(effect.round, delta, 10 + self.index % 10, (Metric("loss", 1.0 / effect.round),))
        for adversary in self.adversaries:
            trained = adversary.trains(trained)
        self.disk.blobs.add(trained.delta)
        scenario, chance = self.world.scenario, self.world.chance
        self.later(chance.uniform(*scenario.train_s) * chance.lognormvariate(0, scenario.train_sigma), trained)

    def _obtain(self, effect: fx.Obtain) -> None:
        refused = fx.Refused(effect.update, "a delta that is not of the run's schema")
        done = refused if effect.delta in self.world.wrong_blobs else fx.Obtained(effect.update)
        self._fetch(effect.delta, effect.providers, done, fx.Unobtained(effect.update))

    def _hold_params(self, effect: fx.HoldParams) -> None:
        self._fetch(effect.cid, (*effect.providers, *self.world.peers), fx.ParamsHeld(effect.cid), None)

    def _hold_optimiser(self, effect: fx.HoldOptimiser) -> None:
        self._fetch(effect.cid, (*effect.providers, *self.world.peers), fx.OptimiserHeld(effect.cid), None)

    def _aggregate(self, effect: fx.Aggregate) -> None:
        self.world.invariants.on_aggregate(self, effect)
        made = aggregated(effect.base, effect.optimiser, effect.deltas, effect.weights, effect.seed)
        self.disk.blobs.update(made)
        self.later(self.world.chance.uniform(0.001, 0.02), fx.Aggregated(effect.round, effect.key, *made, ""))

    def _commit(self, effect: fx.Commit) -> None:
        self.disk.commit(effect.head)
        self._take_part(effect.head)
        self.world.on_commit(self, effect)

    def _take_part(self, head: Head) -> None:
        self.role = "committee" if self.peer in head.committee else "plain"
        if not head.is_last:
            self.world.told.turns[self.role] += 1
        self._audience = tuple(peer for peer in head.committee.members if peer != self.peer)

    # ---- questions

    def serves(self, asker: SimNode, blob: Cid) -> bool:
        """Whether it gives a blob to somebody."""
        there = self.up and blob in self.disk.blobs and self.world.network.linked(self, asker)
        return there and all(adversary.serves(asker, blob) for adversary in self.adversaries)

    def _fetch(self, blob: Cid, providers: tuple[PeerId, ...], done: fx.Event, failed: fx.Event | None) -> None:
        def arrive() -> None:
            known = (self.world.by_peer[peer] for peer in providers if peer in self.world.by_peer)
            if blob in self.disk.blobs or any(node.serves(self, blob) for node in known if node is not self):
                self.disk.blobs.add(blob)
                self.handle(done)
            elif failed is not None:
                self.handle(failed)
            else:
                self.world.heap.after(self, RETRY_S, arrive)

        self.world.heap.after(self, 2 * self.world.network.latency_s(), arrive)

    def _catch_up(self, effect: fx.CatchUp) -> None:
        other = self.world.by_peer.get(effect.peer)
        if other is None:
            return
        chain = other.disk.chain_from(effect.first, MAX_CHAIN)
        if chain and other.up and self.world.network.linked(self, other):
            self.later(2 * self.world.network.latency_s() + ASKED_S, fx.Synced(effect.peer, chain))

    def _ask_records(self, effect: fx.AskRecords) -> None:
        member = effect.member

        def answered() -> None:
            other = self.world.by_peer.get(member)
            if other is None or not other.up or not self.world.network.linked(self, other):
                self.handle(fx.RecordsUnheard(member))
                return
            other = other.facing(self)
            round = other.head.round + 1 if other.head is not None else 0
            self.handle(fx.RecordsHeard(member, other.recall(self.peer), round))

        self.world.heap.after(self, 2 * self.world.network.latency_s() + ASKED_S, answered)

    def recall(self, peer: PeerId) -> tuple[bytes, ...]:
        """What it holds of somebody's own records."""
        run = self.running
        held = run.round.records.by(peer) if run is not None and run.round is not None else []
        items = tuple(opened.raw for opened in held)
        for adversary in self.adversaries:
            items = adversary.recalls(peer, items)
        return items
