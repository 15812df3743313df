"""TrainingNode: training epoch by epoch on one's own examples, alone or in a run.

In a run it is a loop like any other: the daemon on this machine hands it each round's job, and an update that it
submits is looked at as everybody's. A TrainingNode can no more than that.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import anyio
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from primep2p.blocking import Client
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.model.errors import CallError
from primep2p.plugin.api import Params, Setting, Trainer
from primep2p.sdk.jobs import BlockingJob, driven, sought
from primep2p.sdk.local_trainer import LocalTrainer, params_after
from primep2p.sdk.rules import aggregate
from primep2p.sdk.tensor_buffer import TensorBuffer, create_tensor_buffer

__all__ = ["TrainingConfig", "TrainingMetrics", "TrainingNode", "TrainingStatus"]


class TrainingConfig(Struct, frozen=True, kw_only=True):
    """How to train: the names that users of other systems know, for the trainers of this package."""

    batch_size: int = 32
    learning_rate: float = 1e-3
    epochs: int = 10
    """Of a round: after so many an update is submitted."""
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    optimizer_params: Mapping[str, float | bool] = {}
    """beta1, beta2, epsilon, momentum, nesterov, weight_decay: what the optimiser has."""
    aggregation_strategy: str = "fedavg"
    """What `aggregate_gradients` does; in a run members have agreed on a rule of their own."""
    aggregation_params: Mapping[str, int | float | str] = {}
    """f, m, trim_ratio, …: what the rule has."""

    @property
    def settings(self) -> dict[str, Setting]:
        """The same as a trainer's settings."""
        return {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "optimiser": self.optimizer,
            **self.optimizer_params,
        }


class TrainingMetrics(Struct, frozen=True):
    """Of one epoch. `loss` is the mean over its minibatches; `accuracy` is on the same examples after it, and NaN for
    a trainer that measures none."""

    loss: float
    accuracy: float
    samples_processed: int
    computation_time_ms: float


class TrainingStatus(Struct, frozen=True):
    """Where a TrainingNode is. `run` and `round` are empty and -1 where it trains alone, or has no job yet."""

    node_id: str
    current_epoch: int
    run: str
    round: int
    submitted: int
    """Updates that were taken."""
    last_metrics: TrainingMetrics | None


class TrainingNode:
    """Trains on `x` and `y` with a `trainer` ("mlp", "softmax", …; a name, "path.py:Class" or a class).

    Alone, where no `run` is named: from params of its own, each epoch from where the last ended. In a `run` of the
    daemon of `home`, which this node must have joined with --own-loop: from each round's params; `epochs` later its
    update is submitted, and the next epoch begins the next round. Close it when it is done.

    >>> import anyio, numpy as np
    >>> from primep2p import TrainingConfig, TrainingNode
    >>> x = np.random.default_rng(0).standard_normal((64, 3), dtype=np.float32)
    >>> async def train():
    ...     node = TrainingNode("lab-1", x, (x[:, 0] > 0).astype(int), trainer="softmax")
    ...     await node.init_training(TrainingConfig(batch_size=16, learning_rate=0.1))
    ...     for _ in range(3):
    ...         metrics = await node.train_epoch()
    ...     await node.close()
    ...     return node.node_id, node.current_epoch, metrics.samples_processed, metrics.accuracy > 0.8
    >>> anyio.run(train)
    ('lab-1', 3, 64, True)
    """

    def __init__(
        self,
        node_id: str,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        trainer: str | type[Trainer] = "mlp",
        run: str = "",
        home: Path | None = None,
    ) -> None:
        self.node_id = node_id
        """As given; in a run the daemon's peer id, from `init_training` on."""
        self.current_epoch = 0
        """Epochs trained so far."""
        self._x, self._y = np.asarray(x), np.asarray(y)
        self._run = run
        self._home = home
        self._trainer = trainer
        self._local: LocalTrainer | None = None
        self._config = TrainingConfig()
        self._params: Params = {}
        self._client: Client | None = None
        self._job: BlockingJob | None = None
        self._epochs_of_job = 0
        self._submitted = 0
        self._last: TrainingMetrics | None = None

    async def init_training(self, config: TrainingConfig) -> None:
        """Makes ready; raises ValueError for settings that the trainer does not take, Unavailable where no daemon runs,
        CallError where this node does not train by jobs in the run."""
        if config.epochs < 1:
            raise ValueError("epochs must be at least 1")
        await self.close()
        self._config = config
        self._local = LocalTrainer(self._trainer, config.settings)
        self.current_epoch = self._epochs_of_job = 0
        if self._run:
            self._client = client = await anyio.to_thread.run_sync(Client, self._home)
            self.node_id = (await anyio.to_thread.run_sync(client.call, DaemonStatus())).peer_id
        else:
            self._params = await anyio.to_thread.run_sync(self._local.init, self._x, self._y, secrets.randbits(53))

    async def train_epoch(self) -> TrainingMetrics:
        """One pass over the examples, in a thread. In a run: in the round's job, for which it waits where there is none
        yet; raises CallError where there will be none any more. An update that comes too late is not an error: the next
        epoch begins the next round."""
        local = self._ready()
        self._last = await anyio.to_thread.run_sync(self._epoch, local)
        self.current_epoch += 1
        return self._last

    def aggregate_gradients(
        self, gradients: Sequence[TensorBuffer | npt.ArrayLike | bytes | bytearray | memoryview]
    ) -> TensorBuffer:
        """What the configured strategy makes of several gradients, all of them counting the same: arrays or tensors of
        one shape, or bytes of float32 values. Raises ValueError."""
        tensors = [_tensor(gradient) for gradient in gradients]
        settings: dict[str, Any] = dict(self._config.aggregation_params)
        made: TensorBuffer = aggregate(tensors, self._config.aggregation_strategy, **settings)
        return made

    def get_status(self) -> TrainingStatus:
        """Where it is."""
        round_ = self._job.round if self._job is not None else -1
        return TrainingStatus(self.node_id, self.current_epoch, self._run, round_, self._submitted, self._last)

    async def close(self) -> None:
        """Gives back what it holds; a job under way is left to its deadline."""
        for held in (self._local, self._client):
            if held is not None:
                held.close()
        self._local = self._client = self._job = None

    # ---- what an epoch is made of

    def _ready(self) -> LocalTrainer:
        if self._local is None:
            raise CallError("the training is not begun", hint="await node.init_training(TrainingConfig()) first")
        return self._local

    def _epoch(self, local: LocalTrainer) -> TrainingMetrics:
        """Blocks."""
        if self._client is not None and self._job is None:
            self._job = job = driven(self._client, sought(partial(BlockingJob, self._client), self._run))
            self._params, self._epochs_of_job = job.params(), 0
        began = perf_counter()
        loss, accuracy = self._pass(local)
        took_ms = 1000 * (perf_counter() - began)
        if self._job is not None:
            self._report_or_submit(self._job, loss, accuracy)
        return TrainingMetrics(loss, accuracy, len(self._x), took_ms)

    def _pass(self, local: LocalTrainer) -> tuple[float, float]:
        """Loss and accuracy of one pass over the examples."""
        seed = secrets.randbits(53) if self._job is None else self._job.seed + self._epochs_of_job
        update = local.train(self._params, self._x, self._y, seed=seed, epochs=1)
        self._params = params_after(update, self._params)
        found = local.evaluate(self._params, self._x, self._y)
        nothing = float("nan")
        return update.metrics.get("loss", found.get("loss", nothing)), found.get("accuracy", nothing)

    def _report_or_submit(self, job: BlockingJob, loss: float, accuracy: float) -> None:
        self._epochs_of_job += 1
        if self._epochs_of_job < self._config.epochs:
            job.report(self._epochs_of_job, loss, steps=self._config.epochs)
            return
        self._job = None
        metrics = {name: value for name, value in (("loss", loss), ("accuracy", accuracy)) if isfinite(value)}
        self._submitted += job.submit(params=self._params, examples=len(self._x), metrics=metrics).taken


def _tensor(gradient: Any) -> TensorBuffer:
    if isinstance(gradient, TensorBuffer):
        return gradient
    if isinstance(gradient, bytes | bytearray | memoryview):
        return TensorBuffer(gradient, (memoryview(gradient).nbytes // 4,), "f32")
    return create_tensor_buffer(np.asarray(gradient, np.float32))
