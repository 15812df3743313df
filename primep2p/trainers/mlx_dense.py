"""The trainer mlp in MLX: the same tensors, settings, data and order of minibatches; losses equal but for rounding.

Only a trainer's process imports this. MLX's streams belong to the thread that made them: all of a learner's calls come
from one thread, and what it gives away is numpy.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from primep2p.plugin.api import Params
from primep2p.trainers.dense import DenseLearner, MultilayerPerceptron
from primep2p.trainers.settings import Adam, AdamW, Settings, Sgd

try:
    import mlx.core as mx
    from mlx import nn, optimizers
    from mlx.utils import tree_flatten
except ImportError as error:
    raise ImportError(
        f"MLX cannot be imported ({error}): pip install '.[mlx]' where primep2p was cloned, for which there must be "
        "glibc 2.35 on Linux, or macOS 14 on Apple silicon"
    ) from error

__all__ = ["MlxMultilayerPerceptron"]


class MlxMultilayerPerceptron(MultilayerPerceptron):
    """Trains and evaluates in MLX; the first params are those of the numpy trainer, bit for bit."""

    def _learner(self, params: Params, config: Settings) -> DenseLearner:
        return MlxLearner(params, config.optimiser)


class Perceptron(nn.Module):
    """Linear layers called layer0, layer1, ...; ReLU between them."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self._depth = len(widths) - 1
        for layer in range(self._depth):
            self[f"layer{layer}"] = nn.Linear(widths[layer], widths[layer + 1])

    def __call__(self, x: mx.array) -> mx.array:
        """Logits (rows, classes) of x (rows, features)."""
        for layer in range(self._depth):
            x = self[f"layer{layer}"](x if layer == 0 else nn.relu(x))
        return x


class MlxLearner:
    """A `DenseLearner`. `nn.Linear` keeps its weight as (outputs, inputs): each is transposed on its way in and out."""

    def __init__(self, params: Params, optimiser: Sgd | Adam) -> None:
        biases = [params[f"layer{layer}.bias"].size for layer in range(len(params) // 2)]
        self.widths = [params["layer0.weight"].shape[0], *biases]
        self._names = list(params)
        self._model = Perceptron(self.widths)
        self._model.load_weights([(name, mx.array(array).T) for name, array in params.items()])
        self._optimiser = begin(optimiser)
        self._loss_and_gradient = nn.value_and_grad(self._model, partial(mean_cross_entropy, self._model))

    def step(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.intp]) -> float:
        loss, gradient = self._loss_and_gradient(mx.array(x), mx.array(y))
        self._optimiser.update(self._model, gradient)
        mx.eval(self._model.parameters(), self._optimiser.state)  # else the graph grows from step to step
        return float(loss.item())

    def outputs(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.array(self._model(mx.array(x)))

    def params(self) -> Params:
        arrays = dict(tree_flatten(self._model.parameters()))
        return {name: np.ascontiguousarray(np.array(arrays[name]).T) for name in self._names}


def mean_cross_entropy(model: Perceptron, x: mx.array, y: mx.array) -> mx.array:
    """Of x (rows, features), y (rows,)."""
    loss: mx.array = nn.losses.cross_entropy(model(x), y, reduction="mean")
    return loss


def begin(chosen: Sgd | Adam) -> optimizers.Optimizer:
    """MLX's own optimiser of these settings, before its first step. See `optimisers` for the papers."""
    match chosen:
        case Sgd():
            return optimizers.SGD(
                chosen.learning_rate, chosen.momentum, weight_decay=chosen.weight_decay, nesterov=chosen.nesterov
            )
        case AdamW():
            betas = [chosen.beta1, chosen.beta2]
            return optimizers.AdamW(
                chosen.learning_rate, betas, chosen.epsilon, chosen.weight_decay, bias_correction=True
            )
        case Adam():
            betas = [chosen.beta1, chosen.beta2]
            return optimizers.Adam(chosen.learning_rate, betas, chosen.epsilon, bias_correction=True)
