"""The trainer that runs a plan: graphs of MLX in place of code. The node puts the plan beside it, checked.

`ctx.data` is a .npz, a .safetensors or a directory of .npy with an array for each of the plan's batch, by its name;
those with `_test` at the end are for `evaluate`. Only a trainer's process imports this: MLX's native code is given
graphs that wire/mlxfn.py has read, and what it makes of them is held against the whitelist once more.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from primep2p.model.plans import MAX_PLAN_BYTES, GraphKind, Plan
from primep2p.plugin.api import Context, Metrics, Params, Update
from primep2p.plugin.discovery import PLAN_FILE
from primep2p.trainers.dense import minibatches
from primep2p.wire.mlxfn import ArrayType
from primep2p.wire.plans import OpenedPlan, read_plan, types_of

try:
    import mlx.core as mx
except ImportError as error:
    raise ImportError(
        f"MLX cannot be imported ({error}): pip install '.[mlx]' where primep2p was cloned, for which there must be "
        "glibc 2.35 on Linux, or macOS 14 on Apple silicon. This node votes, and does not train"
    ) from error

__all__ = ["PlanTrainer"]

EVALUATE_ROWS = 4096
"""Of one batch, where the plan takes any number."""

TRACED_ROWS = 2
"""Of the zeros that a graph for any number of rows is traced with."""

ALIASES = {
    alias: name
    for name, aliases in {
        "Reduce": "And Or Sum Prod Min Max",
        "Scan": "CumSum CumProd CumMin CumMax CumLogaddexp",
        "BitwiseBinary": "BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift",
        "Log": "Log2 Log10",
        "Equal": "NaNEqual",
        "Sqrt": "Rsqrt",
    }.items()
    for alias in aliases.split()
}
"""What MLX's drawings call primitives that its files have under one name."""

_LABEL = re.compile(r'label ?= ?"(\w+)')

HELD_OUT = 0.1
HELD_OUT_SEED = 0
"""Which rows are held out must not change from round to round."""

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Settings:
    """What `trainer_config` may say beside the plan's own settings."""

    epochs: int = 1
    batch_size: int = 32
    held_out: float = HELD_OUT
    """The part of the rows to evaluate on where the data has no arrays of its own for that."""


class PlanTrainer:
    """See docs/plans.md."""

    abi_version = 2

    def __init__(self) -> None:
        mx.set_default_device(mx.cpu)  # the graphs are for it, and give the same on all of a run's machines
        self._loaded: Loaded | None = None
        self._examples: tuple[Arrays, Arrays] | None = None

    def init(self, ctx: Context) -> Params:
        plan = self._plan(ctx)
        arrays = plan.run("init", [mx.random.key(ctx.seed)])
        return {spec.name: np.array(array) for spec, array in zip(plan.record.params, arrays, strict=True)}

    def train(self, params: Params, ctx: Context) -> Update:
        """`epochs` over the rows that are not held out. What a step hands to the next begins as zeros each round; after
        each epoch it is saved, so that a training that was cut short goes on from there."""
        plan = self._plan(ctx)
        record = plan.record
        settings, own = settings_of(record, ctx.config)
        rows = self._data(ctx, settings)[0]
        count, size = rows_of(rows), record.rows or settings.batch_size
        per_epoch = count // size if record.rows else -(-count // size)
        if not per_epoch:
            raise ValueError(f"there are {count} rows to train on, and one batch of the plan takes {size}")
        steps = settings.epochs * per_epoch
        numbers = [mx.array(value, dtype=mx.float32) for value in own]
        begin, carried, losses = resumed(ctx, record, params)
        keys: Any = mx.random.split(mx.random.key(ctx.seed), steps) if record.is_random else []
        batches = minibatches(count, size, np.random.default_rng(ctx.seed))
        full = (batch for batch in batches if not record.rows or len(batch) == size)
        for step, batch in enumerate(islice(full, begin, steps), begin):
            taken = [mx.array(rows[spec.name][batch]) for spec in record.batch]
            key = [keys[step]] if record.is_random else []
            *carried, loss = plan.run("train", [*carried, *taken, *numbers, *key])
            losses.append(float(np.array(loss)))
            ctx.report(step=step + 1, steps=steps, loss=losses[-1])
            if (step + 1) % per_epoch == 0 and step + 1 < steps:
                ctx.checkpoint(saved(carried, losses), step + 1)
        made = {spec.name: np.array(array) for spec, array in zip(record.params, carried, strict=False)}
        return Update(examples=count, params=made, metrics={"loss": float(np.mean(losses[-per_epoch:]))})

    def evaluate(self, params: Params, ctx: Context) -> Metrics:
        """Means over the rows to evaluate on; of a plan for batches of one size, over as many as fill batches."""
        if ctx.data is None:
            return {}
        plan = self._plan(ctx)
        record = plan.record
        rows = self._data(ctx, settings_of(record, ctx.config)[0])[1]
        fixed, count = [mx.array(params[spec.name]) for spec in record.params], rows_of(rows)
        sums, seen = np.zeros(len(record.metrics)), 0
        for batch in parts(count, record.rows or EVALUATE_ROWS, whole=bool(record.rows)):
            taken = [mx.array(rows[spec.name][batch]) for spec in record.batch]
            size = batch.stop - batch.start
            sums += np.array([float(np.array(each)) for each in plan.run("evaluate", [*fixed, *taken])]) * size
            seen += size
        return {name: float(total / seen) for name, total in zip(record.metrics, sums, strict=True)} if seen else {}

    def predict(self, params: Params, inputs: Mapping[str, npt.NDArray[Any]], ctx: Context) -> Arrays:
        """What the plan says of rows under the name of its batch's first array; of a plan for batches of one size, the
        last batch is filled up with zeros."""
        plan = self._plan(ctx)
        spec, size = plan.record.batch[0], plan.record.rows or EVALUATE_ROWS
        if not plan.predicts:
            raise ValueError(
                "the plan has no graph to predict: its owner exports one from a function predict(params, x)"
            )
        rows = fitting(inputs, spec.name, ArrayType(spec.dtype, spec.shape), "what is given")
        fixed, made = [mx.array(params[each.name]) for each in plan.record.params], []
        for batch in parts(len(rows), size, whole=False):
            taken = rows[batch]
            if plan.record.rows:
                taken = np.concatenate([taken, np.zeros((size - len(taken), *spec.shape), spec.dtype)])
            [answer] = plan.run("predict", [*fixed, mx.array(taken)])
            made.append(np.array(answer)[: batch.stop - batch.start])
        if not made:
            raise ValueError(f"{spec.name} of what is given has no rows")
        return {"predictions": np.concatenate(made)}

    def _plan(self, ctx: Context) -> "Loaded":
        if self._loaded is None:
            self._loaded = Loaded(ctx.scratch)
        return self._loaded

    def _data(self, ctx: Context, settings: Settings) -> tuple[Arrays, Arrays]:
        if ctx.data is None:
            raise ValueError("trainer.data of node.toml is not set: it names the arrays to train on")
        if self._examples is None:
            self._examples = examples(ctx.data, self._plan(ctx).record, settings.held_out)
        return self._examples


class Loaded:
    """A plan whose graphs MLX has read, below `directory`."""

    def __init__(self, directory: Path) -> None:
        file = directory / PLAN_FILE
        if file.stat().st_size > MAX_PLAN_BYTES:
            raise ValueError(f"a plan of {file.stat().st_size} bytes, more than the {MAX_PLAN_BYTES} allowed")
        opened = read_plan(file.read_bytes())
        self.record: Plan = opened.record
        self._functions = {kind: _imported(opened, kind, directory / f"{kind}.mlxfn") for kind in opened.raw}

    @property
    def predicts(self) -> bool:
        """Whether it has a graph for that."""
        return "predict" in self._functions

    def run(self, kind: GraphKind, inputs: list[mx.array]) -> list[mx.array]:
        """What the graph gives, computed: a lazy array would keep those of all steps before it."""
        outputs = list(self._functions[kind](*inputs))
        mx.eval(outputs)
        return outputs


def _imported(plan: OpenedPlan, kind: GraphKind, path: Path) -> Any:
    """The graph as MLX's function, for which its constants stay in the file at `path`. Before any of it is evaluated it
    is traced with zeros, for what MLX itself has found in the file: the primitives that this package has read there."""
    path.write_bytes(plan.raw[kind])
    function: Any = mx.import_function(str(path))
    graph = plan.graphs[kind]
    takes, _ = types_of(plan.record, kind, plan.record.rows or TRACED_ROWS)
    zeros = [mx.zeros(each.shape, dtype=getattr(mx, dtype_of(each.dtype))) for each in takes]
    mx.eval(zeros)  # else the primitive that makes them is in the drawing
    drawing = StringIO()
    mx.export_to_dot(drawing, *function(*zeros))
    found = {ALIASES.get(name, name) for name in _LABEL.findall(drawing.getvalue())}
    known = graph.primitives.keys() | ({"Load"} if graph.constants_bytes else set())
    if strange := sorted(found - known):
        raise ValueError(
            f"MLX {version('mlx')} finds {', '.join(strange)} in the graph to {kind}, which MLX {graph.mlx} wrote: "
            "export the plan again with the same version"
        )
    return function


def resumed(ctx: Context, plan: Plan, params: Params) -> tuple[int, list[mx.array], list[float]]:
    """Where training begins: the step, what steps hand on, the losses so far. At first that is the round's params, and
    zeros for the rest."""
    arrays = [mx.array(params[spec.name]) for spec in plan.params]
    arrays += [mx.zeros(spec.shape, dtype=getattr(mx, dtype_of(spec.dtype))) for spec in plan.state]
    if (found := ctx.resume()) is None:
        return 0, arrays, []
    step, kept = found
    return step, [mx.array(kept[str(place)]) for place in range(len(arrays))], kept["losses"].tolist()


def saved(carried: list[mx.array], losses: list[float]) -> Arrays:
    """What `resumed` takes up again."""
    return {**{str(place): np.array(array) for place, array in enumerate(carried)}, "losses": np.array(losses)}


def settings_of(plan: Plan, config: Mapping[str, Any]) -> tuple[Settings, list[float]]:
    """Those of the trainer, and the plan's own in its order. Raises ValueError with one sentence that names the key."""
    own = {setting.name: setting.default for setting in plan.settings}
    known = {"epochs", "batch_size", "held_out", *own} - ({"batch_size"} if plan.rows else set())
    for key, value in config.items():
        if key not in known:
            raise ValueError(
                f"trainer_config.{key} is not a setting of this plan; there are: {', '.join(sorted(known))}"
            )
        wanted, least = (int, 1) if key in ("epochs", "batch_size") else (float, None)
        if type(value) not in {int, wanted} or (least is not None and value < least):
            raise ValueError(
                f"trainer_config.{key} is {value!r}, and must be {'an int of at least 1' if least else 'a number'}"
            )
    settings = Settings(**{key: value for key, value in config.items() if key not in own})
    if not 0 <= settings.held_out < 1:
        raise ValueError(f"trainer_config.held_out is {settings.held_out}, and must be at least 0 and less than 1")
    return settings, [float(config.get(name, default)) for name, default in own.items()]


def examples(path: Path, plan: Plan, held_out: float) -> tuple[Arrays, Arrays]:
    """The rows to train on, and those to evaluate on. Raises ValueError naming the array that is wrong."""
    arrays = load(path)
    rows = {spec.name: fitting(arrays, spec.name, ArrayType(spec.dtype, spec.shape), path) for spec in plan.batch}
    count = rows_of(rows)
    if any(len(array) != count for array in rows.values()) or not count:
        raise ValueError(f"the arrays {', '.join(rows)} of {path} must have one number of rows, at least 1")
    tests = [f"{spec.name}_test" for spec in plan.batch]
    if any(name in arrays for name in tests):
        kept = {s.name: fitting(arrays, f"{s.name}_test", ArrayType(s.dtype, s.shape), path) for s in plan.batch}
        if len({len(array) for array in kept.values()}) != 1:
            raise ValueError(f"the arrays {', '.join(tests)} of {path} must have one number of rows")
        return rows, kept
    order = np.random.default_rng(HELD_OUT_SEED).permutation(count)
    aside = int(count * held_out)
    if not aside:
        return rows, rows
    return (
        {name: array[order[aside:]] for name, array in rows.items()},
        {n: a[order[:aside]] for n, a in rows.items()},
    )


def load(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of a file, or of a directory's files, by name."""
    if path.is_dir():
        return {file.stem: np.load(file, allow_pickle=False, mmap_mode="r") for file in sorted(path.glob("*.npy"))}
    if path.suffix == ".safetensors":
        return load_file(path)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def fitting(arrays: Mapping[str, npt.NDArray[Any]], name: str, row: ArrayType, path: Path | str) -> npt.NDArray[Any]:
    """An array whose rows are as the plan says."""
    if name not in arrays:
        raise ValueError(f"{path} has no array {name!r}, and the plan's batches are made of it")
    array = arrays[name]
    if array.ndim < 1 or array.shape[1:] != row.shape:
        raise ValueError(
            f"{name} of {path} has the shape {array.shape}, and each row of the plan's batches {row.shape}"
        )
    if not np.can_cast(array.dtype, row.dtype, "same_kind"):
        raise ValueError(f"{name} of {path} is {array.dtype}, and must be {row.dtype}")
    return np.ascontiguousarray(array, row.dtype)


def rows_of(arrays: Arrays) -> int:
    """How many rows its arrays have."""
    return len(next(iter(arrays.values())))


def parts(count: int, size: int, *, whole: bool) -> Iterator[slice]:
    """Of so many rows; with `whole` only those of full size."""
    for begin in range(0, count, size):
        if not whole or begin + size <= count:
            yield slice(begin, min(begin + size, count))


def dtype_of(name: str) -> str:
    """As MLX calls it."""
    return "bool_" if name == "bool" else name
