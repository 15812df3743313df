"""A run's training on this node: asks the trainer for one thing at a time, and tells the owner how it goes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from math import isfinite
from pathlib import Path

import trio

from primep2p.model.errors import PluginError
from primep2p.model.views.events import JobChanged, PluginFailed, TrainerStarted, TrainerStopped, TrainingReported
from primep2p.plugin.process import InitialModel, Interrupted, Report, Trained, TrainerWorker
from primep2p.tasks import TaskStatus

__all__ = ["InitialModel", "Trained", "Training", "TrainingEvent"]

TrainingEvent = TrainingReported | PluginFailed | JobChanged | TrainerStarted | TrainerStopped


class Training:
    """Drives one run's trainer. Verbs may be called at any time and wait for their turn: training before evaluation,
    and an evaluation under way is finished first. All raise PluginError, which `report` has heard of then, or
    Unavailable once `run` has ended. Cancelling a verb under way kills the trainer; one that waits just leaves.

    `make_worker` is the seam to the process. `seed` is what makes this node's training in this run its own: its id
    and the run's. `deadline_s` is for one training.
    """

    def __init__(
        self,
        make_worker: Callable[[], TrainerWorker],
        *,
        seed: bytes,
        deadline_s: float,
        report: Callable[[TrainingEvent], None],
        run: str = "",
    ) -> None:
        self._worker = make_worker()
        self._worker.on_life = self._on_life
        self._seed = seed
        self._deadline_s = deadline_s
        self._report = report
        self._run = run
        self._taken = False
        self._trainings = trio.lowlevel.ParkingLot()
        self._evaluations = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then the trainer's process is gone."""
        await self._worker.run(task_status=task_status)

    async def prepare(self) -> None:
        """Makes the trainer ahead of its first training. A failure is not told: the first training will have it too."""
        async with self._line(self._trainings):
            await self._worker.prepare()

    async def initialise(self) -> InitialModel:
        """The first params of the run, as a file that the caller takes over."""
        async with self._turn(self._trainings, 0):
            return await self._worker.init(self._seed_of(0), report=self._reporter(0))

    async def train(self, round: int, params: Path) -> Trained:
        """A checked delta from the round's `params`, as a file that the caller takes over. A trainer that failed and
        had saved its state goes on from there, as long as it gets further each time; each failure is told."""
        async with self._turn(self._trainings, round):
            seed, report, spent_s = self._seed_of(round), self._reporter(round), 0.0
            while True:
                left_s = self._deadline_s - spent_s
                try:
                    trained = await self._worker.train(round, seed, params, deadline_s=left_s, report=report)
                except Interrupted as error:
                    spent_s += error.spent_s
                    self._tell_of(error, round)
                else:
                    return replace(trained, seconds=trained.seconds + spent_s)

    async def evaluate(self, round: int, params: Path) -> dict[str, float]:
        """What the trainer measures of the round's `params` on this node's own data."""
        async with self._turn(self._evaluations, round):
            return await self._worker.evaluate(round, self._seed_of(round), params)

    def pause(self) -> None:
        """Stop the trainer, whatever it is doing, and what counts its time; its memory stays."""
        self._worker.pause()

    def resume(self) -> None:
        """After `pause`; changes nothing else."""
        self._worker.resume()

    @asynccontextmanager
    async def _turn(self, line: trio.lowlevel.ParkingLot, round: int) -> AsyncIterator[None]:
        """The trainer to oneself; a failure is told to the owner too."""
        async with self._line(line):
            try:
                yield
            except PluginError as error:
                self._tell_of(error, round)
                raise

    def _tell_of(self, error: PluginError, round: int) -> None:
        self._report(PluginFailed(run=self._run, round=round, sentence=error.sentence, stderr=error.stderr))

    @asynccontextmanager
    async def _line(self, line: trio.lowlevel.ParkingLot) -> AsyncIterator[None]:
        """The trainer to oneself, after those before."""
        if self._taken:
            await line.park()  # whoever wakes us leaves it taken, for us
        self._taken = True
        try:
            yield
        finally:
            following = self._trainings or self._evaluations
            self._taken = bool(following)
            following.unpark()

    def _seed_of(self, round: int) -> int:
        """63 bits: what every framework's generator takes."""
        return int.from_bytes(sha256(self._seed + round.to_bytes(8, "big")).digest()[:8], "big") >> 1

    def _on_life(self, pid: int, runs: bool) -> None:
        self._report((TrainerStarted if runs else TrainerStopped)(run=self._run, pid=pid))

    def _reporter(self, round: int) -> Report:
        def report(step: int, steps: int, loss: float) -> None:
            told = loss if isfinite(loss) else None
            self._report(TrainingReported(run=self._run, round=round, step=step, steps=steps, loss=told))

        return report
