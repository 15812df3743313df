"""Owners who train in a loop of their own, in virtual time: what each was answered, and what it submitted."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import trio
from safetensors.numpy import load_file, save_file

from primep2p.model.views.jobs import JobAccepted, JobRefused, JobRejected, JobTaken
from primep2p.run_config import JOBS, RunConfig
from tests.nodes.world import SimNode, World

WAIT_S = 30.0


def first_params(directory: Path) -> Path:
    """As their owner has them in a file of another writer's."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "init.safetensors"
    save_file({"w": np.ones((2, 3), np.float32), "b": np.zeros((), np.float32)}, path, {"by": "another"})
    return path


def run_of_jobs(world: World) -> RunConfig:
    """Every member trains in a loop of its own."""
    path = first_params(world.root)
    return RunConfig(name="loops", trainer=JOBS, policy=world.scenario.policy, params=str(path))


class Loop:
    """The loop of one node's owner. `work` is what it makes of the params; `train_s` how long that takes."""

    def __init__(
        self,
        node: SimNode,
        *,
        worker: str = "",
        train_s: float = 0.5,
        work: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
    ) -> None:
        self.node = node
        self.worker = worker
        self.train_s = train_s
        self.accepted: list[JobAccepted] = []
        self.rejected: list[JobRejected] = []
        self.answers: list[JobTaken | JobRefused] = []
        self._work = work or (lambda params: {name: array - np.float32(0.1) for name, array in params.items()})
        self._chance = Random(f"loop/{node.index}")

    async def next(self, wait_s: float = WAIT_S) -> JobAccepted | JobRejected:
        answer = await self.node.alive.jobs.next(self.node.world.run, self.worker, wait_s)
        (self.accepted if isinstance(answer, JobAccepted) else self.rejected).append(answer)  # type: ignore[arg-type]
        return answer

    async def accept(self) -> JobAccepted:
        """The next job, however long that takes."""
        while not isinstance(answer := await self.next(), JobAccepted):
            assert answer.retry_after_s is not None, answer.sentence
        return answer

    def made(self, job: JobAccepted) -> Path:
        """An update's file."""
        path = self.node.home / f"mine-{job.round}.safetensors"
        save_file({name: np.asarray(array) for name, array in self._work(load_file(job.path)).items()}, path)
        return path

    async def submit(self, job: JobAccepted, path: Path | None = None, **more: object) -> JobTaken | JobRefused:
        given = {"kind": "params", "examples": self._chance.randint(1, 9), "metrics": {"loss": 0.5}, "evaluated": {}}
        submitted = str(path or self.made(job))
        answer = await self.node.alive.jobs.submit(job.job, path=submitted, **{**given, **more})  # type: ignore[arg-type]
        self.answers.append(answer)
        return answer

    async def run(self) -> None:
        """Until there will never be a job again."""
        while True:
            answer = await self.next()
            if isinstance(answer, JobAccepted):
                await trio.sleep(self.train_s)
                await self.submit(answer)
            elif answer.retry_after_s is None:
                return
