"""A run's pipeline, from its stages to the columns of the result.

First the rows are looked at as a whole, if the rule or a stage before it needs that (geometry.py), which decides a
`Combination`; then each column of the result follows from that column alone. Nothing here is as large as the rows.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from primep2p.kernels.arrays import Array, Block, Each, Range, Rows, finish, one_after_another, ranges_of
from primep2p.kernels.average import shares_of
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend, Doubles
from primep2p.kernels.geometry import gram, product, squares
from primep2p.kernels.mixing import Mixed, mix
from primep2p.kernels.order import closest_mean
from primep2p.kernels.robust import Choice, bulyan_choice, centered_clip, geometric_median, krum_order
from primep2p.model.pipeline import (
    Arc,
    Bulyan,
    CenteredClip,
    Clip,
    FedAvg,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    Pipeline,
    TrimmedMean,
    Weighting,
    trimmed,
)

__all__ = ["Combination", "aggregate", "combine", "fill", "reads"]

SORTED_BYTES = 4 * 2**20
"""What the columns that are sorted at a time may take, inputs and outputs each."""


class Combination(Protocol):
    """How the columns of the result follow from those of the rows."""

    @property
    def entering(self) -> Sequence[int] | None:
        """The rows that have a part in it, ascending; None where all have."""
        ...

    def columns(self, rows: Rows, start: int, end: int, out: Array) -> None:
        """These columns of the result, (end - start,); from several threads at once, if they like. Overflow gives inf
        or NaN, without a warning."""
        ...


def aggregate(
    pipeline: Pipeline,
    rows: Rows,
    counts: Sequence[int],
    seed: bytes = b"",
    *,
    out: Array,
    backend: Backend | None = None,
    each: Each = one_after_another,
) -> None:
    """out (D,) = what `pipeline` makes of the rows (K, D), without the outer optimiser. See `combine`."""
    combination = combine(pipeline, rows, counts, seed, backend=backend, each=each)
    fill(combination, rows, 0, out, each)


def fill(combination: Combination, rows: Rows, start: int, out: Array, each: Each) -> None:
    """out (B,) = the columns of the result from `start` on."""

    def compute(low: int, high: int) -> None:
        combination.columns(rows, low, high, out[low - start : high - start])

    finish(each(ranges_of(start, start + len(out)), compute))


def combine(
    pipeline: Pipeline,
    rows: Rows,
    counts: Sequence[int],
    seed: bytes = b"",
    *,
    backend: Backend | None = None,
    each: Each = one_after_another,
) -> Combination:
    """Decide what becomes of finite `rows` (K, D), of which each claims so many examples; K >= 1 and D >= 1.

    `seed` is what random stages draw from. Raises ValueError where the rows are fewer than the pipeline needs.
    """
    if rows.shape[0] != len(counts) or len(counts) < pipeline.least_updates:
        raise ValueError(f"{len(counts)} counts for {rows.shape[0]} rows, of which {pipeline.least_updates} are needed")
    backend = backend or Plain()
    shares = shares_of(counts, _weighting(pipeline))
    if not pipeline.pre and isinstance(pipeline.rule, FedAvg):
        return Linear(shares, backend)
    if not pipeline.pre and isinstance(pipeline.rule, Median | TrimmedMean):
        return _ordered(pipeline.rule, len(counts), None, backend)
    products = np.diag(squares(rows, backend, each)) if _needs_lengths(pipeline) else gram(rows, backend, each)
    mixed = mix(products, shares, pipeline.pre, seed)
    if isinstance(pipeline.rule, Median | TrimmedMean):
        return _ordered(pipeline.rule, len(mixed.matrix), mixed.matrix, backend)
    if isinstance(pipeline.rule, Bulyan):
        chosen = bulyan_choice(mixed.gram, pipeline.rule.f)
        count = len(chosen) - 2 * pipeline.rule.f
        return ClosestMean(mixed.matrix[chosen], count, backend)
    return Linear(product(np.ascontiguousarray(mixed.matrix.T), _coefficients(pipeline.rule, mixed)), backend)


def reads(pipeline: Pipeline) -> int:
    """How often each value is read, at the most, from `combine` to the last column."""
    return 1 if not pipeline.pre and isinstance(pipeline.rule, FedAvg | Median | TrimmedMean) else 3


def _needs_lengths(pipeline: Pipeline) -> bool:
    """Whether no stage looks at the product of two different rows."""
    scales = all(isinstance(stage, Clip | Arc) for stage in pipeline.pre)
    return scales and isinstance(pipeline.rule, FedAvg | Median | TrimmedMean)


def _weighting(pipeline: Pipeline) -> Weighting:
    return "examples" if pipeline.is_weighted else "uniform"


def _coefficients(rule: FedAvg | Krum | MultiKrum | GeometricMedian | CenteredClip, mixed: Mixed) -> Doubles:
    """What the rows that the rule sees are multiplied by before they are added."""
    count = len(mixed.gram)
    match rule:
        case FedAvg():
            return mixed.shares
        case Krum(f):
            return _mean_of(count, krum_order(mixed.gram, f)[:1])
        case MultiKrum(f, m):
            return _mean_of(count, krum_order(mixed.gram, f)[: m or count - f])
        case GeometricMedian(nu, iterations):
            return geometric_median(mixed.gram, mixed.shares, nu=nu, iterations=iterations)
        case CenteredClip(tau, iterations):
            return centered_clip(mixed.gram, tau=tau, iterations=iterations)


def _mean_of(count: int, chosen: Choice) -> Doubles:
    coefficients = np.zeros(count)
    coefficients[chosen] = 1 / len(chosen)
    return coefficients


def _ordered(rule: Median | TrimmedMean, count: int, matrix: Doubles | None, backend: Backend) -> "RankedMean":
    if isinstance(rule, Median):
        return RankedMean(count, matrix, range((count - 1) // 2, count // 2 + 1), backend, plus_zero=True)
    cut = trimmed(rule, count)
    return RankedMean(count, matrix, range(cut, count - cut), backend, plus_zero=False)


class Linear:
    """A weighted sum of the rows. Coefficients (K,) are rounded to float32 once; rows of coefficient 0 never enter."""

    def __init__(self, coefficients: Doubles, backend: Backend) -> None:
        rounded = coefficients.astype(np.float32)
        self._weights = rounded[rounded != 0]
        self._all = len(self._weights) == len(rounded)
        self._entering = [] if self._all else [int(row) for row in np.flatnonzero(rounded)]
        self._backend = backend

    @property
    def entering(self) -> Sequence[int] | None:
        return None if self._all else self._entering

    def columns(self, rows: Rows, start: int, end: int, out: Array) -> None:
        for low, high in ranges_of(start, end, rows.width):
            self.add_up(rows.block(low, high), out[low - start : high - start])

    def add_up(self, block: Block, out: Array) -> None:
        """The same of columns that are here."""
        if not len(self._weights):
            out[:] = 0
            return
        entering = block if self._all else [block[row] for row in self._entering]
        self._backend.weighted_sum(entering, self._weights, out)


class RankedMean:
    """Of each coordinate's values the mean of those of wanted ranks."""

    def __init__(self, count: int, matrix: Doubles | None, wanted: range, backend: Backend, *, plus_zero: bool) -> None:
        self._sorted = Sorted(count, matrix, backend)
        self._wanted = wanted
        self._backend = backend
        self._plus_zero = plus_zero
        self.entering = _used(matrix)

    def columns(self, rows: Rows, start: int, end: int, out: Array) -> None:
        for low, high in self._sorted.ranges(rows, start, end):
            block = self._sorted.block(rows, low, high)
            self._backend.ranked_mean(block, self._wanted, out[low - start : high - start])
        if self._plus_zero:
            np.add(out, np.float32(0), out=out)


class ClosestMean:
    """Each coordinate's values in ascending order, and the mean of the `count` closest to their median."""

    def __init__(self, matrix: Doubles, count: int, backend: Backend) -> None:
        self._sorted = Sorted(len(matrix), matrix, backend)
        self._all = range(len(matrix))
        self._finish = closest_mean(count)
        self._backend = backend
        self.entering = _used(matrix)

    def columns(self, rows: Rows, start: int, end: int, out: Array) -> None:
        width = min(self._sorted.width, rows.width)
        ranked = np.empty((len(self._all), min(width, end - start)), np.float32)
        with np.errstate(all="ignore"):
            for low, high in ranges_of(start, end, width):
                values = ranked[:, : high - low]
                self._backend.ranks(self._sorted.block(rows, low, high), self._all, values)
                self._finish(values, out[low - start : high - start])


class Sorted:
    """The rows that are sorted: `matrix` (K', K) times those that are given, each a weighted sum in float32; without a
    matrix they are those that are given. There are `count` of them."""

    def __init__(self, count: int, matrix: Doubles | None, backend: Backend) -> None:
        self._mixing = [] if matrix is None or _chooses(matrix) else [Linear(row, backend) for row in matrix]
        self._chosen = None if matrix is None else [int(np.argmax(row)) for row in matrix]
        self.width = max(256, SORTED_BYTES // (4 * count))

    def ranges(self, rows: Rows, start: int, end: int) -> list[Range]:
        """What to ask `block` for: as much as the rows give at once, unless that makes new ones."""
        return ranges_of(start, end, min(self.width, rows.width) if self._mixing else rows.width)

    def block(self, rows: Rows, start: int, end: int) -> Block:
        block = rows.block(start, end)  # once: rows that travelled in another form are decoded here
        if not self._mixing:
            return block if self._chosen is None else [block[row] for row in self._chosen]
        mixed = np.empty((len(self._mixing), end - start), np.float32)
        for combination, row in zip(self._mixing, mixed, strict=True):
            combination.add_up(block, row)
        return mixed


def _used(matrix: Doubles | None) -> Sequence[int] | None:
    """The rows of which a matrix (K', K) takes something; None where that is all of them."""
    used = [] if matrix is None else [int(row) for row in np.flatnonzero(matrix.any(axis=0))]
    return None if matrix is None or len(used) == matrix.shape[1] else used


def _chooses(matrix: Doubles) -> bool:
    """Whether each new row is one of the old, untouched."""
    return bool(np.all((matrix == 0) | (matrix == 1)) and np.all(np.count_nonzero(matrix, axis=1) == 1))
