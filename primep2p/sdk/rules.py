"""Aggregation rules on arrays of one's own, without a daemon and without a round.

>>> import numpy as np
>>> from primep2p import aggregate
>>> updates = [np.array([1.0, 2.0]), np.array([3.0, 2.0]), np.array([2.0, 200.0]), np.array([2.0, 4.0])]
>>> aggregate(updates)
array([ 2., 52.], dtype=float32)
>>> aggregate(updates, "median")
array([2., 3.], dtype=float32)
>>> aggregate([{"w": [1, 1]}, {"w": [4, 4]}], examples=[1, 2])
{'w': array([3., 3.], dtype=float32)}
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from primep2p.kernels.arrays import Array, Each, Pieces, Range, Separate, Span, all_finite, one_after_another
from primep2p.kernels.pipeline import aggregate as aggregate_rows
from primep2p.model.pipeline import Pipeline
from primep2p.sdk.tensor_buffer import TensorBuffer, create_tensor_buffer
from primep2p.strict import Fault, build

__all__ = ["Setting", "Stage", "aggregate"]

THREADS_FROM = 2**20
"""Fewer values than this are aggregated before threads have begun."""

Setting = bool | int | float | str
Stage = str | Mapping[str, Setting]
"""A stage's name, or a table with its `name` and settings, as in run.toml."""


def aggregate(
    updates: Sequence[Any],
    rule: str = "fedavg",
    *,
    examples: Sequence[int] | None = None,
    pre: Sequence[Stage] = (),
    seed: bytes = b"",
    **settings: Setting,
) -> Any:
    """What `rule` makes of K updates, with the bytes that a round of a run would certify.

    Args:
        updates: K arrays of one shape (anything that numpy makes an array of), K TensorBuffers of one shape, or K
            mappings from names to such arrays, with the same names and shapes. They are taken as float32.
        rule: fedavg, median, trimmed_mean, krum, multi_krum, bulyan, geometric_median, centered_clip (docs/kernels.md).
        examples: the weight of each update, at least 1, for fedavg; without it all count the same.
        pre: stages before the rule: "clip", "arc", "nnm", "bucketing", or tables with their settings.
        seed: what bucketing draws from.
        settings: of the rule: f, m, trim_ratio, nu, tau, iterations.

    Returns:
        One float32 array of that shape, a TensorBuffer, or a dict of arrays: as the updates are.

    Raises:
        ValueError: where shapes or names differ, a value is not finite, or the rule needs more updates.

    >>> aggregate([[0.0, 0.0], [0.0, 0.5], [0.5, 0.0], [90.0, -90.0], [0.5, 0.5]], "krum", f=1)
    array([0., 0.], dtype=float32)
    >>> aggregate([[1.0], [2.0]], "krum", f=1)
    Traceback (most recent call last):
    ValueError: krum with f = 1 needs 5 updates (2f + 3), and there are 2
    """
    if not updates:
        raise ValueError("there are no updates")
    pipeline = _pipeline(rule, settings, pre, weighted=examples is not None)
    if len(updates) < pipeline.least_updates:
        need = pipeline.need
        words = f"{need.stage.words} needs {need.updates} updates ({need.because})"
        raise ValueError(f"{words}, and there are {len(updates)}")
    counts = _counts(examples, len(updates))
    tables = [_table(update, place) for place, update in enumerate(updates)]
    rows = Separate([_row(table, tables[0], place) for place, table in enumerate(tables)])
    out = np.empty(rows.shape[1], np.float32)
    with _threads(rows.shape[0] * rows.shape[1]) as each:
        aggregate_rows(pipeline, rows, counts, seed, out=out, each=each)
    return _as_given(updates[0], tables[0], out)


def _pipeline(rule: str, settings: Mapping[str, Setting], pre: Sequence[Stage], *, weighted: bool) -> Pipeline:
    table: dict[str, object] = {"name": rule, **settings}
    if rule == "fedavg":
        table.setdefault("weighting", "examples" if weighted else "uniform")
    elif weighted:
        raise ValueError(f"examples have no effect with {rule}: every update counts the same")
    stages = [stage if isinstance(stage, str) else dict(stage) for stage in pre]
    try:
        return build(Pipeline, {"rule": table, "pre": stages})
    except Fault as fault:
        raise ValueError(str(fault)) from fault


def _counts(examples: Sequence[int] | None, count: int) -> list[int]:
    if examples is None:
        return [1] * count
    if len(examples) != count or not all(0 < each <= 2**40 for each in examples):
        raise ValueError(f"examples must be {count} counts of at least 1, one for each update")
    return [int(each) for each in examples]


def _table(update: Any, place: int) -> dict[str, Array]:
    """The arrays of an update; one that has no name is under the empty one. What is float32 and lies in one piece is
    not copied."""
    named = update if isinstance(update, Mapping) else {"": update}
    if not named:
        raise ValueError(f"update {place} has no arrays")
    return {name: np.ascontiguousarray(each, np.float32) for name, each in named.items()}


def _row(table: dict[str, Array], first: dict[str, Array], place: int) -> Span | Pieces:
    if table.keys() != first.keys():
        raise ValueError(f"update {place} has the arrays {sorted(table)}, and update 0 has {sorted(first)}")
    for name, array in table.items():
        said = f"{name} of update {place}" if name else f"update {place}"
        if array.shape != first[name].shape:
            raise ValueError(f"{said} has the shape {array.shape}, and that of update 0 is {first[name].shape}")
        if array.size == 0:
            raise ValueError(f"{said} is empty")
        if not all_finite(array.reshape(-1)):
            raise ValueError(f"{said} has a value that is not finite")
    arrays = [table[name].reshape(-1) for name in first]
    return Span(arrays[0]) if len(arrays) == 1 else Pieces(arrays)


@contextmanager
def _threads(values: int) -> Iterator[Each]:
    """The columns shared by all cores, where that is worth it."""
    if values < THREADS_FROM:
        yield one_after_another
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def each(ranges: Sequence[Range], function: Any) -> Any:
            return pool.map(lambda columns: function(*columns), ranges)

        yield cast(Each, each)


def _as_given(first: Any, table: dict[str, Array], out: Array) -> Any:
    if isinstance(first, TensorBuffer):
        return create_tensor_buffer(out, first.shape)
    parts, begin = {}, 0
    for name, array in table.items():
        parts[name] = out[begin : begin + array.size].reshape(array.shape)
        begin += array.size
    return parts if isinstance(first, Mapping) else parts[""]
