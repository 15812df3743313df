"""A run's trainer as the daemon sees it: its process is started when asked and killed when it misbehaves.

Nothing that comes back is trusted: answers are typed and bounded, result files are compared with the run's tensors.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from primep2p.config import TrainerLimits
from primep2p.model.errors import CallError, PluginError, Unavailable
from primep2p.model.records import Scalar, TensorSpec
from primep2p.model.text import printable
from primep2p.plugin import frames
from primep2p.plugin.arrays import check_arrays
from primep2p.plugin.child import Child, Fault, Late, Log, live
from primep2p.plugin.discovery import find
from primep2p.plugin.limits import LOOK_EVERY_S, NO_LIMITS, excess, usage_of
from primep2p.plugin.stopwatch import Stopwatch
from primep2p.plugin.tensors import check_file
from primep2p.tasks import TaskStatus

__all__ = ["InitialModel", "Interrupted", "Made", "OnLife", "Report", "Trained", "TrainerWorker", "Worker"]

SILENT_S = 120.0
"""A trainer that reports nothing for so long is taken to hang. Importing a large framework takes 10 to 30 s."""

DEADLINE_S = 600.0
"""For first params, evaluation and prediction; training gets its deadline from the round."""

Report = Callable[[int, int, float], None]
"""step, steps (0: unknown), loss (may be NaN)."""

OnLife = Callable[[int, bool], None]
"""The id of a trainer's process, and whether it runs now or ends."""


@dataclass(frozen=True, slots=True)
class InitialModel:
    """The first params of a run as a safetensors file, which the caller takes over, and what is in it."""

    params: Path
    tensors: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Trained:
    """A checked delta as a safetensors file, which the caller takes over; `seconds` is how long training took."""

    delta: Path
    examples: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Made:
    """What a trainer is, by the word of its own process."""

    abi_version: int
    predicts: bool


class Interrupted(PluginError):
    """A training failed before its deadline, after `spent_s`, and has saved a later step than any before it: asked for
    again, it goes on from there."""

    def __init__(self, failure: PluginError, spent_s: float) -> None:
        super().__init__(failure.sentence, stderr=failure.stderr, hint=failure.hint)
        self.spent_s = spent_s


def _tell_nobody(pid: int, runs: bool) -> None:
    """Of whoever does not ask."""


def _say_nothing(step: int, steps: int, loss: float) -> None:
    """The report of whoever wants none."""


def _leave_empty(scratch: Path) -> None:
    """The scratch directory of a trainer that needs nothing in it."""


class TrainerWorker(Protocol):
    """The seam to a run's trainer. One request at a time. Verbs raise PluginError, or Unavailable once stopped;
    cancelling one kills the trainer, which is made anew at the next request."""

    on_life: OnLife
    """Hears of each process that it starts, and of its end. Set before `run`."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then the trainer is gone."""
        ...

    async def prepare(self) -> Made:
        """Makes the trainer, so that the next request finds it made."""
        ...

    async def init(self, seed: int, *, report: Report = _say_nothing) -> InitialModel:
        """The first params of a run."""
        ...

    async def train(
        self, round: int, seed: int, params: Path, *, deadline_s: float, report: Report = _say_nothing
    ) -> Trained:
        """What training makes of the file `params`, at most `deadline_s` from now. Where the same training was cut
        short before, by its trainer's fault or the daemon's end, the trainer has what it saved of it. Raises
        Interrupted too."""
        ...

    async def evaluate(self, round: int, seed: int, params: Path, *, report: Report = _say_nothing) -> dict[str, float]:
        """What the trainer measures of the file `params` on this node's data."""
        ...

    async def predict(self, params: Path, inputs: Path) -> Path:
        """What the model in the file `params` says of the arrays in the file `inputs`: a safetensors file, which the
        caller takes over. Raises CallError where `inputs` cannot be used."""
        ...

    def pause(self) -> None:
        """Stop the trainer with all its children, and what counts its time, until `resume`; once more changes nothing.
        Requests wait; cancelling one kills the trainer as ever, and it dies with the daemon."""
        ...

    def resume(self) -> None:
        """Go on; changes nothing where it goes."""
        ...


A = TypeVar("A", bound=frames.Numbered)


class Worker:
    """Supervises the process of a run's trainer: started at the first request, and again after a fault.

    `directory` becomes this worker's own: results, the trainer's log, its scratch directory. `tensors` may be empty
    for a run that `init` is to define. `environment` names variables that trainers are given besides the usual ones.
    What the trainer prints goes to `log`, else to a file in `directory`; what it unpickles too, if `is_watched`.
    `furnish` puts into the scratch directory what
    the trainer needs there, before each start; it blocks, and may raise PluginError.
    """

    def __init__(
        self,
        trainer: str,
        *,
        plugins: Mapping[str, str],
        config: Mapping[str, Scalar | list[Scalar]],
        data: Path | None,
        directory: Path,
        tensors: tuple[TensorSpec, ...] = (),
        silent_s: float = SILENT_S,
        limits: TrainerLimits = NO_LIMITS,
        environment: Collection[str] = (),
        log: Path | None = None,
        is_watched: bool = False,
        furnish: Callable[[Path], None] = _leave_empty,
    ) -> None:
        self._trainer = trainer
        self._plugins = plugins
        self._config = config
        self._data = data
        self._directory = directory.absolute()
        self._tensors = tensors
        self._silent_s = silent_s
        self._limits = limits
        self._environment = environment
        self.on_life: OnLife = _tell_nobody
        self._is_watched = is_watched
        self._furnish = furnish
        self._log = Log((log or self._directory / "trainer.log").absolute())
        self._nursery: trio.Nursery | None = None
        self._child: Child | None = None
        self._clock = Stopwatch()
        self._looking = trio.CancelScope()
        self._number = 0
        self._busy = False
        self._saving: tuple[int, int] | None = None
        """Round and seed of the training that last failed, or is under way."""
        self._saved_step = -1
        """Of that training, the latest; -1: none."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then the process is killed with all it forked, and reaped."""
        for directory in (self._directory, self._directory / "scratch", self._log.path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        for leftover in self._directory.glob("result-*.safetensors"):
            leftover.unlink()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # before the process ends, which is then no fault of its own
                self._clock.resume()  # whoever waits for that hears that there is no trainer any more

    @property
    def group(self) -> int | None:
        """Of the trainer's processes, while there are some."""
        return None if self._child is None or self._child.gone.is_set() else self._child.group

    @property
    def saved_step(self) -> int | None:
        """The latest that the training under way, or the last one, has saved."""
        return self._saved_step if self._saved_step >= 0 else None

    async def prepare(self) -> Made:
        """Makes the trainer, so that the next request finds it made."""
        async with self._usable():
            child = await self._ready(self._clock.now() + DEADLINE_S)
            return Made(child.abi_version, child.predicts)

    async def init(self, seed: int, *, report: Report = _say_nothing) -> InitialModel:
        """The first params of a run."""
        result = self._next_result()

        def check(answer: frames.Initialised) -> None:
            check_file(result, answer.tensors)

        request = frames.Initialise(self._number, seed, str(result))
        answer, _ = await self._ask(request, frames.Initialised, check, DEADLINE_S, report)
        self._tensors = self._tensors or answer.tensors
        return InitialModel(result, answer.tensors)

    async def train(
        self, round: int, seed: int, params: Path, *, deadline_s: float, report: Report = _say_nothing
    ) -> Trained:
        """What training makes of the file `params`, at most `deadline_s` from now."""
        result = self._next_result()

        def check(answer: frames.Trained) -> None:
            check_metrics(answer.metrics)
            check_file(result, self._tensors)

        if self._saving != (round, seed):
            self._saving, self._saved_step = (round, seed), -1
        begun_at, begin_s = self._saved_step, self._clock.now()
        saved = self._directory / "checkpoint.safetensors"
        request = frames.Train(self._number, round, seed, _absolute(params), str(result), str(saved))
        try:
            answer, seconds = await self._ask(request, frames.Trained, check, deadline_s, report)
        except PluginError as error:
            if self._saved_step > begun_at and (spent_s := self._clock.now() - begin_s) < deadline_s:
                raise Interrupted(error, spent_s) from error
            saved.unlink(missing_ok=True)  # it may be what it fails of
            raise
        return Trained(result, answer.examples, answer.metrics, seconds)

    async def evaluate(self, round: int, seed: int, params: Path, *, report: Report = _say_nothing) -> dict[str, float]:
        """What the trainer measures of the file `params` on this node's data."""
        self._next_result()  # numbered, though its result is no file

        def check(answer: frames.Evaluated) -> None:
            check_metrics(answer.metrics)

        request = frames.Evaluate(self._number, round, seed, _absolute(params))
        answer, _ = await self._ask(request, frames.Evaluated, check, DEADLINE_S, report)
        return answer.metrics

    async def predict(self, params: Path, inputs: Path) -> Path:
        """What the model in the file `params` says of the arrays in the file `inputs`."""
        try:
            await trio.to_thread.run_sync(check_arrays, inputs)
        except (OSError, ValueError) as error:
            raise CallError(f"{inputs} cannot be given to a model: {error}") from error
        result = self._next_result()

        def check(answer: frames.Predicted) -> None:
            check_arrays(result)

        request = frames.Predict(self._number, _absolute(params), _absolute(inputs), str(result))
        await self._ask(request, frames.Predicted, check, DEADLINE_S, _say_nothing)
        return result

    def pause(self) -> None:
        """Stop the trainer and its time."""
        self._clock.pause()
        if self._child is not None:
            self._child.stop()

    def resume(self) -> None:
        """Go on."""
        self._clock.resume()
        if self._child is not None:
            self._child.go_on()

    def _next_result(self) -> Path:
        self._number += 1
        return self._result()

    def _result(self) -> Path:
        return self._directory / f"result-{self._number}.safetensors"

    async def _ask(
        self, request: frames.Request, wanted: type[A], check: Callable[[A], None], deadline_s: float, report: Report
    ) -> tuple[A, float]:
        """The checked answer, and its seconds."""
        async with self._usable():
            allowed_s = min(deadline_s, self._limits.wall_s or deadline_s)
            try:
                answer, seconds = await self._exchange(request, wanted, self._clock.now() + allowed_s, report)
            except Late:
                if allowed_s == deadline_s:
                    raise
                said = f" took longer than the {allowed_s:g} s that trainer.wall_s of node.toml allows: raise it, or"
                raise Fault(f"{said} take fewer steps") from None
            await trio.to_thread.run_sync(check, answer)
            return answer, seconds

    @asynccontextmanager
    async def _usable(self) -> AsyncIterator[None]:
        """The process to oneself. Whatever ends this early kills it and removes the result."""
        if self._busy:
            raise trio.BusyResourceError("a trainer answers one request at a time")
        self._busy, usable = True, False
        try:
            yield
            usable = True
        except Fault as fault:
            raise await self._failed(str(fault)) from None
        except (OSError, ValueError) as error:
            raise await self._failed(f" gave a result that cannot be used: {error}") from error
        finally:
            self._busy = False
            self._looking.cancel()
            if not usable:
                self._result().unlink(missing_ok=True)
                if self._child is not None:
                    self._child.kill()

    async def _exchange(
        self, request: frames.Request, wanted: type[A], finish_s: float, report: Report
    ) -> tuple[A, float]:
        child = await self._ready(finish_s)
        self._look_after(child)
        begin_s = self._clock.now()
        await child.send(request)
        while isinstance(answer := await self._answer(child, finish_s), frames.Reported | frames.Saved):
            if answer.number != self._number:
                continue
            if isinstance(answer, frames.Reported):
                report(answer.step, answer.steps, answer.loss)
            else:
                self._saved_step = max(self._saved_step, answer.step)
        if isinstance(answer, frames.Failed):
            raise Fault(f": {answer.sentence}")
        if not isinstance(answer, wanted) or answer.number != self._number:
            raise Fault(" gave an answer that nothing asked for")
        return answer, self._clock.now() - begin_s

    def _look_after(self, child: Child) -> None:
        """Until the request is over, the child keeps its limits or is killed."""
        self._looking.cancel()
        self._looking = trio.CancelScope()
        if self._nursery is not None and (self._limits.memory_mib or self._limits.cpu_s):
            self._nursery.start_soon(self._look, child, self._looking)

    async def _look(self, child: Child, scope: trio.CancelScope) -> None:
        with scope:
            before = await trio.to_thread.run_sync(usage_of, child.group)
            while True:
                await trio.sleep(LOOK_EVERY_S)
                used = await trio.to_thread.run_sync(usage_of, child.group)
                if too_much := excess(used, before, self._limits):
                    child.blame = Fault(too_much)
                    child.kill()
                    return

    async def _answer(self, child: Child, finish_s: float) -> frames.Answer:
        return await child.answer(self._silent_s, finish_s, self._clock)

    async def _ready(self, finish_s: float) -> Child:
        """The living process with its trainer made."""
        await self._clock.running()
        if self._nursery is None:
            raise Unavailable("the trainer is stopped")
        if self._child is not None and not self._child.killed and not self._child.gone.is_set():
            return self._child
        if self._child is not None:
            await self._child.gone.wait()
        code = await trio.to_thread.run_sync(find, self._trainer, self._plugins)
        scratch = self._directory / "scratch"
        await trio.to_thread.run_sync(self._furnish, scratch)
        data = "" if self._data is None else _absolute(self._data)
        try:
            child: Child = await self._nursery.start(live, scratch, self._log, self._environment)
        except OSError as error:
            raise Fault(f" cannot be started: {error.strerror}") from error
        self._child = child
        if self._clock.is_paused:  # in the meantime
            child.stop()
        self._look_after(child)
        if self._nursery is not None:
            self._nursery.start_soon(self._tell_of_life, child)
        config, watched = dict(self._config), self._is_watched
        await child.send(frames.Load(code.location, code.attribute, config, data, str(scratch), watched))
        match answer := await self._answer(child, finish_s):
            case frames.Loaded():
                child.abi_version, child.predicts = answer.abi_version, answer.predicts
                return child
            case frames.Failed(sentence=sentence):
                raise Fault(f": {sentence}")
            case _:
                raise Fault(" gave an answer that nothing asked for")

    async def _tell_of_life(self, child: Child) -> None:
        self.on_life(child.pid, True)
        try:
            await child.gone.wait()
        finally:
            self.on_life(child.pid, False)

    async def _failed(self, what: str) -> PluginError | Unavailable:
        """The process is gone and its log complete when this returns."""
        if self._child is not None:
            self._child.kill()
            await self._child.gone.wait()
        if self._nursery is None:
            return Unavailable("the trainer is stopped")
        sentence = printable(f"trainer {self._trainer}{what}")
        hint = f"its log: {self._log.path}" if self._log.path.exists() else ""  # it may have printed nothing
        return PluginError(sentence, stderr=self._log.tail(), hint=hint)


def _absolute(path: Path) -> str:
    """The process has another working directory."""
    return str(path.absolute())


def check_metrics(metrics: Mapping[str, float]) -> None:
    """Raises ValueError where one is not finite; their number and names are bounded by the frame's type."""
    for name, value in metrics.items():
        if not isfinite(value):
            raise ValueError(f"metric {name!r} is not finite")
