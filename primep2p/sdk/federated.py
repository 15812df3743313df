"""Learning in one run from examples as they come: what `Client.fit` and its kin do, as steps of either client.

Examples are kept here until there are enough for an update; what is sent is the change that training made of the
round's params, with noise where that is asked for.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunShow
from primep2p.model.errors import CallError
from primep2p.model.views.models import ModelPath
from primep2p.model.views.runs import RunDetail
from primep2p.plugin.api import Arrays, Metrics, Params, Setting, Trainer
from primep2p.plugin.tensors import open_mapped
from primep2p.sdk.jobs import Given, Receipt, Steps, sought
from primep2p.sdk.local_trainer import LocalTrainer, params_after

__all__ = ["Federated", "Part", "Partaker"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one takes part in a run."""

    run: str
    trainer: str | type[Trainer] = ""
    """What trains in this process; empty: what the run names, which must be installed here."""
    settings: Mapping[str, Setting] | None = None
    """Beat the run's trainer_config on this side."""
    num_examples_per_update: int = 0
    """Examples are kept until there are so many, and then trained on once; 0: what `fit` is given is one update."""
    weight_noise_stddev: float = 0.0
    """Of the normal noise that is added to each param before it leaves."""
    send_metrics: bool = False
    """Evaluate the round's params on the examples of an update first, and tell the owner."""

    def __post_init__(self) -> None:
        if self.num_examples_per_update < 0:
            raise ValueError("num_examples_per_update must not be below 0")
        if not 0 <= self.weight_noise_stddev < float("inf"):
            raise ValueError("weight_noise_stddev must be a finite number from 0 up")


class Federated:
    """Examples that wait, and the trainer that learns from them. Close it."""

    def __init__(self, part: Part, run: RunDetail) -> None:
        """Imports the trainer. Raises PluginError."""
        self.part = part
        self.run = run.run
        self.num_updates_per_version = run.least_updates
        self._local = LocalTrainer(part.trainer or run.trainer, {**run.trainer_config, **(part.settings or {})})
        self._x: list[npt.NDArray[np.generic]] = []
        self._y: list[npt.NDArray[np.generic]] = []

    @classmethod
    def beginning(cls, part: Part) -> "Steps[Federated]":
        """What begins it."""
        return cls(part, (yield RunShow(run=part.run)))

    @property
    def waiting(self) -> int:
        """Examples that wait for an update."""
        return len(self._x)

    def fitting(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Steps[int]:
        """What `fit` of the clients does; how many updates the run took."""
        self._add(x, y)
        taken = 0
        while count := self._enough:
            job = yield from sought(Given, self.run)
            if (yield from self._training(job, count)).taken:
                del self._x[:count], self._y[:count]
                taken += 1
        return taken

    def predicting(self, x: npt.ArrayLike) -> Steps[Arrays]:
        """What `predict` of the clients does."""
        return self._local.predict((yield from self.model()), x)

    def evaluating(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Steps[Metrics]:
        """What `evaluate` of the clients does."""
        return self._local.evaluate((yield from self.model()), x, y)

    def model(self, round: int = -1) -> Steps[Params]:
        """The certified params of a round, mapped and read-only; -1: the newest."""
        found: ModelPath = yield ModelPathOf(model=self.run if round < 0 else f"{self.run}@{round}")
        if not os.access(found.path, os.R_OK):
            raise CallError(f"the model is a file that cannot be read here: {found.path}")
        return open_mapped(Path(found.path))[1]

    def version(self) -> Steps[int | None]:
        """The round of the newest certified model; None before the first."""
        detail: RunDetail = yield RunShow(run=self.run)
        return detail.head_round if detail.head else None

    def close(self) -> None:
        """Forgets the examples."""
        self._local.close()
        self._x, self._y = [], []

    def _add(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        rows, targets = np.asarray(x), np.asarray(y)
        if rows.ndim < 2 or targets.ndim < 1 or len(rows) != len(targets):
            raise ValueError(f"x is {rows.shape} and y is {targets.shape}: a row of x for each y is expected")
        if self._x and rows.shape[1:] != self._x[0].shape:
            raise ValueError(f"x has rows of shape {rows.shape[1:]}, and those before had {self._x[0].shape}")
        self._x += list(rows)
        self._y += list(targets)

    @property
    def _enough(self) -> int:
        """So many of those that wait make the next update; 0: there are too few."""
        wanted = self.part.num_examples_per_update or self.waiting
        return wanted if 0 < wanted <= self.waiting else 0

    def _training(self, job: Given, count: int) -> Steps[Receipt]:
        """An update from the oldest examples."""
        x, y = np.stack(self._x[:count]), np.stack(self._y[:count])
        params = job.params()
        evaluated = self._local.evaluate(params, x, y, round=job.round) if self.part.send_metrics else {}
        update = self._local.train(params, x, y, seed=job.seed, round=job.round)
        made = self._noised(params_after(update, params))
        return (yield from job.submitting(made, None, update.examples, update.metrics, evaluated))

    def _noised(self, params: Params) -> Params:
        if self.part.weight_noise_stddev == 0:
            return params
        # Seeded by the system and never by the round: whoever can guess the noise can take it off.
        random = np.random.Generator(np.random.Philox(key=secrets.randbits(128)))
        deviation = np.float32(self.part.weight_noise_stddev)
        return {
            name: array + deviation * random.standard_normal(array.shape, dtype=np.float32)
            for name, array in params.items()
        }


class Partaker:
    """What either client says of the part that it takes in a run."""

    _federated: Federated | None = None

    @property
    def num_examples_per_update(self) -> int:
        """As the Part says."""
        return self._learning().part.num_examples_per_update

    @property
    def num_updates_per_version(self) -> int:
        """A round of the run has at least so many updates, or ends without a new version."""
        return self._learning().num_updates_per_version

    @property
    def num_examples(self) -> int:
        """Examples that wait for an update."""
        return self._learning().waiting

    @property
    def weight_noise_stddev(self) -> float:
        """As the Part says."""
        return self._learning().part.weight_noise_stddev

    def _learning(self) -> Federated:
        if self._federated is None:
            raise CallError("this client takes part in no run", hint='open it with one: part=Part(run="…")')
        return self._federated
