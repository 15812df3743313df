"""What all adapters do alike: data, settings, minibatches, progress, checkpoints, metrics and answers.

Examples are arrays: x (n, …) and y (n,). Unless `read` says otherwise, `trainer.data` names an .npz with both, and with
x_test and y_test where `evaluate` has examples of its own. Every member must see x in the same units: `shift` and
`scale`, which the run's config has, are the same for all, where each node's own mean would be another.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from primep2p.plugin.api import Arrays, Context, Metrics, Misconfigured, Params, Update

__all__ = ["EVALUATE_ROWS", "Adapter", "Examples", "Learner", "Settings", "cross_entropy", "no_setting"]

Settings = Mapping[str, Any]
"""`trainer_config` of the run over the adapter's own defaults."""

Array = npt.NDArray[Any]

EVALUATE_ROWS = 4096
"""Rows of one forward pass: activations stay in cache for layers of a few hundred units."""

CHECKPOINT_EVERY_S = 30.0
"""At the end of an epoch, if the last one is older: what a crash costs, against writing the params once more."""


@dataclass(frozen=True)
class Examples:
    """x (n, …) and y (n,)."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)


class Learner(Protocol):
    """A model of one framework, from a round's params to what training makes of them."""

    def step(self, x: Array, y: Array) -> float:
        """One step on a minibatch; its mean loss before it."""
        ...

    def outputs(self, x: Array) -> Array:
        """(n, …) for x (n, …)."""
        ...

    def params(self) -> Params:
        """As they are now, float32, under the names and in the shapes that it was made with."""
        ...


class Adapter(ABC):
    """A trainer but for its model. `settings` are the keys of `trainer_config` with their defaults; a subclass adds its
    own: `settings = {**TorchTrainer.settings, "hidden": 64}`."""

    abi_version = 2
    settings: ClassVar[Settings] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.05, "shift": [], "scale": []}

    def __init__(self) -> None:
        self._examples: tuple[Examples, Examples] | None = None

    # ---- what a subclass says

    @abstractmethod
    def first(self, settings: Settings, seed: int, examples: Examples | None) -> Params:
        """The first params; `examples` are the creator's, if it has any."""

    @abstractmethod
    def learner(self, params: Params, settings: Settings) -> Learner:
        """The model with these params, which it must not change."""

    def read(self, path: Path) -> Mapping[str, Array]:
        """x, y, and x_test and y_test where there are others to evaluate on, from `trainer.data`."""
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("x", "y", "x_test", "y_test") if name in arrays}

    def metrics(self, outputs: Array, y: Array) -> Metrics:
        """Of `evaluate`. Here y are ints, and outputs (n, classes) scores."""
        return {"loss": cross_entropy(outputs, y), "accuracy": float((outputs.argmax(axis=1) == y).mean())}

    def answers(self, outputs: Array) -> Arrays:
        """Of `predict`. Here the class with the highest score of each row, and all scores."""
        return {"classes": outputs.argmax(axis=1), "scores": outputs}

    # ---- the trainer

    def init(self, ctx: Context) -> Params:
        """See `Trainer`."""
        settings = self._settings(ctx)
        return self.first(settings, ctx.seed, self._of(ctx, settings)[0] if ctx.data is not None else None)

    def train(self, params: Params, ctx: Context) -> Update:
        """`epochs` over the node's examples, in an order that follows from the seed."""
        settings = self._settings(ctx)
        examples, _ = self._of(ctx, settings)
        begun, params = ctx.resume() or (0, params)
        learner, size = self.learner(params, settings), settings["batch_size"]
        a_pass = -(-len(examples) // size)
        losses: list[float] = []
        due_s = time.monotonic() + CHECKPOINT_EVERY_S
        for epoch in range(begun, settings["epochs"]):
            losses.clear()
            for rows in batches(len(examples), size, np.random.default_rng([ctx.seed, epoch])):
                losses.append(learner.step(examples.x[rows], examples.y[rows]))
                ctx.report(step=epoch * a_pass + len(losses), steps=settings["epochs"] * a_pass, loss=float(losses[-1]))
            if time.monotonic() > due_s:
                ctx.checkpoint(learner.params(), epoch + 1)
                due_s = time.monotonic() + CHECKPOINT_EVERY_S
        metrics = {"loss": float(np.mean(losses))} if losses else {}
        return Update(examples=len(examples), params=learner.params(), metrics=metrics)

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        """On x_test and y_test, else on what is trained on; nothing without data."""
        if ctx.data is None:
            return {}
        settings = self._settings(ctx)
        _, test = self._of(ctx, settings)
        return self.metrics(outputs_of(self.learner(params, settings), test.x), test.y)

    def predict(self, params: Params, inputs: Arrays, ctx: Context) -> Arrays:
        """For inputs named x, in the units of the data."""
        settings = self._settings(ctx)
        if set(inputs) != {"x"} or inputs["x"].ndim < 1:
            raise Misconfigured(f"the inputs are {', '.join(sorted(inputs))}, and must be x alone, one row for each")
        return self.answers(outputs_of(self.learner(params, settings), in_units(inputs["x"], settings)))

    def _settings(self, ctx: Context) -> Settings:
        for key, value in ctx.config.items():
            if key not in self.settings:
                raise no_setting(key, self.settings)
            check_setting(key, value, self.settings[key])
        return {**self.settings, **ctx.config}

    def _of(self, ctx: Context, settings: Settings) -> tuple[Examples, Examples]:
        """To train on, and to evaluate on; read once."""
        if self._examples is None:
            if ctx.data is None:
                raise Misconfigured("trainer.data of node.toml is not set: it names the examples to train on")
            arrays = self.read(ctx.data)
            train = pair(arrays, "x", "y", ctx.data, settings)
            test = pair(arrays, "x_test", "y_test", ctx.data, settings) if "x_test" in arrays else train
            self._examples = train, test
        return self._examples


def pair(arrays: Mapping[str, Array], x_name: str, y_name: str, path: Path, settings: Settings) -> Examples:
    """Raises Misconfigured where these are no examples."""
    if x_name not in arrays or y_name not in arrays:
        raise Misconfigured(f"{path} has no {x_name} and {y_name}")
    x, y = arrays[x_name], arrays[y_name]
    if x.ndim < 1 or not len(x) or len(x) != len(y):
        raise Misconfigured(f"{x_name} and {y_name} of {path} must have the same number of rows, at least 1")
    return Examples(in_units(x, settings), y)


def in_units(x: Array, settings: Settings) -> Array:
    """(x - shift) / scale, by columns, as float32."""
    x = np.asarray(x, np.float32)
    for name in ("shift", "scale"):
        if settings[name] and len(settings[name]) != x.shape[-1]:
            raise Misconfigured(
                f"trainer_config.{name} has {len(settings[name])} numbers, and x has {x.shape[-1]} columns"
            )
    if settings["shift"]:
        x = x - np.asarray(settings["shift"], np.float32)
    if settings["scale"]:
        if 0 in settings["scale"]:
            raise Misconfigured("trainer_config.scale has a 0, by which nothing can be divided")
        x = x / np.asarray(settings["scale"], np.float32)
    return x


def no_setting(key: str, known: Collection[str]) -> Misconfigured:
    """For a key of `trainer_config` that is none of `known`."""
    near = get_close_matches(key, known, n=1)
    guess = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
    return Misconfigured(f"trainer_config.{key} is not a setting: {guess}")


def check_setting(key: str, value: Any, default: Any) -> None:
    """Raises Misconfigured unless `value` is of the kind that the default is of."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    match default:
        case bool() | str():
            fits, kind = type(value) is type(default), "true or false" if isinstance(default, bool) else "text"
        case int():
            least = 1 if key == "batch_size" else 0
            fits, kind = type(value) is int and value >= least, f"an int of at least {least}"
        case float():
            fits, kind = type(value) in (int, float), "a number"
        case _:
            fits, kind = not numbers or all(type(each) in (int, float) for each in numbers), "a list of numbers"
            fits = fits and isinstance(value, list | tuple)
    if not fits:
        raise Misconfigured(f"trainer_config.{key} is {value!r}, and must be {kind}")


def batches(rows: int, size: int, random: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    """All rows once, shuffled; the last ones may be fewer."""
    order = random.permutation(rows)
    for begin in range(0, rows, size):
        yield order[begin : begin + size]


def outputs_of(learner: Learner, x: Array) -> Array:
    """In blocks, so that activations need little memory."""
    return np.concatenate(
        [learner.outputs(x[row : row + EVALUATE_ROWS]) for row in range(0, max(1, len(x)), EVALUATE_ROWS)]
    )


def cross_entropy(scores: Array, y: Array) -> float:
    """Mean over rows of scores (n, classes), y (n,) ints."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]))
