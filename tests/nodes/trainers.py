"""Trainers inside the simulation: training takes virtual time, and its deltas follow from its seed."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
import trio

from primep2p.model.records import Scalar, TensorSpec
from primep2p.model.views.plugins import PluginView
from primep2p.plugin.arrays import load_arrays, save_arrays
from primep2p.plugin.process import InitialModel, Made, OnLife, Report, Trained
from primep2p.store.tensors import map_tensors, write_tensors
from primep2p.tasks import TaskStatus

PID = 7
"""No process; but whoever is told of one is told of this."""

TENSORS = (TensorSpec("w", "float32", (3,)),)


class SimTrainers:
    """The `Trainers` of one node: one training takes `train_s` seconds, from the least to the most."""

    def __init__(self, root: Path, train_s: tuple[float, float]) -> None:
        self._root = root
        self._train_s = train_s

    def check(self, trainer: str) -> None:
        """Every name is fine."""

    def note(self, trainer: str) -> str:
        """Of one that is named for it."""
        return "its data is forgotten" if trainer == "forgetful" else ""

    def known(self) -> list[PluginView]:
        """It answers to every name."""
        return []

    def log(self, of: str) -> Path:
        """Nothing is printed."""
        return self._root / of

    def worker(
        self,
        trainer: str,
        settings: Mapping[str, Scalar | list[Scalar]],
        place: str,
        tensors: tuple[TensorSpec, ...],
    ) -> "SimWorker":
        return SimWorker(self._root, self._train_s)

    def discard(self, place: str) -> None:
        """It left nothing."""


class SimWorker:
    """See `TrainerWorker`."""

    def __init__(self, root: Path, train_s: tuple[float, float]) -> None:
        self._root = root
        self._train_s = train_s
        self._serial = count()
        self.on_life: OnLife = lambda pid, runs: None
        self._resumed: trio.Event | None = None
        """While it is paused, what ends that."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        task_status.started()
        self.on_life(PID, True)
        try:
            await trio.sleep_forever()
        finally:
            self.on_life(PID, False)

    async def prepare(self) -> Made:
        await trio.sleep(self._train_s[0])
        return Made(2, predicts=False)

    async def init(self, seed: int, *, report: Report | None = None) -> InitialModel:
        await trio.sleep(self._train_s[0])
        return InitialModel(self._written(Random(0)), TENSORS)

    async def train(
        self, round: int, seed: int, params: Path, *, deadline_s: float, report: Report | None = None
    ) -> Trained:
        chance = Random(seed)
        seconds = chance.uniform(*self._train_s)
        with trio.fail_after(deadline_s):
            await trio.sleep(seconds)
        if self._resumed is not None:
            await self._resumed.wait()
        return Trained(self._written(chance), chance.randint(1, 9), {"loss": chance.random()}, seconds)

    async def evaluate(self, round: int, seed: int, params: Path, *, report: Report | None = None) -> dict[str, float]:
        await trio.sleep(self._train_s[0])
        return {"accuracy": 1.0}

    async def predict(self, params: Path, inputs: Path) -> Path:
        await trio.sleep(self._train_s[0])
        (w,), x = map_tensors(params, TENSORS), load_arrays(inputs)["x"]
        path = self._root / f"{next(self._serial)}.safetensors"
        save_arrays(path, {"y": x @ w})
        return path

    def pause(self) -> None:
        """What is under way does not end before `resume`."""
        self._resumed = self._resumed or trio.Event()

    def resume(self) -> None:
        """See `pause`."""
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def _written(self, chance: Random) -> Path:
        path = self._root / f"{next(self._serial)}.safetensors"
        write_tensors(path, TENSORS, [np.array([chance.uniform(-1, 1) for _ in range(3)], np.float32)])
        return path
