"""A round's work on this node: fetching and checking deltas, training, aggregating, evaluating."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from primep2p.core import effects as fx
from primep2p.kernels.backends.seam import Backend
from primep2p.model.errors import BlobLost, PeerError, PluginError, Unavailable
from primep2p.model.ids import Cid, PeerId, RunId
from primep2p.model.pipeline import Float32, Wire
from primep2p.model.records import Metric, RunSpec, TensorSpec
from primep2p.model.views.events import Accused, Evaluated, LogLine
from primep2p.services.aggregating.aggregation import Job, aggregate, state_tensors
from primep2p.services.seams import Seams, TrainingVerbs
from primep2p.services.training.sending import Sender
from primep2p.store.deltas import check_delta, delta_bytes

__all__ = ["Work"]

RETRY_S = 1.0
"""Between two tries to have the head's params: without them this node can neither train nor vote."""

UNKNOWN_START_S = 5.0
"""What starting a trainer is taken to cost until that is known."""


class _Asked:
    """A training that is asked for and not over. The first of them has its turn, since `turn_at`."""

    def __init__(self, round: int, now: float) -> None:
        self.round = round
        self.turn_at = now
        self.scope = trio.CancelScope()


class Work:
    """Verbs are tasks of the run's nursery; each ends with an event to `send`, or with StoreError."""

    def __init__(
        self,
        run: RunId,
        spec: RunSpec,
        seams: Seams,
        training: TrainingVerbs,
        send: Callable[[fx.Event], Awaitable[None]],
        nursery: Callable[[], trio.Nursery],
    ) -> None:
        self._run = run
        self._spec = spec
        self._seams = seams
        self._training = training
        self._send = send
        self._nursery = nursery
        self._trainings: list[_Asked] = []
        self._start_s = UNKNOWN_START_S
        self._is_started = False
        self._verified: set[str] = set()
        """Kinds of what a head names of which one was looked at since the start."""
        self._evaluating = False
        self._deltas: dict[int, set[Cid]] = {}
        self._own: set[Cid] = set()
        """Of the deltas, those that this node made."""
        self._certified: set[Cid] = set()
        """What certified checkpoints name: never removed, not even where a delta has the same bytes."""
        self._sender = Sender(run, spec, seams)

    async def obtain(self, effect: fx.Obtain) -> None:
        """Fetch a delta and check it: what a member lists, it has seen to be right."""
        seams = self._seams
        self._claim(effect.round, effect.delta, is_here=seams.blobs.has(effect.delta))
        try:
            wire = self._spec.pipeline.wire
            size_bytes = delta_bytes(wire, self._spec.tensors)
            await seams.transfer.fetch(effect.delta, effect.providers, max_bytes=size_bytes)
            await seams.offload(self._check, effect.delta, wire)
        except Unavailable:
            await self._send(fx.Unobtained(effect.update))
        except BlobLost:
            self._tell_of_loss()
            await self._send(fx.Unobtained(effect.update))
        except PeerError as error:
            await self._send(fx.Refused(effect.update, error.sentence))
        else:
            await self._send(fx.Obtained(effect.update))

    def _check(self, blob: Cid, wire: Wire) -> None:
        check_delta(self._seams.blobs.path(blob), wire, self._spec.tensors)

    async def hold_params(self, effect: fx.HoldParams, is_wanted: Callable[[], bool]) -> None:
        """The head's params, however long it takes: nothing can go on without them."""
        try:
            if await self._hold("params", effect.cid, effect.providers, self._spec.tensors, is_wanted):
                await self._send(fx.ParamsHeld(effect.cid))
        except PeerError as error:  # nothing can begin from these
            self._seams.tell(Accused(run=self._run.hex(), peer=self._spec.creator, reason=error.sentence))

    async def hold_optimiser(self, effect: fx.HoldOptimiser, is_wanted: Callable[[], bool]) -> None:
        """The optimiser's state that the head names, however long it takes: without it this node cannot vote."""
        tensors = state_tensors(self._spec.pipeline.outer, self._spec.tensors)
        if await self._hold("optimiser", effect.cid, effect.providers, tensors, is_wanted):
            await self._send(fx.OptimiserHeld(effect.cid))

    async def _hold(
        self,
        kind: str,
        cid: Cid,
        providers: Sequence[PeerId],
        tensors: Sequence[TensorSpec],
        is_wanted: Callable[[], bool],
    ) -> bool:
        """Have the file of `tensors` that the head names, durably; False where nobody wants it any more. Raises
        PeerError where it is the run's first params, and no model."""
        seams, max_bytes = self._seams, delta_bytes(Float32(), tensors)
        self._certified.add(cid)
        if kind not in self._verified:  # what lay on the disk while nobody looked: once for each start
            self._verified.add(kind)
            await seams.offload(seams.blobs.verify, cid)
        while is_wanted():
            try:
                if not seams.blobs.has(cid):
                    await seams.transfer.fetch(cid, providers, max_bytes=max_bytes, durable=True)
                if cid == self._spec.params:
                    await seams.offload(self._check, cid, Float32())
            except Unavailable:
                await trio.sleep(RETRY_S)
                continue
            return True
        return False

    async def aggregate(self, effect: fx.Aggregate) -> None:
        """The next params and the optimiser's next state, durably: a precommit rests on them."""
        choice = await self._seams.compute.chosen()
        try:
            aggregated = await self._seams.offload(self._aggregate, effect, choice.backend)
        except PeerError:
            return  # a quorum certified params that are no model: nothing can follow from them
        except BlobLost:
            self._tell_of_loss()
            return
        await self._send(aggregated)

    def _aggregate(self, effect: fx.Aggregate, backend: Backend) -> fx.Aggregated:
        blobs, scratch = self._seams.blobs, self._seams.scratch
        name = f"{self._run.hex()[:16]}-{effect.key.hex()[:16]}"
        job = Job(
            pipeline=self._spec.pipeline.weighing,
            tensors=self._spec.tensors,
            base=blobs.path(effect.base),
            optimiser=blobs.path(effect.optimiser) if effect.optimiser is not None else None,
            deltas=[blobs.path(delta) for delta in effect.deltas],
            counts=effect.weights,
            seed=effect.seed,
            params_out=scratch / f"{name}.safetensors",
            optimiser_out=scratch / f"{name}-optimiser.safetensors",
        )
        result = aggregate(job, backend=backend, each=self._seams.compute.each)
        optimiser, params = (
            blobs.add(path, durable=True) if path is not None else None for path in (result.optimiser, result.params)
        )
        return fx.Aggregated(effect.round, effect.key, params, optimiser, result.reason)

    async def prepare(self) -> None:
        """Start the trainer while this node still finds its place in the run: others wait for no newcomer's."""
        since = trio.current_time()
        try:
            await self._training.prepare()
        except (PluginError, Unavailable):
            return  # told of when it is to train
        self._note_start(trio.current_time() - since)

    async def train(self, round: int, params: Cid) -> None:
        seams = self._seams
        self._end_trainings()
        mine = _Asked(round, trio.current_time())
        self._trainings.append(mine)
        with mine.scope:
            try:
                path = await seams.offload(seams.blobs.path, params)
                trained = await self._training.train(round, path)
                self._note_start(trio.current_time() - mine.turn_at - trained.seconds)
                delta = await self._sender.pack(round, trained.delta)
            except (PluginError, Unavailable):
                self._is_started = False
                await self._send(fx.TrainingFailed(round))
            except BlobLost:
                self._tell_of_loss()
                await self._send(fx.TrainingFailed(round))
            else:
                self._own.add(delta)
                self._claim(round, delta, is_here=False)
                metrics = tuple(Metric(name, value) for name, value in sorted(trained.metrics.items()))
                await self._send(fx.Trained(round, delta, trained.examples, metrics))
        self._trainings.remove(mine)
        if self._trainings:
            self._trainings[0].turn_at = trio.current_time()
        if not mine.scope.cancelled_caught:
            self.evaluate(round - 1, params)

    def _note_start(self, besides_training_s: float) -> None:
        """The first training of a trainer's process takes longer than its own time, by what the start costs."""
        if not self._is_started:
            self._is_started = True
            self._start_s = besides_training_s

    def _end_trainings(self) -> None:
        """Of rounds that are over: those that wait for their turn, and the one that has it, if it has cost more than
        starting the trainer anew does. Else a node that is one training behind would stay behind."""
        now = trio.current_time()
        for place, asked in enumerate(self._trainings):
            if place:
                asked.scope.cancel()
            elif now - asked.turn_at > self._start_s:
                self._is_started = False
                asked.scope.cancel()
                said = f"training for round {asked.round} is stopped: after {now - asked.turn_at:.1f} s it is too late"
                self._seams.tell(LogLine(run=self._run.hex(), level="warning", sentence=said))

    def evaluate(self, round: int, params: Cid) -> None:
        """In the trainer's spare time, while others still train."""
        if not self._evaluating:
            self._evaluating = True
            self._nursery().start_soon(self._evaluation, round, params)

    async def evaluate_last(self, round: int, params: Cid) -> None:
        """At the run's end; returns when it is done."""
        self._end_trainings()
        await self._sender.forget()
        await self._evaluation(round, params)

    async def part(self) -> None:
        """This node is no member any more."""
        await self._sender.forget()

    async def _evaluation(self, round: int, params: Cid) -> None:
        try:
            path = await self._seams.offload(self._seams.blobs.path, params)
            metrics = await self._training.evaluate(round, path)
        except (PluginError, Unavailable):
            return  # the owner has heard of it
        except BlobLost:
            self._tell_of_loss()
            return
        finally:
            self._evaluating = False
        if metrics:
            self._seams.tell(Evaluated(run=self._run.hex(), round=round, metrics=metrics))

    def _tell_of_loss(self) -> None:
        """It costs what needed the blob, and no more."""
        said = "a blob was damaged on this disk, and is set aside: this node does without what needed it"
        self._seams.tell(LogLine(run=self._run.hex(), level="warning", sentence=said))

    async def clean(self, last: int) -> None:
        """Remove deltas of rounds up to `last`, but for those that a later round has too, and for what others called
        a delta and something else on this node wants to stay: a model of another run may have been announced so."""
        old = {cid for round in list(self._deltas) if round <= last for cid in self._deltas.pop(round)}
        old.difference_update(self._certified, *self._deltas.values())
        for cid in old:
            if self._seams.claims.let_go(cid, self._run):
                await self._seams.offload(self._remove, cid, cid not in self._own)
            self._own.discard(cid)

    def _claim(self, round: int, delta: Cid, *, is_here: bool) -> None:
        """Also one that is here for another round or another run: it goes when the last of them is over."""
        self._deltas.setdefault(round, set()).add(delta)
        self._seams.claims.hold(delta, self._run, is_here=is_here)

    def _remove(self, cid: Cid, unless_durable: bool) -> None:
        if not self._seams.claims.is_held(cid):  # claimed again meanwhile
            self._seams.blobs.remove(cid, unless_durable=unless_durable)
