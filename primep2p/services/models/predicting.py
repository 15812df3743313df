"""Asking models: a trainer's process for the time of a question, or a little longer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from secrets import token_hex

import trio

from primep2p.model.errors import Unavailable
from primep2p.model.records import Scalar
from primep2p.plugin.process import TrainerWorker
from primep2p.plugin.workers import Trainers
from primep2p.services.seams import Seams
from primep2p.store.files import disk
from primep2p.store.intake import tensors_in
from primep2p.tasks import TaskStatus

__all__ = ["KEPT_ANSWERS", "Predicting"]

Config = Mapping[str, Scalar | list[Scalar]]

KEPT_ANSWERS = 16
"""Files with answers that stay: who asked has read its own by then."""

IDLE_S = 30.0
"""A process that nobody asks for so long goes. Starting one takes 0.3 s, with a large framework 10 s."""


class Predicting:
    """One question at a time, in a process of the trainer's own, which the next question to the same model finds."""

    def __init__(self, seams: Seams, trainers: Trainers) -> None:
        self._seams = seams
        self._trainers = trainers
        self._turns = trio.Lock()
        self._answers: list[Path] = []
        self._nursery: trio.Nursery | None = None
        self._asked: _Asked | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then no process is left."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def ask(self, trainer: str, config: Config, params: Path, inputs: Path) -> Path:
        """A file of this node's with what the model in `params` says of the arrays in `inputs`. Raises PluginError;
        CallError where `inputs` cannot be used."""
        async with self._turns:
            asked = await self._ready(trainer, config, params)
            try:
                answer = await asked.worker.predict(params, inputs)
            finally:
                asked.scope.deadline = trio.current_time() + IDLE_S
            return await self._seams.offload(self._keep, answer)

    async def _ready(self, trainer: str, config: Config, params: Path) -> "_Asked":
        """The process for this model: the one before it goes, unless that is it."""
        model, before = repr((trainer, sorted(config.items()), str(params))), self._asked
        if before is not None and before.model == model and not before.scope.cancel_called:
            before.scope.deadline = inf
            if not before.scope.cancel_called:  # its time may have been up just now
                return before
        if before is not None:
            before.scope.cancel()
            await before.gone.wait()
        if self._nursery is None:
            raise Unavailable("this node is stopping, or has not started")
        self._trainers.check(trainer)
        tensors = await self._seams.offload(tensors_in, params)
        place = f"predict-{token_hex(8)}"
        self._asked = _Asked(model, place, self._trainers.worker(trainer, config, place, tensors))
        await self._nursery.start(self._live, self._asked)
        return self._asked

    async def _live(self, asked: "_Asked", *, task_status: TaskStatus[None]) -> None:
        try:
            with asked.scope:
                await asked.worker.run(task_status=task_status)
        finally:
            with trio.CancelScope(shield=True):
                await self._seams.offload(self._trainers.discard, asked.place)
            asked.gone.set()

    def _keep(self, answer: Path) -> Path:
        """The newest few answers stay, and go with the next start."""
        path = self._seams.scratch / f"answer-{token_hex(8)}.safetensors"
        with disk(path, "write"):
            answer.replace(path)
        self._answers.append(path)
        while len(self._answers) > KEPT_ANSWERS:
            self._answers.pop(0).unlink(missing_ok=True)
        return path


@dataclass(frozen=True)
class _Asked:
    """A trainer's process for one model."""

    model: str
    place: str
    worker: TrainerWorker
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Its deadline is when it has been idle for too long."""
    gone: trio.Event = field(default_factory=trio.Event)
