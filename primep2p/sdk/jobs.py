"""A round's training in a loop of one's own: what `next_job` of the clients gives.

What is done over the socket is written once, as steps: a generator that yields calls and is sent their answers. The
blocking client takes them one after the other; the async one in a thread, as some of them read and write files.
"""

import os
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import anyio.to_thread
import numpy as np
import numpy.typing as npt

from primep2p.control.calls.call import Call
from primep2p.control.calls.jobs import MAX_WAIT_S, PIECE_BYTES, JobNext, JobParams, JobReport, JobSubmit, JobUpload
from primep2p.model.errors import CallError
from primep2p.model.records import Scalar, TensorSpec
from primep2p.model.views.jobs import JobAccepted, JobOpen, JobRefused, JobRejected, Refusal, Rejection
from primep2p.plugin.tensors import create_mapped, open_mapped

__all__ = ["BlockingJob", "Given", "Job", "NoJob", "Receipt", "Steps", "asked", "driven", "driven_in_thread", "sought"]

T = TypeVar("T")

Array = npt.NDArray[np.float32]

Steps = Generator[Call[Any], Any, T]
"""Calls to make, each sent its answer; the result is returned."""


@dataclass(frozen=True)
class NoJob:
    """Why there is no job, and when asking again makes sense: `retry_after_s` is None where there will never be one."""

    reason: Rejection
    sentence: str
    retry_after_s: float | None
    accepted: ClassVar[Literal[False]] = False


@dataclass(frozen=True)
class Receipt:
    """Whether an update was taken; if not, `reason` is "late", "stale" (the round is over) or "twice"."""

    taken: bool
    reason: Refusal | None = None
    sentence: str = ""


class Given:
    """A job as it was given: what both kinds of clients have of it."""

    accepted: ClassVar[Literal[True]] = True

    def __init__(self, given: JobAccepted, received: Path | None) -> None:
        self.id = given.job
        self.run = given.run
        self.round = given.round
        self.seed = given.seed
        """Of 53 bits: this node's own in this round."""
        self.trainer = given.trainer
        self.config: Mapping[str, Scalar | list[Scalar]] = MappingProxyType(given.config)
        """trainer_config of the run."""
        self.deadline = given.deadline
        """Unix time."""
        self._tensors = tuple(TensorSpec(each.name, "float32", tuple(each.shape)) for each in given.tensors)
        self._until = time.monotonic() + given.left_s
        self._path = received or Path(given.path)
        self._shares_disk = received is None
        self._params: dict[str, Array] | None = None
        if received is not None:
            self.params()
            received.unlink()  # what is mapped stays

    @property
    def left_s(self) -> float:
        """Seconds until the deadline. A round whose other members are faster may be over sooner."""
        return max(0.0, self._until - time.monotonic())

    def params(self) -> dict[str, Array]:
        """The round's params: arrays over a mapped file, read-only."""
        if self._params is None:
            self._params = open_mapped(self._path)[1]
        return dict(self._params)

    def submitting(
        self,
        params: Mapping[str, npt.ArrayLike] | None,
        delta: Mapping[str, npt.ArrayLike] | None,
        examples: int,
        metrics: Mapping[str, float],
        evaluated: Mapping[str, float],
    ) -> Steps[Receipt]:
        """What `submit` does, as steps."""
        if (params is None) == (delta is None):
            raise ValueError("submit either params or a delta")
        kind: Literal["params", "delta"] = "delta" if params is None else "params"
        arrays = _checked(params if params is not None else delta, self._tensors, kind)
        with tempfile.TemporaryDirectory(prefix="primep2p-job-") as directory:
            path = Path(directory) / "update.safetensors"
            for name, mapped in create_mapped(path, self._tensors).items():
                mapped[...] = arrays[name]
            if not self._shares_disk:
                yield from _uploading(self.id, path)
            answer = yield JobSubmit(
                job=self.id,
                examples=examples,
                path=str(path) if self._shares_disk else "",
                kind=kind,
                metrics=_floats(metrics),
                evaluated=_floats(evaluated),
            )
        return _receipt(answer)

    def _report(self, step: int, loss: float | None, steps: int) -> JobReport:
        return JobReport(job=self.id, step=step, steps=steps, loss=None if loss is None else float(loss))


class Job(Given):
    """Train from `params()`, and `await submit(...)` before `left_s` is over."""

    def __init__(self, client: "AsyncCalls", given: JobAccepted, received: Path | None = None) -> None:
        super().__init__(given, received)
        self._client = client

    async def report(self, step: int, loss: float | None = None, *, steps: int = 0) -> float:
        """Tell the owner how far this is; the seconds that are left, 0 where the job is over."""
        return _left_s(await self._client.call(self._report(step, loss, steps)))

    async def submit(
        self,
        *,
        params: Mapping[str, npt.ArrayLike] | None = None,
        delta: Mapping[str, npt.ArrayLike] | None = None,
        examples: int,
        metrics: Mapping[str, float] = MappingProxyType({}),
        evaluated: Mapping[str, float] = MappingProxyType({}),
    ) -> Receipt:
        """The params after training, or these minus the round's; `evaluated` is of those before training. An update
        that comes too late is no error, and says so. Raises ValueError for arrays that are not the run's, CallError for
        what the daemon refuses otherwise."""
        return await driven_in_thread(self._client, self.submitting(params, delta, examples, metrics, evaluated))


class BlockingJob(Given):
    """Train from `params()`, and `submit(...)` before `left_s` is over."""

    def __init__(self, client: "BlockingCalls", given: JobAccepted, received: Path | None = None) -> None:
        super().__init__(given, received)
        self._client = client

    def report(self, step: int, loss: float | None = None, *, steps: int = 0) -> float:
        """Tell the owner how far this is; the seconds that are left, 0 where the job is over."""
        return _left_s(self._client.call(self._report(step, loss, steps)))

    def submit(
        self,
        *,
        params: Mapping[str, npt.ArrayLike] | None = None,
        delta: Mapping[str, npt.ArrayLike] | None = None,
        examples: int,
        metrics: Mapping[str, float] = MappingProxyType({}),
        evaluated: Mapping[str, float] = MappingProxyType({}),
    ) -> Receipt:
        """As `Job.submit`."""
        return driven(self._client, self.submitting(params, delta, examples, metrics, evaluated))


def asked(make: Callable[[JobAccepted, Path | None], T], run: str, wait_s: float, worker: str) -> Steps[T | NoJob]:
    """Ask for the next job, and for its params where their file cannot be opened here."""
    answer: JobAccepted | JobRejected = yield JobNext(run=run, wait_s=wait_s, worker=worker)
    if isinstance(answer, JobRejected):
        return NoJob(answer.reason, answer.sentence, answer.retry_after_s)
    if os.access(answer.path, os.R_OK):
        return make(answer, None)
    received = yield from _receiving(answer)
    return (
        NoJob("missed", "the round was over before its params were here", 0.0)
        if received is None
        else make(answer, received)
    )


def sought(make: Callable[[JobAccepted, Path | None], T], run: str, worker: str = "") -> Steps[T]:
    """Ask for jobs until there is one. Raises CallError where there will never be one again."""
    while True:
        job = yield from asked(make, run, MAX_WAIT_S, worker)
        if not isinstance(job, NoJob):
            return job
        if job.retry_after_s is None:
            raise CallError(job.sentence)


class BlockingCalls(Protocol):
    """A client that is asked one call at a time."""

    def call(self, call: Call[Any]) -> Any: ...


class AsyncCalls(Protocol):
    """A client that is awaited."""

    async def call(self, call: Call[Any]) -> Any: ...


def driven(client: BlockingCalls, steps: Steps[T]) -> T:
    """What the steps return."""
    answer: Any = None
    while True:
        match _step(steps, answer):
            case _Done(value):
                return value  # type: ignore[no-any-return]
            case call:
                try:
                    answer = client.call(call)
                except BaseException as error:
                    return _thrown(steps, error)


async def driven_in_thread(client: AsyncCalls, steps: Steps[T]) -> T:
    """What the steps return: between their calls they run in a thread."""
    answer: Any = None
    while True:
        match await anyio.to_thread.run_sync(_step, steps, answer):
            case _Done(value):
                return value  # type: ignore[no-any-return]
            case call:
                try:
                    answer = await client.call(call)
                except BaseException as error:
                    return _thrown(steps, error)


@dataclass(frozen=True)
class _Done:
    value: Any


def _step(steps: Steps[Any], answer: Any) -> Any:
    """The next call, or what is returned: StopIteration goes through no thread."""
    try:
        return steps.send(answer)
    except StopIteration as end:
        return _Done(end.value)


def _thrown(steps: Steps[T], error: BaseException) -> T:
    """The steps clean up; none of them goes on after an error."""
    steps.close()
    raise error


def _receiving(given: JobAccepted) -> Steps[Path | None]:
    """The params' file, which the caller removes; None where the job is over before it is whole."""
    descriptor, name = tempfile.mkstemp(prefix="primep2p-params-", suffix=".safetensors")
    is_whole = False
    try:
        with open(descriptor, "wb") as file:
            while (offset := file.tell()) < given.size_bytes:
                piece = yield JobParams(job=given.job, offset=offset)
                if isinstance(piece, JobRefused):
                    return None
                file.write(piece.data)
        is_whole = True
    finally:
        if not is_whole:
            os.unlink(name)
    return Path(name)


def _uploading(job: str, path: Path) -> Steps[None]:
    """Where the job is over meanwhile, the submission that follows says so."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            answer = yield JobUpload(job=job, offset=file.tell() - len(piece), data=piece)
            if isinstance(answer, JobRefused):
                return


def _checked(made: Mapping[str, npt.ArrayLike] | None, tensors: Sequence[TensorSpec], kind: str) -> dict[str, Array]:
    """As float32 in the run's shapes. Raises ValueError."""
    given = dict(made or {})
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    if odd := sorted(map(str, given.keys() ^ shapes.keys())):
        raise ValueError(f"{kind} and the run's tensors differ in {', '.join(odd[:5])}")
    arrays: dict[str, Array] = {}
    for name, shape in shapes.items():
        array = np.asarray(given[name])
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{kind} {name!r} is {array.dtype}, and must be floats")
        if array.shape != shape:
            raise ValueError(f"{kind} {name!r} has shape {array.shape}, the run's has {shape}")
        arrays[name] = array.astype(np.float32, copy=False)
    return arrays


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Numpy's numbers are fine."""
    return {name: float(value) for name, value in metrics.items()}


def _left_s(answer: JobOpen | JobRefused) -> float:
    return 0.0 if isinstance(answer, JobRefused) else answer.left_s


def _receipt(answer: Any) -> Receipt:
    if not isinstance(answer, JobRefused):
        return Receipt(taken=True)
    if answer.reason in ("malformed", "unknown"):
        raise CallError(answer.sentence)
    return Receipt(taken=False, reason=answer.reason, sentence=answer.sentence)
