"""From plain functions on MLX arrays to a plan's graphs: each is traced, written, read back, and must give the same.

What is traced is a class, or a module, with

    batch = {"x": ("float32", 64), "y": ("int32",)}     dtype and shape of a row, in the order of the arguments
    settings = {"learning_rate": 0.1}                   numbers that a run may set; optional
    def init(key): ...                                  params: arrays in dicts and lists
    def train_step(params, x, y, learning_rate): ...    the new params, and the loss
    def evaluate(params, x, y): ...                     a dict of means over the rows
    def predict(params, x): ...                         one array with a row for each of x; optional
    def state(params): ...                              zeros that train_step takes after params and gives after the
                                                        new params; optional
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from primep2p.model.errors import PluginError
from primep2p.model.ids import PeerId
from primep2p.model.plans import GraphKind, GraphRef, Plan, PlanArray, PlanSetting
from primep2p.wire.mlxfn import read_graph, renumbered

__all__ = ["Traced", "trace"]

BATCH_SIZE = 32
"""Of a plan that MLX cannot make independent of it, unless it names another as its `batch_size`."""

SEED = 1
"""Of the arrays that graphs are traced with and compared on."""

Function = Callable[..., Any]
Tree = Any
"""Arrays in dicts and lists."""


@dataclass(frozen=True)
class Traced:
    """A plan's record, which is to be signed, and its graphs in the order of the record."""

    plan: Plan
    graphs: tuple[bytes, ...]


def trace(source: Any, *, name: str, owner: PeerId) -> Traced:
    """The plan of a class or module. Raises PluginError, and whatever its functions raise."""
    mx.set_default_device(mx.cpu)
    author = Author(source)
    rows, graphs = 0, _graphs(author, author.batch_size, shapeless=True)
    if graphs is None:
        rows = author.batch_size
        graphs = _graphs(author, rows, shapeless=False)
    assert graphs is not None
    return Traced(
        Plan(
            owner=owner,
            name=name,
            mlx=version("mlx"),
            rows=rows,
            params=_specs(author.params),
            state=_specs(author.state),
            batch=tuple(PlanArray(each, dtype, shape) for each, (dtype, shape) in author.batch.items()),
            settings=tuple(PlanSetting(each, value) for each, value in author.settings.items()),
            metrics=author.metrics,
            is_random=author.is_random,
            graphs=tuple(GraphRef(kind, len(raw), sha256(raw).digest()) for kind, raw in graphs.items()),
        ),
        tuple(graphs.values()),
    )


class Author:
    """What somebody wrote, as functions from a list of arrays to one, in a plan's order."""

    def __init__(self, source: Any) -> None:
        self._source = source() if inspect.isclass(source) else source
        self.batch = {name: _row(name, row) for name, row in dict(self._attribute("batch")).items()}
        self.settings = {name: float(value) for name, value in dict(self._attribute("settings", {})).items()}
        self.batch_size = int(self._attribute("batch_size", BATCH_SIZE))
        self._init, self._step, self._evaluate = map(self._attribute, ("init", "train_step", "evaluate"))
        self._predict = self._attribute("predict", None)
        self.is_random = "key" in inspect.signature(self._step).parameters
        params = self._init(mx.random.key(SEED))
        self.params = _flat(params, "init")
        begin = self._attribute("state", None)
        self.state = _flat(begin(params), "state") if begin else {}
        self._has_state = begin is not None
        if any(bool(mx.any(array != 0).item()) for array in self.state.values()):
            raise PluginError("what the plan's state gives must be zeros: they are made anew each round")
        metrics = self._evaluate(params, *self.samples(self.batch_size).values())
        if not isinstance(metrics, dict) or not metrics:
            raise PluginError("the plan's evaluate must give a dict of numbers")
        self.metrics = tuple(sorted(metrics))

    def functions(self) -> dict[GraphKind, Function]:
        """Those to trace."""
        functions: dict[GraphKind, Function] = {"init": self.init, "train": self.train, "evaluate": self.evaluate}
        return functions | ({"predict": self.predict} if self._predict else {})

    def inputs(self, kind: GraphKind, rows: int) -> list[mx.array]:
        """To trace with, and to compare on."""
        samples, key = list(self.samples(rows).values()), mx.random.key(SEED)
        params = list(self.params.values())
        match kind:
            case "init":
                return [key]
            case "train":
                settings = [mx.array(value, dtype=mx.float32) for value in self.settings.values()]
                return [*params, *self.state.values(), *samples, *settings, *([key] if self.is_random else [])]
            case "evaluate":
                return [*params, *samples]
            case "predict":
                return [*params, samples[0]]

    def samples(self, rows: int) -> dict[str, mx.array]:
        """A batch of small numbers: of ints 0 and 1, which are classes or indices wherever there are two."""
        random = np.random.default_rng(SEED)
        return {
            name: mx.array(random.integers(0, 2, (rows, *shape)).astype(dtype))
            if not dtype.startswith("float")
            else mx.array(random.standard_normal((rows, *shape)).astype(dtype))
            for name, (dtype, shape) in self.batch.items()
        }

    def init(self, key: mx.array) -> list[mx.array]:
        """Layers that are made inside draw from a state of MLX's own, which cannot be the key: it is a constant."""
        mx.random.seed(SEED)
        return list(_flat(self._init(key), "init").values())

    def train(self, *inputs: mx.array) -> list[mx.array]:
        params, rest = self._tree(inputs, self.params)
        state, rest = self._tree(rest, self.state)
        batch, rest = rest[: len(self.batch)], rest[len(self.batch) :]
        named = dict(zip([*self.settings, "key"], rest, strict=False))
        made = self._step(params, *([state] if self._has_state else []), *batch, **named)
        if not isinstance(made, tuple) or len(made) != 2 + self._has_state:
            gives = "the new params, the new state and the loss" if self._has_state else "the new params and the loss"
            raise PluginError(f"the plan's train_step must give {gives}")
        trees = [_same(_flat(made[0], "train_step"), self.params, "params")]
        if self._has_state:
            trees.append(_same(_flat(made[1], "train_step"), self.state, "state"))
        return [*(array for tree in trees for array in tree.values()), _number(made[-1], "loss")]

    def evaluate(self, *inputs: mx.array) -> list[mx.array]:
        params, batch = self._tree(inputs, self.params)
        made = self._evaluate(params, *batch)
        return [_number(made[name], name) for name in self.metrics]

    def predict(self, *inputs: mx.array) -> list[mx.array]:
        params, (x,) = self._tree(inputs, self.params)
        return [self._predict(params, x)]

    def _tree(self, inputs: Sequence[mx.array], names: Mapping[str, mx.array]) -> tuple[Tree, Sequence[mx.array]]:
        return tree_unflatten(list(zip(names, inputs, strict=False))), inputs[len(names) :]

    def _attribute(self, name: str, *default: Any) -> Any:
        try:
            return getattr(self._source, name, *default)
        except AttributeError:
            raise PluginError(f"the plan has no {name!r}", hint="docs/plans.md shows what a plan is made of") from None


def _graphs(author: Author, rows: int, *, shapeless: bool) -> dict[GraphKind, bytes] | None:
    """Each function's graph. One for any number of rows is tried with another one than it was traced with; None where
    they depend on it."""
    made: dict[GraphKind, bytes] = {}
    with TemporaryDirectory() as directory:
        for kind, function in author.functions().items():
            path = Path(directory) / f"{kind}.mlxfn"
            inputs, free = author.inputs(kind, rows), shapeless and kind != "init"
            try:
                mx.export_function(str(path), function, *inputs, shapeless=free)
                raw = renumbered(path.read_bytes())
                path.write_bytes(raw)
                _compare(kind, path, function, author.inputs(kind, rows + 1) if free else inputs)
            except (RuntimeError, ValueError, PluginError) as error:
                if free:
                    return None
                if isinstance(error, PluginError):
                    raise
                raise PluginError(f"MLX cannot export the plan's function to {kind}: {error}") from error
            made[kind] = raw
    return made


def _compare(kind: GraphKind, path: Path, function: Function, inputs: list[mx.array]) -> None:
    """Raises ValueError unless the graph in the file gives the bytes that the function gives."""
    read_graph(path.read_bytes())
    imported: Any = mx.import_function(str(path))
    for one, other in zip(imported(*inputs), function(*inputs), strict=True):
        if np.array(one).tobytes() != np.array(other).tobytes() or one.shape != other.shape:
            raise ValueError(f"the graph to {kind} gives other bytes than the function")


def _row(name: str, row: Any) -> tuple[Any, tuple[int, ...]]:
    dtype, *shape = (row,) if isinstance(row, str) else row
    return dtype, tuple(map(int, shape))


def _flat(tree: Tree, where: str) -> dict[str, mx.array]:
    flat = dict(tree_flatten(tree))
    if not flat or not all(isinstance(array, mx.array) for array in flat.values()):
        raise PluginError(f"the plan's {where} must give MLX arrays in dicts and lists")
    return dict(sorted(flat.items()))


def _same(made: dict[str, mx.array], wanted: Mapping[str, mx.array], what: str) -> dict[str, mx.array]:
    for name in sorted(made.keys() | wanted.keys()):
        if name not in made or name not in wanted or made[name].shape != wanted[name].shape:
            raise PluginError(f"the plan's train_step gives another {name} of its {what} than it takes")
    return {name: array.astype(wanted[name].dtype) for name, array in made.items()}


def _number(array: Any, name: str) -> mx.array:
    if not isinstance(array, mx.array) or array.size != 1:
        raise PluginError(f"the plan's {name} must be one number, an MLX array")
    return array.reshape(()).astype(mx.float32)


def _specs(arrays: Mapping[str, mx.array]) -> tuple[PlanArray, ...]:
    return tuple(
        PlanArray(name, str(array.dtype).removeprefix("mlx.core.").removesuffix("_"), tuple(array.shape))  # type: ignore[arg-type]
        for name, array in arrays.items()
    )
