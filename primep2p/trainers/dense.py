"""Trainers that ship: dense networks in numpy, trained on minibatches.

`ctx.data` is a .npz with `x` (n, features) float32 and `y` (n,) ints; `evaluate` takes `x_test` and `y_test` where they
are there. The same (seed, data, params) give the same delta.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from primep2p.adapters.base import EVALUATE_ROWS, Learner
from primep2p.plugin.api import Arrays, Context, Metrics, Misconfigured, Params, Update
from primep2p.trainers import optimisers
from primep2p.trainers.settings import Adam, Settings, Sgd, settings

__all__ = ["DenseLearner", "MultilayerPerceptron", "Network", "SoftmaxRegression"]


class DenseLearner(Learner, Protocol):
    """Takes x (rows, features) and y (rows,), gives logits (rows, classes); the loss is the cross-entropy."""

    @property
    def widths(self) -> list[int]:
        """Features, the units of each hidden layer, classes."""
        ...


class MultilayerPerceptron:
    """Layers of ReLU units under a softmax. Config: see docs/plugins.md."""

    def __init__(self) -> None:
        self._data: Data | None = None

    def init(self, ctx: Context) -> Params:
        """He's normal weights (arXiv:1502.01852), zero biases; `features` and `classes` come from the data if unset."""
        config = self._settings(ctx)
        features = config.features or self._examples(ctx).x.shape[1]
        classes = config.classes or int(self._examples(ctx).y.max()) + 1
        random = np.random.default_rng(config.init_seed if config.init_seed >= 0 else ctx.seed)
        widths = [features, *config.hidden, classes]
        params: Params = {}
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            weight = random.standard_normal((inputs, outputs), dtype=np.float32)
            params[f"layer{layer}.weight"] = weight * np.float32(np.sqrt(2 / inputs))
            params[f"layer{layer}.bias"] = np.zeros(outputs, np.float32)
        return params

    def train(self, params: Params, ctx: Context) -> Update:
        """`epochs` over the data, or `steps` minibatches where set. The optimiser begins anew each round."""
        config = self._settings(ctx)
        data = self._examples(ctx)
        rows = len(data.x)
        epoch_steps = -(-rows // config.batch_size)
        steps = config.steps or config.epochs * epoch_steps
        if steps == 0:
            return Update(examples=rows, delta={name: np.zeros_like(array) for name, array in params.items()})
        learner = self._learner(params, config)
        data.check(learner.widths)
        losses = np.zeros(steps)
        batches = minibatches(rows, config.batch_size, np.random.default_rng(ctx.seed))
        for step in range(steps):
            batch = next(batches)
            losses[step] = learner.step(data.x[batch], data.y[batch])
            ctx.report(step=step + 1, steps=steps, loss=float(losses[step]))
        metrics = {"loss": float(losses[-epoch_steps:].mean())}
        return Update(examples=rows, params=learner.params(), metrics=metrics)

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        """Mean loss and accuracy on the test examples, or on the training ones where there are no others."""
        config = self._settings(ctx)
        if ctx.data is None:
            return {}
        data = self._examples(ctx).test
        learner = self._learner(params, config)
        data.check(learner.widths)
        loss, right = 0.0, 0
        for begin in range(0, len(data.x), EVALUATE_ROWS):
            x, y = data.x[begin : begin + EVALUATE_ROWS], data.y[begin : begin + EVALUATE_ROWS]
            logits = learner.outputs(x)
            right += int((logits.argmax(axis=1) == y).sum())
            loss += cross_entropy(logits, y) * len(y)
        return {"loss": loss / len(data.x), "accuracy": right / len(data.x)}

    def predict(self, params: Params, inputs: Arrays, ctx: Context) -> Arrays:
        """For `x` (n, features) the `probabilities` (n, classes), and of each row the most likely one of `classes`."""
        if inputs.keys() != {"x"}:
            raise Misconfigured(f"it is asked about one array, x, and was given {', '.join(sorted(inputs))}")
        x, learner = inputs["x"], self._learner(params, self._settings(ctx))
        if x.ndim != 2 or x.shape[1] != learner.widths[0] or x.dtype.kind not in "fiu":
            raise Misconfigured(f"x must be numbers of shape (n, {learner.widths[0]}), and is {x.dtype} of {x.shape}")
        probabilities = np.empty((len(x), learner.widths[-1]), np.float32)
        for begin in range(0, len(x), EVALUATE_ROWS):
            rows = slice(begin, begin + EVALUATE_ROWS)
            probabilities[rows] = softmax(learner.outputs(np.ascontiguousarray(x[rows], np.float32)))
        return {"probabilities": probabilities, "classes": probabilities.argmax(axis=1)}

    def _settings(self, ctx: Context) -> Settings:
        return settings(ctx.config)

    def _learner(self, params: Params, config: Settings) -> DenseLearner:
        return NumpyLearner(params, config.optimiser)

    def _examples(self, ctx: Context) -> "Data":
        if ctx.data is None:
            raise Misconfigured("trainer.data of node.toml is not set: it names the .npz with x and y to train on")
        if self._data is None:
            self._data = Data.load(ctx.data)
        return self._data


class SoftmaxRegression(MultilayerPerceptron):
    """No hidden layer: a convex problem."""

    def _settings(self, ctx: Context) -> Settings:
        if ctx.config.get("hidden"):
            raise Misconfigured("trainer_config.hidden is set, and softmax regression has no hidden layers")
        return settings({**ctx.config, "hidden": []})


@dataclass(frozen=True)
class Data:
    """Examples: x (n, features) float32, y (n,) ints from 0."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.intp]
    source: Path
    held_out: "Data | None" = None

    @classmethod
    def load(cls, path: Path) -> "Data":
        """Raises Misconfigured naming the array that is wrong."""
        with np.load(path, allow_pickle=False) as arrays:
            held_out = cls._pair(path, arrays, "x_test", "y_test") if "x_test" in arrays else None
            trained = cls._pair(path, arrays, "x", "y")
        return cls(trained.x, trained.y, path, held_out)

    @classmethod
    def _pair(cls, path: Path, arrays: Any, x_name: str, y_name: str) -> "Data":
        if x_name not in arrays or y_name not in arrays:
            raise Misconfigured(f"{path} has no {x_name} and {y_name}")
        x, y = arrays[x_name], arrays[y_name]
        if x.ndim != 2 or len(x) == 0 or x.dtype.kind not in "fiu":
            raise Misconfigured(f"{x_name} of {path} must be numbers of shape (n, features), n at least 1")
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0:
            raise Misconfigured(f"{y_name} of {path} must be ints from 0, one for each row of {x_name}")
        return cls(np.ascontiguousarray(x, np.float32), y.astype(np.intp), path)

    @property
    def test(self) -> "Data":
        """The examples to evaluate on."""
        return self.held_out or self

    def check(self, widths: list[int]) -> None:
        """Raises Misconfigured where the model is for other data."""
        if self.x.shape[1] != widths[0] or self.y.max() >= widths[-1]:
            raise Misconfigured(
                f"{self.source} has {self.x.shape[1]} features and classes up to {self.y.max()}; "
                f"the model takes {widths[0]} features and {widths[-1]} classes"
            )


class Network:
    """Params as views into one flat vector, and their gradient as views into another, so that a step of the optimiser
    takes as few calls for many layers as for one. `dtype` float64 is for checking gradients."""

    def __init__(self, params: Params, dtype: npt.DTypeLike = np.float32) -> None:
        self._shapes = {name: array.shape for name, array in params.items()}
        self.flat = np.concatenate([array.ravel() for array in params.values()]).astype(dtype, copy=False)
        self.flat_gradient = np.zeros_like(self.flat)
        self._layers = self._pairs(self.flat)
        self._gradients = self._pairs(self.flat_gradient)
        self.widths = [self._layers[0][0].shape[0], *(bias.size for _, bias in self._layers)]

    def params(self) -> Params:
        """Views under their names."""
        return dict(self._views(self.flat))

    def activations(self, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """x (rows, features), each hidden layer's output, and the logits (rows, classes)."""
        outputs = [x]
        for layer, (weight, bias) in enumerate(self._layers):
            z = outputs[-1] @ weight
            z += bias
            if layer < len(self._layers) - 1:
                np.maximum(z, 0, out=z)
            outputs.append(z)
        return outputs

    def gradient(self, x: npt.NDArray[Any], y: npt.NDArray[np.intp]) -> float:
        """Mean cross-entropy of x (rows, features), y (rows,); its gradient is in `flat_gradient` then."""
        outputs = self.activations(x)
        loss = cross_entropy(outputs[-1], y)
        error = softmax(outputs[-1])  # (rows, classes)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        for layer in reversed(range(len(self._layers))):
            weight_gradient, bias_gradient = self._gradients[layer]
            np.matmul(outputs[layer].T, error, out=weight_gradient)
            error.sum(axis=0, out=bias_gradient)
            if layer:
                error = error @ self._layers[layer][0].T
                error *= outputs[layer] > 0
        return loss

    def _pairs(self, flat: npt.NDArray[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        views = dict(self._views(flat))
        return [(views[f"layer{i}.weight"], views[f"layer{i}.bias"]) for i in range(len(views) // 2)]

    def _views(self, flat: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        begin = 0
        for name, shape in self._shapes.items():
            end = begin + int(np.prod(shape))
            yield name, flat[begin:end].reshape(shape)
            begin = end


class NumpyLearner:
    """A `DenseLearner`: the network beside the optimiser of its flat vectors."""

    def __init__(self, params: Params, optimiser: Sgd | Adam) -> None:
        self._network = Network(params)
        self._optimiser = optimisers.begin(optimiser, self._network.flat)
        self.widths = self._network.widths

    def step(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.intp]) -> float:
        loss = self._network.gradient(x, y)
        self._optimiser.step(self._network.flat, self._network.flat_gradient)
        return loss

    def outputs(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return self._network.activations(x)[-1]

    def params(self) -> Params:
        return self._network.params()


def minibatches(rows: int, batch_size: int, random: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    """Indices of one minibatch after another, for ever: each pass over all rows has an order of its own."""
    while True:
        order = random.permutation(rows)
        for begin in range(0, rows, batch_size):
            yield order[begin : begin + batch_size]


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Probabilities by row."""
    shares: npt.NDArray[Any] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def cross_entropy(logits: npt.NDArray[Any], y: npt.NDArray[np.intp]) -> float:
    """The mean over rows of -log softmax(logits)[y]; exact where a probability underflows."""
    largest = logits.max(axis=1)
    log_sums = np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest
    return float((log_sums - logits[np.arange(len(y)), y]).mean())
