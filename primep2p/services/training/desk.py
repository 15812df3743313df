"""A run's training as jobs: each round's is offered to whoever asks, and what comes back is checked as a plugin's is.

A job goes to one worker at a time, by whatever name it has given itself, and again to whoever asks by that name: a loop
that died and was started anew goes on with the job that it had. To another name it goes once its worker has been silent
for too long.
"""

import os
import time
from collections.abc import Callable, Mapping
from hashlib import file_digest, sha256
from math import isfinite
from pathlib import Path
from typing import Literal

import trio

from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.records import TensorSpec
from primep2p.model.views.events import JobChanged, TrainingReported
from primep2p.plugin.process import Trained
from primep2p.services.training.training import TrainingEvent
from primep2p.store.files import disk
from primep2p.store.intake import take_in
from primep2p.store.tensors import most_bytes
from primep2p.tasks import Offload, TaskStatus

__all__ = ["Desk", "Job"]

REPORT_EVERY_S = 0.1
"""A progress bar needs no more; a loop may report every step."""

_RUN_DIGITS = 16
"""Of the run's id, in a job's."""

Kind = Literal["params", "delta"]


class Job:
    """The training of one round. `over` is set once nobody can do anything about it."""

    def __init__(self, id_: str, round_: int, params: Path, seed: int, deadline_s: float) -> None:
        self.id = id_
        self.round = round_
        self.params = params
        self.seed = seed
        self.state: Literal["open", "taken", "missed"] = "open"
        self.over = trio.Event()
        self.trained: Trained | None = None
        self.worker: str | None = None
        self.begun_at = self.heard_at = trio.current_time()
        """In trio's time: when it was offered, and when its worker was last heard of."""
        self.due_at = self.begun_at + deadline_s
        self.deadline = time.time() + deadline_s
        """The same in Unix time."""
        self.uploaded_bytes = 0
        self.changing = trio.Lock()
        """Held while a file of its update is written or checked."""
        self._sha256 = ""
        self._told_at = -REPORT_EVERY_S

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return round(max(0.0, self.due_at - trio.current_time()), 3)

    def end(self, state: Literal["taken", "missed"]) -> None:
        """It can be ended once."""
        if self.state == "open":
            self.state = state
            self.over.set()

    def is_news(self, step: int, steps: int) -> bool:
        """Whether a report is worth an event: some a second, and always the last step."""
        now = trio.current_time()
        if now - self._told_at < REPORT_EVERY_S and step != steps:
            return False
        self._told_at = now
        return True

    def sha256_of_params(self) -> str:
        """Blocks: reads the file, once."""
        if not self._sha256:
            with self.params.open("rb") as file:
                self._sha256 = file_digest(file, "sha256").hexdigest()
        return self._sha256


class Desk:
    """See `TrainingVerbs`. At most one job is open; `changed` is set, and replaced, when another look is worth while.

    `directory` becomes its own: updates as they come, and as they are checked. `seed` is what makes this node's
    training in this run its own. `deadline_s` is for one training; a worker that says nothing for `silent_s` is taken
    to be gone.
    """

    def __init__(
        self,
        run: str,
        tensors: tuple[TensorSpec, ...],
        *,
        directory: Path,
        seed: bytes,
        deadline_s: float,
        silent_s: float,
        offload: Offload,
        report: Callable[[TrainingEvent], None],
    ) -> None:
        self.job: Job | None = None
        """The newest, open or over."""
        self.changed = trio.Event()
        self.silent_s = silent_s
        self.run_hex = run
        self._tensors = tensors
        self._directory = directory
        self._seed = seed
        self._deadline_s = deadline_s
        self._offload = offload
        self._report = report
        self._evaluated: dict[int, dict[str, float]] = {}

    # ---- what the run asks for

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then no job is open."""
        await self._offload(_empty, self._directory)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            if self.job is not None:
                self.job.end("missed")

    async def prepare(self) -> None:
        """Nothing is to be started."""

    async def train(self, round: int, params: Path) -> Trained:
        """What some worker makes of the round's `params`: the job is open until then, until its deadline, or until the
        next round's. Raises Unavailable where nobody submits."""
        if self.job is not None:
            self.job.end("missed")
        job = Job(f"{self.run_hex[:_RUN_DIGITS]}-{round}", round, params, self._seed_of(round), self._deadline_s)
        self.job = job
        self._tell(job, "open")
        try:
            with trio.move_on_at(job.due_at):
                await job.over.wait()
        finally:
            job.end("missed")
            self._uploaded(job).unlink(missing_ok=True)
        if job.trained is None:
            self._tell(job, "missed")
            raise Unavailable(f"nobody submitted an update in round {round}")
        return job.trained

    def pause(self) -> None:
        """A loop cannot be stopped where it is: it gets no other job, and what it has may still be in time."""

    def resume(self) -> None:
        """See `pause`."""

    async def evaluate(self, round: int, params: Path) -> dict[str, float]:
        """What a worker measured of these params, and told with its update."""
        return self._evaluated.pop(round, {})

    # ---- what workers ask for: each of a job that is open

    def stir(self) -> None:
        """Something happened: whoever waits for a job looks again."""
        stirred, self.changed = self.changed, trio.Event()
        stirred.set()

    def free_at(self, job: Job, worker: str) -> float:
        """From when on `worker` may have the job, in trio's time."""
        return job.begun_at if job.worker in (None, worker) else job.heard_at + self.silent_s

    def give(self, job: Job, worker: str) -> None:
        """It is this worker's now."""
        job.heard_at = trio.current_time()
        if job.worker != worker:
            job.worker = worker
            self._tell(job, "given", worker)

    def report(self, job: Job, step: int, steps: int, loss: float | None) -> None:
        """An event, and a sign of life."""
        job.heard_at = trio.current_time()
        if job.is_news(step, steps):
            told = loss if loss is not None and isfinite(loss) else None
            self._report(TrainingReported(run=self.run_hex, round=job.round, step=step, steps=steps, loss=told))

    async def upload(self, job: Job, offset: int, piece: bytes) -> None:
        """A piece of the update's file; offset 0 begins it anew. Raises PeerError where it does not fit."""
        job.heard_at = trio.current_time()
        async with job.changing:
            most = most_bytes(self._tensors)
            if offset + len(piece) > most:
                raise PeerError(f"an update of this run has at most {most} bytes")
            if offset > job.uploaded_bytes:
                raise PeerError(f"{job.uploaded_bytes} bytes are here: what begins at {offset} leaves a gap")
            if job.state == "open":
                await self._offload(_write, self._uploaded(job), offset, piece)
                job.uploaded_bytes = max(job.uploaded_bytes if offset else 0, offset + len(piece))
            if job.state != "open":  # it ended meanwhile, and had removed the file before
                self._uploaded(job).unlink(missing_ok=True)

    async def submit(
        self,
        job: Job,
        path: Path | None,
        kind: Kind,
        examples: int,
        metrics: Mapping[str, float],
        evaluated: Mapping[str, float],
    ) -> bool:
        """Whether this is the round's update now; not where the job was over before. Without a `path` it is what was
        uploaded. Raises PeerError, and tells the owner, where it is no update of the run."""
        job.heard_at = trio.current_time()
        async with job.changing:
            if job.state != "open":
                return False
            try:
                _check_numbers({**metrics, **evaluated})
                if path is None and not job.uploaded_bytes:
                    raise PeerError("neither a path was given nor anything uploaded")
                made = await self._taken_in(job, path or self._uploaded(job), kind)
            except PeerError as error:
                self._tell(job, "refused", error.sentence)
                raise
            if job.state != "open":
                made.unlink()
                return False
            if evaluated:
                self._evaluated = {job.round - 1: dict(evaluated)}
            job.trained = Trained(made, examples, dict(metrics), trio.current_time() - job.begun_at)
            job.end("taken")
        self._tell(job, "taken")
        return True

    def round_of(self, job_id: str) -> int | None:
        """Of a job that this run has, had or may come to have; None for an id that is no job's of it."""
        run, _, round_ = job_id.rpartition("-")
        is_one = run == self.run_hex[:_RUN_DIGITS] and round_.isascii() and round_.isdigit() and len(round_) < 16
        return int(round_) if is_one else None

    async def _taken_in(self, job: Job, source: Path, kind: Kind) -> Path:
        out = self._directory / f"delta-{job.round}.safetensors"
        base = job.params if kind == "params" else None
        await self._offload(lambda: take_in(source, self._tensors, out, base=base))
        return out

    def _uploaded(self, job: Job) -> Path:
        return self._directory / f"upload-{job.round}.safetensors"

    def _seed_of(self, round: int) -> int:
        """53 bits: what every language's numbers hold."""
        return int.from_bytes(sha256(self._seed + round.to_bytes(8, "big")).digest()[:8], "big") >> 11

    def _tell(
        self, job: Job, state: Literal["open", "given", "refused", "taken", "missed"], sentence: str = ""
    ) -> None:
        self._report(JobChanged(run=self.run_hex, round=job.round, job=job.id, state=state, sentence=sentence))
        self.stir()


def _check_numbers(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not isfinite(value):
            raise PeerError(f"metric {name!r} is not finite")


def _empty(directory: Path) -> None:
    """Made, for its owner alone, and without what a crash left."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    for leftover in directory.glob("*.safetensors"):
        leftover.unlink()


def _write(path: Path, offset: int, piece: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if offset else os.O_TRUNC)
    with disk(path, "write"), open(os.open(path, flags, 0o600), "wb") as file:
        file.seek(offset)
        file.write(piece)
