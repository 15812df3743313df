"""One run on this node: drives its machine with the real network, disk, trainer and kernels."""

import time
from collections.abc import Awaitable, Callable
from itertools import takewhile

import msgspec
import trio

from primep2p.core import effects as fx
from primep2p.core.admission import JOIN_LIFETIME
from primep2p.core.chain import Head, trusted_head
from primep2p.core.genesis import Gathering
from primep2p.core.pen import entry_of
from primep2p.core.runs import Run
from primep2p.core.waking import Waking
from primep2p.model.errors import PeerError, StoreError, Unavailable
from primep2p.model.ids import PeerId, RunId
from primep2p.model.journal import JournalEntry
from primep2p.model.messages import Abstained as AbstainedMessage
from primep2p.model.messages import AskChain, AskVotes, Certified, Chain, OverlayMessage, Proven, Records, Votes
from primep2p.model.records import Evidence, Join, Leave, RunSpec
from primep2p.model.views.events import (
    Abstained,
    Accused,
    AnyEvent,
    Left,
    LogLine,
    MemberGathered,
    PluginFailed,
    RoundCertified,
    RunFinished,
    StepChanged,
)
from primep2p.services.driver import Driver
from primep2p.services.runs.telling import arrival, certified, past_rounds, roster_changes
from primep2p.services.runs.work import Work
from primep2p.services.seams import Seams, TrainingVerbs
from primep2p.services.training.training import TrainingEvent
from primep2p.services.training.turns import Turns
from primep2p.store.seam import RunRow, Standing, StoredCheckpoint
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Opened

__all__ = ["RunService"]

PROVIDE_EVERY_S = 10.0
"""A provider record costs its holders 0.1 to 0.3 s of work: rounds may come faster than that."""

MAX_ACCUSED = 256
"""Kinds of faults of which the owner hears in one round: reasons may hold a stranger's words."""

KEPT_ROUNDS = 50
"""Certified rounds that `run show` lists."""

STAYS = Standing()

CLOCK_S = 60.0
"""How often the clock is looked at for the end of a run's time, and how late that is found where it was set."""


class RunService:
    """Owns one run's machine, from gathering to the end."""

    def __init__(
        self,
        row: RunRow,
        spec: Opened[RunSpec],
        seams: Seams,
        make_training: Callable[[Callable[[TrainingEvent], None]], TrainingVerbs],
        standing: Standing = STAYS,
    ) -> None:
        self.run_id: RunId = row.run
        self.spec = spec
        self.row = row
        self.standing = standing
        self.out = trio.Event()
        """Set when this node has left the run."""
        self.closing, self.closed = trio.Event(), trio.Event()
        """Set to have what `run` does after that end at once; and set when all has ended."""
        self.machine: Gathering | Run | Waking | None = None
        self.origin = ""
        """RUN@round that the first params are from, once that is found here."""
        self.note = ""
        """What its owner should know of the trainer here; empty: nothing."""
        self.rounds: list[RoundCertified] = []
        self.step = StepChanged(run=row.run.hex(), round=0, view=0, step="gathering")
        self.progress_at = 0.0
        """When the round last moved on this node, in trio's time."""
        self.moved_at = 0.0
        """The same, in Unix time."""
        self._certified_at = 0.0
        self.plugin_error = ""
        self._seams = seams
        self._training = make_training(self._report)
        self._training_life = trio.CancelScope()
        self._connected: set[PeerId] = set()
        self._driver = Driver(self._handle, self._perform)
        self._nursery: trio.Nursery | None = None
        self._head_changed = trio.Event()
        self._accused: set[tuple[PeerId, str]] = set()
        self._round_scopes: set[trio.CancelScope] = set()
        self._evidence: list[Evidence] = []
        self._gathered: frozenset[PeerId] = frozenset()
        self._here: set[PeerId] = set()
        """Who asked to be there at the beginning, of whom the owner was told."""
        self._work = Work(row.run, spec.record, seams, self._training, self._driver.inbox.send, self._own_nursery)
        self._turns = Turns(
            row.run, seams.gate, self._training, train=self._work.train, abstain=self._abstain, tell=seams.tell
        )

    # ---- life

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises StoreError where the disk fails."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._certified_at = self._moved()
            await nursery.start(self._train)
            if not self._turns.reason:
                nursery.start_soon(self._work.prepare)
            nursery.start_soon(self._turns.run)
            await nursery.start(self._listen)
            await nursery.start(self._driver.run, await self._wake())
            nursery.start_soon(self._provide)
            nursery.start_soon(self._watch_clock)
            await self._seams.overlay.attach(self.run_id, self._driver.inbox)
            task_status.started()

    async def _train(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The trainer's life: until the run is finished, so that a finished run costs no memory."""
        with self._training_life:
            await self._training.run(task_status=task_status)

    def _own_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise Unavailable("the run has not started")
        return self._nursery

    async def receive(self, sender: PeerId, message: OverlayMessage) -> None:
        """A message that came another way than over the overlay."""
        await self._driver.inbox.send(fx.Received(sender, message))

    async def settled(self) -> None:
        """Returns when what came before is handled, and what followed from it is done or on its way."""
        await self._driver.settled()

    @property
    def head(self) -> Head | None:
        """The newest certified checkpoint."""
        match self.machine:
            case Run() as run:
                return run.head
            case Waking() as waking:
                return waking.head
            case Gathering() as gathering:
                return gathering.head
            case None:
                return None

    async def keep_join(self, join: Opened[Join]) -> None:
        """This node's newest Join, for members and for the next start."""
        if isinstance(self.machine, Gathering):
            self.machine.renew(join)
        self.row = msgspec.structs.replace(self.row, join=join.raw)
        await self._seams.offload(self._seams.runs.save_run, self.row)

    @property
    def rests(self) -> str:
        """Why this node does not train in the run; empty: it does."""
        return self._seams.gate.reason(self.run_id)

    async def recall(self) -> None:
        """What is known of a run that this node has left, to be shown; in place of `run`."""
        head = await self._stored_head()
        envelopes = self._seams.envelopes
        self.machine = Run(head, envelopes) if head else Gathering(self.spec, self._own_join(), envelopes)
        self.out.set()
        self.closed.set()

    async def leave(self) -> None:
        """Have this node left out of a coming checkpoint, by its own word; before there is one, of checkpoint 0. It is
        durable before anybody hears of it, and said again after every start."""
        await self._say_leave()
        if self.head is not None:
            await self._look_whether_out(self.head)

    async def part(self) -> None:
        """This node is out: durable when this returns. Members are not asked."""
        await self.stand(msgspec.structs.replace(self.standing, has_left=True))
        self._training_life.cancel()
        await self._work.part()
        head, me = self.head, self._seams.envelopes.peer_id
        certified = head is None or me not in head.members
        self._seams.tell(Left(run=self.run_id.hex(), round=head.round if head else -1, certified=certified))
        self.out.set()

    async def stand(self, standing: Standing) -> None:
        """What the owner wants, durably."""
        await self._seams.offload(self._seams.runs.save_standing, self.run_id, standing)
        self.standing = standing

    async def head_changed(self) -> None:
        """Returns at the next change of the head."""
        await self._head_changed.wait()

    async def _wake(self) -> list[fx.Effect]:
        """From the store to a machine. Raises StoreError where what is stored makes no sense."""
        try:
            return await self._machine_from_store()
        except PeerError as error:
            raise StoreError(
                f"what is stored of run {self.run_id.hex()} is damaged: {error.sentence}",
                hint="restore the home from a backup, or start with a new one",
            ) from error

    async def _machine_from_store(self) -> list[fx.Effect]:
        head = await self._stored_head()
        if head is None:
            gathering = Gathering(self.spec, self._own_join(), self._seams.envelopes)
            self.machine = gathering
            effects = gathering.begin(await self._journal_of(0))
            if (leave := self._own_leave()) is not None:
                gathering.withdraw(leave)
            return effects
        self.rounds = await self._past_rounds(head.round)
        entries = await self._journal_of(head.round + 1)
        evidence = await self._seams.offload(self._seams.runs.evidence, self.run_id)
        self._evidence = [decode(Evidence, raw) for _, raw in evidence]
        self.machine = Waking(head, entries, self._seams.envelopes.peer_id, self._seams.envelopes.open_any)
        self._want_members(head)
        return self._try_begin()

    async def _stored_head(self) -> Head | None:
        stored = await self._seams.offload(self._seams.runs.head, self.run_id)
        if stored is None:
            return None
        return trusted_head(self.spec, stored[1].checkpoint, stored[1].state, self._seams.envelopes.open_any)

    def _own_leave(self) -> Opened[Leave] | None:
        return self._seams.envelopes.open(Leave, self.standing.leave) if self.standing.leave else None

    def _own_join(self) -> Opened[Join]:
        return self._seams.envelopes.open(Join, self.row.join)

    @property
    def invitation(self) -> tuple[bytes, bytes]:
        """The invite that this node's Joins bring, and its acceptance."""
        join = self._own_join().record
        return join.invite, join.acceptance

    def _report(self, event: TrainingEvent) -> None:
        if isinstance(event, PluginFailed):
            self.plugin_error = f"{event.sentence}\n{event.stderr}".rstrip()
        self._seams.tell(event)

    async def _past_rounds(self, newest: int) -> list[RoundCertified]:
        """Those that this node has in a row: one that joined late has none from before."""
        runs, envelopes = self._seams.runs, self._seams.envelopes

        def read() -> list[RoundCertified]:
            numbers = range(newest, max(-1, newest - KEPT_ROUNDS), -1)
            chain = list(takewhile(bool, (runs.checkpoint(self.run_id, number) for number in numbers)))
            return past_rounds([stored for stored in reversed(chain) if stored], envelopes)

        return await self._seams.offload(read)

    async def _journal_of(self, round: int) -> list[JournalEntry]:
        raws = await self._seams.offload(self._seams.runs.entries, self.run_id, round)
        return [entry_of(raw) for raw in raws]

    # ---- events

    def _handle(self, event: fx.Event) -> list[fx.Effect]:
        match event:
            case fx.Synced() | fx.Received(_, Certified()) if self.out.is_set():
                return []  # it tells others of the checkpoint that lets it go, and follows no further
            case fx.Connected(peer):
                self._connected.add(peer)
            case fx.Lost(peer):
                self._connected.discard(peer)
        match self.machine:
            case Gathering() as gathering:
                effects = gathering.handle(event)
                self._want_gathered(gathering)
                return effects + self._begun(gathering)
            case Run() as run:
                return run.handle(event, trio.current_time())
            case Waking() as waking:
                return waking.handle(event) + self._try_begin()
            case None:
                return []

    def _begun(self, gathering: Gathering) -> list[fx.Effect]:
        """Checkpoint 0 is certified: rounds begin, as after any start, since this home may be older than the run."""
        if gathering.head is None:
            return []
        self._seams.overlay.want(self.run_id, gathering.head.members, gathering.addresses)
        waking = Waking(gathering.head, [], self._seams.envelopes.peer_id, self._seams.envelopes.open_any)
        self.machine = waking
        asks = [effect for peer in self._connected for effect in waking.handle(fx.Connected(peer))]
        return asks + self._try_begin()

    def _try_begin(self) -> list[fx.Effect]:
        """Enough members said what they hold of this node's own records."""
        waking = self.machine
        if not isinstance(waking, Waking) or not waking.ready:
            return []
        return self._begin(Run(waking.head, self._seams.envelopes), waking)

    def _begin(self, run: Run, waking: Waking) -> list[fx.Effect]:
        self.machine = run
        now = trio.current_time()
        run.connected.update(self._connected)
        effects = run.begin(
            now,
            entries=waking.entries,
            foreign=waking.foreign,
            evidence=self._evidence,
            first_round=waking.first_round,
        )
        for peer in self._connected:
            effects += run.handle(fx.Connected(peer), now)
        if self.standing.leave:
            me, said = self._seams.envelopes.peer_id, Records(self.run_id, (self.standing.leave,))
            effects += run.handle(fx.Received(me, said), now)
        if self._is_over:
            effects += run.handle(fx.TimeUp(), now)
        return effects

    # ---- effects

    async def _perform(self, effects: list[fx.Effect]) -> None:
        """In order; journal entries that stand together are written together, and before what stands after them."""
        entries: dict[int, list[bytes]] = {}
        waiting: list[fx.Effect] = []
        for effect in effects:
            match effect:
                case fx.Journal(round, entry):
                    entries.setdefault(round, []).append(encode(entry))
                case fx.Commit():
                    await self._flush(entries, waiting)
                    await self._commit(effect)
                case _:
                    waiting.append(effect)
        await self._flush(entries, waiting)

    async def _flush(self, entries: dict[int, list[bytes]], waiting: list[fx.Effect]) -> None:
        """Writing entries earlier than their turn is safe: they say what was signed, whether or not it was sent."""
        for round, raws in entries.items():
            await self._seams.offload(self._seams.runs.append, self.run_id, round, raws)
        entries.clear()
        for effect in waiting:
            await self._do(effect)
        waiting.clear()

    async def _do(self, effect: fx.Effect) -> None:
        seams = self._seams
        match effect:
            case fx.Broadcast(message):
                seams.overlay.send(self._audience(), message)
                if isinstance(message, AbstainedMessage):
                    seams.tell(Abstained(run=self.run_id.hex(), round=message.round))
            case fx.Publish(message):
                self._spawn(self.publish, message)
            case fx.Send(peer, message):
                seams.overlay.send((peer,), message)
            case fx.StartTimer(timer, after_s):
                self._driver.start_timer(timer, after_s)
            case fx.Obtain():
                self._spawn(self._while_round_lasts, self._work.obtain, effect)
            case fx.HoldParams():
                self._spawn(self._hold_params, effect)
            case fx.HoldOptimiser():
                self._spawn(self._hold_optimiser, effect)
            case fx.Aggregate():
                self._spawn(self._while_round_lasts, self._work.aggregate, effect)
            case fx.Train():
                self._spawn(self._turns.take, effect)
            case fx.CatchUp(peer, first):
                self._spawn(self.catch_up, peer, first)
            case fx.AskRecords(member):
                self._spawn(self._ask_records, member)
            case fx.Accuse(peer, reason, evidence):
                await self._accuse(peer, reason, evidence)
            case fx.Stepped(round, view, step):
                self._stepped(round, view, step)
            case fx.Arrived(opened):
                self._tell(arrival(self.run_id.hex(), opened))
            case fx.Finished(round):
                self._finished(round)

    async def _accuse(self, peer: PeerId, reason: str, evidence: Evidence | None = None) -> None:
        """Count it, and end what the peer is saying; the owner hears of the first of a kind in each round, since a peer
        can cause any number."""
        if evidence is not None:
            raw = encode(evidence)
            await self._seams.offload(lambda: self._seams.runs.accuse(peer, reason, raw, run=self.run_id))
        else:
            self._seams.book.accuse(peer, reason, self.run_id)
        self._seams.overlay.end_conversation(peer)
        if (peer, reason) not in self._accused and len(self._accused) < MAX_ACCUSED:
            self._accused.add((peer, reason))
            self._seams.tell(Accused(run=self.run_id.hex(), peer=peer, reason=reason))

    def _spawn(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._own_nursery().start_soon(task, *arguments)

    async def _while_round_lasts(self, task: Callable[..., Awaitable[None]], effect: fx.Effect) -> None:
        """What nobody needs once the round is certified ends with it."""
        with trio.CancelScope() as scope:
            self._round_scopes.add(scope)
            await task(effect)
        self._round_scopes.discard(scope)

    def _audience(self) -> frozenset[PeerId]:
        match self.machine:
            case Run() as run:
                return run.audience
            case Gathering() as gathering:
                return gathering.audience
            case Waking() as waking:  # of what the Gathering before it said last: its vote, and checkpoint 0
                return frozenset(waking.head.committee.members)
            case None:
                return frozenset()

    # ---- asking others

    async def _hold_params(self, effect: fx.HoldParams) -> None:
        await self._work.hold_params(effect, lambda: self.head is None or self.head.header.params == effect.cid)
        if self.head is not None and isinstance(self.machine, Run) and self.machine.finished:
            if self._turns.reason:
                await self._work.part()
            else:
                await self._work.evaluate_last(self.head.round, effect.cid)
            self._training_life.cancel()

    async def _hold_optimiser(self, effect: fx.HoldOptimiser) -> None:
        await self._work.hold_optimiser(effect, lambda: self.head is None or self.head.header.optimiser == effect.cid)

    async def catch_up(self, peer: PeerId, first: int) -> None:
        """Ask `peer` for the chain from round `first` on, and follow it."""
        try:
            chain = await self._seams.sync.ask(peer, AskChain(self.run_id, first), Chain)
        except Unavailable:
            return  # asked again when somebody else shows that it is ahead
        await self._driver.inbox.send(fx.Synced(peer, chain.checkpoints))

    async def _ask_records(self, member: PeerId) -> None:
        try:
            held = await self._seams.sync.ask(member, AskVotes(self.run_id), Votes)
        except Unavailable:
            await self._driver.inbox.send(fx.RecordsUnheard(member))
        else:
            await self._driver.inbox.send(fx.RecordsHeard(member, held.items, held.round))

    # ---- from round to round

    async def _commit(self, effect: fx.Commit) -> None:
        head, seams = effect.head, self._seams
        stored = StoredCheckpoint(head.checkpoint, encode(head.state), time.time())
        await seams.offload(seams.runs.commit, self.run_id, head.round, stored)
        self._driver.forget_timers()
        self._turns.end_round()
        for scope in self._round_scopes:
            scope.cancel()
        self._accused.clear()
        now = self._moved()
        told = certified(stored, now - self._certified_at, seams.envelopes)
        self.rounds = [*self.rounds[1 - KEPT_ROUNDS :], told]
        self._certified_at = now
        seams.tell(told)
        for change in roster_changes(head):
            seams.tell(change)
        self._tell_of_departure(head)
        await self._look_whether_out(head)
        self._want_members(head)
        changed, self._head_changed = self._head_changed, trio.Event()
        changed.set()
        self._spawn(self._work.clean, head.round - self._kept_rounds)

    @property
    def _kept_rounds(self) -> int:
        """Of deltas: as long as they may still enter a checkpoint, and as the owner wishes."""
        return max(self._seams.keep_updates, self.spec.record.policy.late_rounds)

    def _tell_of_departure(self, head: Head) -> None:
        """The owner should not have to find out by looking."""
        me = self._seams.envelopes.peer_id
        reasons = [departure.reason for departure in head.header.left if departure.peer == me]
        for reason in (reason for reason in reasons if reason != "left"):
            said = f"round {head.round}: this node is no member any more: it was {reason}"
            self._seams.tell(LogLine(run=self.run_id.hex(), level="warning", sentence=said))
            self._spawn(self._work.part)

    def _tell(self, event: AnyEvent | None) -> None:
        if event is not None:
            self._seams.tell(event)

    # ---- leaving, resting, the clock

    async def _say_leave(self) -> None:
        """To the members, or to those who have joined."""
        envelopes, head = self._seams.envelopes, self.head
        leave = envelopes.seal(Leave(self.run_id, max(1, head.round) if head else 0))
        await self.stand(msgspec.structs.replace(self.standing, leave=leave.raw))
        if isinstance(self.machine, Gathering):
            self.machine.withdraw(leave)
        else:
            await self.receive(envelopes.peer_id, Records(self.run_id, (leave.raw,)))

    async def _look_whether_out(self, head: Head) -> None:
        """Once this node wants to leave: out is whom the newest checkpoint has not as a member, and whose Joins can
        bring it back no more; and who would be the last, whom no checkpoint lets go [M8]."""
        leave, me = self._own_leave(), self._seams.envelopes.peer_id
        if leave is None or self.standing.has_left:
            return
        mine = head.members.get(me)
        if mine is None:
            has_left = head.round == 0 or any(departure.peer == me for departure in head.header.left)
            if has_left or me in head.state.expelled or head.round > self._own_join().record.round + JOIN_LIFETIME:
                await self.part()
        elif len(head.members) == 1:
            await self.part()
        elif leave.record.round < max(1, mine.since):
            self._spawn(self._say_leave)  # it had asked to join before it wanted to leave

    async def _abstain(self, round: int) -> None:
        await self._driver.inbox.send(fx.TrainingFailed(round))

    @property
    def _is_over(self) -> bool:
        until = self.spec.record.stop.until
        return 0 < until <= self._seams.unix_time()

    async def _watch_clock(self) -> None:
        """Until the run's time is over, if it has one."""
        until = self.spec.record.stop.until
        if not until:
            return
        while True:
            left_s = until - self._seams.unix_time()
            if left_s <= 0:
                break
            await trio.sleep(min(CLOCK_S, left_s))
        await self._driver.inbox.send(fx.TimeUp())

    def _want_gathered(self, gathering: Gathering) -> None:
        """Connections to whom the beginning concerns, as soon as they are heard of."""
        first = self.spec.record.policy.first_members
        for here, peer in enumerate(gathering.requests, 1):
            if peer not in self._here:
                self._here.add(peer)
                self._tell(MemberGathered(run=self.run_id.hex(), peer=peer, here=here, first_members=first))
        if gathering.audience != self._gathered:
            self._gathered = gathering.audience
            self._seams.overlay.want(self.run_id, gathering.audience, gathering.addresses)

    def _want_members(self, head: Head) -> None:
        match self.machine:
            case Run() as run:
                self._seams.overlay.want(self.run_id, run.companions, run.notices.addresses)
            case _:
                self._seams.overlay.want(self.run_id, frozenset(head.committee.members))

    def _stepped(self, round: int, view: int, step: str) -> None:
        stepped = StepChanged(run=self.run_id.hex(), round=round, view=view, step=step)
        if stepped != self.step:
            self.step = stepped
            self._moved()
            self._seams.tell(stepped)

    def _moved(self) -> float:
        """The round moves now, in trio's time."""
        self.progress_at, self.moved_at = trio.current_time(), time.time()
        return self.progress_at

    def _finished(self, round: int) -> None:
        ended = self.head.header.ended if self.head is not None else ""
        self._seams.tell(RunFinished(run=self.run_id.hex(), round=round, ended=ended))

    # ---- to and from everybody

    @property
    def topic(self) -> str:
        """Where certificates, joins and evidence of the run go."""
        return f"primep2p/{self._seams.envelopes.network}/run/{self.run_id.hex()}"

    async def publish(self, message: OverlayMessage) -> None:
        """By gossip, to members and to those who would be."""
        try:
            await self._seams.host.publish(self.topic, encode(message))
        except Unavailable:
            return  # nothing relies on one message

    async def _listen(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with self._seams.host.subscribe(self.topic) as heard:
            task_status.started()
            async for message in heard:
                try:
                    inner: OverlayMessage = decode(OverlayMessage, message.payload)  # type: ignore[arg-type]
                except PeerError as error:
                    await self._accuse(message.origin, error.sentence)
                    continue
                if isinstance(inner, Certified | Records | Proven):
                    await self._driver.inbox.send(fx.Received(message.origin, inner, published=True))

    async def _provide(self) -> None:
        """Tell the directory that this node is in the run and has what the head names: the newest only, now and then,
        and never on the round's path."""
        while True:
            changed = self._head_changed
            if self.head is not None:
                header = self.head.header
                for cid in (header.params, header.optimiser):
                    if cid is not None:
                        await self._seams.transfer.provide(cid)
            await trio.sleep(PROVIDE_EVERY_S)
            await changed.wait()
