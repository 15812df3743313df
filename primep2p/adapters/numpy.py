"""A trainer whose model is a dictionary of numpy arrays, stepped in place."""

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from primep2p.adapters.base import Adapter, Examples, Learner, Settings
from primep2p.plugin.api import Params

__all__ = ["NumpyTrainer"]

Array = npt.NDArray[Any]


class NumpyTrainer(Adapter):
    """A subclass says `start`, `step` and `outputs`."""

    @abstractmethod
    def start(self, settings: Settings, random: np.random.Generator) -> Params:
        """The first params, float32."""

    @abstractmethod
    def step(self, params: Params, x: Array, y: Array, settings: Settings) -> float:
        """Change `params` in place for a minibatch; its mean loss before that."""

    @abstractmethod
    def outputs(self, params: Params, x: Array) -> Array:
        """Scores (n, classes), or whatever `metrics` and `answers` of the subclass take."""

    def first(self, settings: Settings, seed: int, examples: Examples | None) -> Params:
        """See `Adapter`."""
        return self.start(settings, np.random.default_rng(seed))

    def learner(self, params: Params, settings: Settings) -> Learner:
        """See `Adapter`."""
        return _Learner(self, {name: array.copy() for name, array in params.items()}, settings)


class _Learner:
    def __init__(self, trainer: NumpyTrainer, params: Params, settings: Settings) -> None:
        self._trainer = trainer
        self._params = params
        self._settings = settings

    def step(self, x: Array, y: Array) -> float:
        return self._trainer.step(self._params, x, y, self._settings)

    def outputs(self, x: Array) -> Array:
        return self._trainer.outputs(self._params, x)

    def params(self) -> Params:
        return self._params
