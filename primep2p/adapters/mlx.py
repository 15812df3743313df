"""A trainer whose model is an `mlx.nn.Module`. Needs the extra: pip install 'primep2p[mlx]'."""

from abc import abstractmethod
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx import nn, optimizers
from mlx.utils import tree_flatten

from primep2p.adapters.base import Adapter, Examples, Learner, Settings
from primep2p.plugin.api import Params

__all__ = ["MlxTrainer"]

Array = npt.NDArray[Any]


class MlxTrainer(Adapter):
    """A subclass says `model`, and `loss` or `optimiser` where these are others. The optimiser begins anew each
    round."""

    @abstractmethod
    def model(self, settings: Settings) -> nn.Module:
        """The module; MLX's generator is seeded."""

    def loss(self, outputs: mx.array, y: mx.array) -> mx.array:
        """Mean loss of a minibatch; here of classes."""
        loss: mx.array = nn.losses.cross_entropy(outputs, y, reduction="mean")
        return loss

    def optimiser(self, settings: Settings) -> optimizers.Optimizer:
        """Of a round."""
        return optimizers.SGD(settings["learning_rate"], momentum=0.9)

    def first(self, settings: Settings, seed: int, examples: Examples | None) -> Params:
        """See `Adapter`."""
        mx.random.seed(seed)
        return _params_of(self.model(settings))

    def learner(self, params: Params, settings: Settings) -> Learner:
        """See `Adapter`."""
        return _Learner(self, params, settings)


class _Learner:
    def __init__(self, trainer: MlxTrainer, params: Params, settings: Settings) -> None:
        self._model = trainer.model(settings)
        self._model.load_weights([(name, mx.array(array)) for name, array in params.items()])
        self._optimiser = trainer.optimiser(settings)
        self._loss_and_gradient = nn.value_and_grad(self._model, partial(_loss, self._model, trainer))

    def step(self, x: Array, y: Array) -> float:
        self._model.train()
        loss, gradient = self._loss_and_gradient(mx.array(x), mx.array(y))
        self._optimiser.update(self._model, gradient)
        mx.eval(self._model.parameters(), self._optimiser.state)  # else the graph grows from step to step
        return float(loss.item())

    def outputs(self, x: Array) -> Array:
        self._model.eval()
        return np.array(self._model(mx.array(x)))

    def params(self) -> Params:
        return _params_of(self._model)


def _loss(model: nn.Module, trainer: MlxTrainer, x: mx.array, y: mx.array) -> mx.array:
    return trainer.loss(model(x), y)


def _params_of(model: nn.Module) -> Params:
    flat = dict(tree_flatten(model.parameters()))
    return {name: np.array(array.astype(mx.float32)) for name, array in flat.items()}
