"""The backend that every machine has: numpy's ufuncs, and its BLAS where sums are exact. It defines the bytes."""

from collections.abc import Sequence

import numpy as np

from primep2p.kernels.arrays import Array, Block
from primep2p.kernels.backends.network import network
from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.order import mean

__all__ = ["Plain"]

WIRES = 32
"""Rows that a network sorts faster than a sort of each column does."""

CACHED_BYTES = 2**20
"""What a block of all rows may take to stay in the second-level cache."""

SUMMED = 2**18
"""Columns of a sum at a time: so many that threads seldom wait for each other between two calls, and few enough for the
cache behind the second-level one."""

NARROW = 2048
"""Columns below which a call for each row costs more than its work."""

MEAN_COLUMNS = 256
"""Columns at least, of which the wanted ranks are added while they are in the cache."""

NOTHING = np.float32(-0.0)


class Plain:
    """See `Backend`."""

    name = "numpy"

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        with np.errstate(all="ignore"):
            if isinstance(rows, np.ndarray) and 8 <= rows.shape[1] < NARROW:
                _narrow_sum(rows, weights, out)
                return
            scratch = np.empty(min(SUMMED, len(out)), np.float32)
            for low in range(0, len(out), SUMMED):
                result = out[low : low + SUMMED]
                product, high = scratch[: len(result)], low + len(result)
                np.multiply(rows[0][low:high], weights[0], out=result)
                for row, weight in zip(rows[1:], weights[1:], strict=True):
                    np.multiply(row[low:high], weight, out=product)
                    np.add(result, product, out=result)

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        if len(rows) <= WIRES:
            _by_network(rows, wanted, out)
        else:
            _by_sorting(rows, wanted, out)

    def ranked_mean(self, rows: Block, wanted: range, out: Array) -> None:
        width = min(max(MEAN_COLUMNS, CACHED_BYTES // (4 * len(rows))), len(out))
        scratch = np.empty((len(wanted), width), np.float32)
        with np.errstate(all="ignore"):
            for low in range(0, len(out), width):
                result = out[low : low + width]
                values = scratch[:, : len(result)]
                self.ranks([row[low : low + width] for row in rows], wanted, values)
                mean(values, result)

    def largest(self, rows: Block) -> Array:
        return np.array([max(row.max(), -row.min()) for row in rows], np.float32) + np.float32(0)

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        for row, scale, integers in zip(rows, scales, out, strict=True):
            np.multiply(row, scale, out=integers, dtype=np.float64)
        np.rint(out, out=out)


def _narrow_sum(rows: Array, weights: Array, out: Array) -> None:
    """Many short rows: reducing along the first axis adds one row after another where columns are not the shorter
    run, which the self-check watches. It begins with -0.0, which alone changes no value that is added to it."""
    count, columns = rows.shape
    step = max(1, CACHED_BYTES // (8 * columns))
    scratch = np.empty((min(step, count) + 1, columns), np.float32)
    for low in range(0, count, step):
        products = scratch[1 : 1 + min(step, count - low)]
        np.multiply(rows[low : low + step], weights[low : low + step, None], out=products)
        if low == 0:
            np.add.reduce(products, axis=0, out=out, initial=NOTHING)
        else:
            scratch[0] = out
            np.add.reduce(scratch[: 1 + len(products)], axis=0, out=out, initial=NOTHING)


def _by_sorting(rows: Block, wanted: range, out: Array) -> None:
    """Sort each column of a block that fits into the cache."""
    columns, width = out.shape[1], max(64, CACHED_BYTES // (8 * len(rows)))
    scratch = np.empty((len(rows), min(width, columns)), np.float32)
    for low in range(0, columns, width):
        block = scratch[:, : min(width, columns - low)]
        for row, copy in zip(rows, block, strict=True):
            copy[:] = row[low : low + width]
        block.sort(axis=0)
        out[:, low : low + width] = block[wanted.start : wanted.stop]


def _by_network(rows: Block, wanted: range, out: Array) -> None:
    """Smallest and largest of two rows at a time, in an order that sorts."""
    columns, width = out.shape[1], max(1024, CACHED_BYTES // (4 * len(rows)))
    scratch = np.empty((len(rows) + 2, min(width, columns)), np.float32)
    comparators = network(len(rows), wanted.start, wanted.stop)
    for low in range(0, columns, width):
        block = [row[low : low + width] for row in rows]
        _compare(block, comparators, scratch[:, : len(block[0])])
        for rank, result in zip(wanted, out, strict=True):
            result[low : low + width] = block[rank]


def _compare(wires: list[Array], comparators: Sequence[tuple[int, int, bool, bool]], scratch: Array) -> None:
    """Leaves `wires` in order. They begin as the inputs, which stay as they are, and become rows of `scratch`."""
    free = list(scratch)
    own: list[Array | None] = [None] * len(wires)
    for low, high, small, large in comparators:
        first, second = wires[low], wires[high]
        if small and large:
            smaller = free.pop()
            np.minimum(first, second, out=smaller)
            larger = _owned(own[high], own[low], free)
            np.maximum(first, second, out=larger)
            free += [row for row in (own[low], own[high]) if row is not None and row is not larger]
            wires[low] = own[low] = smaller
            wires[high] = own[high] = larger
            continue
        target = _owned(own[low], own[high], free)
        (np.minimum if small else np.maximum)(first, second, out=target)
        free += [row for row in (own[low], own[high]) if row is not None and row is not target]
        kept, gone = (low, high) if small else (high, low)
        wires[kept] = own[kept] = target
        own[gone] = None


def _owned(first: Array | None, second: Array | None, free: list[Array]) -> Array:
    """A row of scratch to write over: of one of the wires, else a free one."""
    if first is not None:
        return first
    return second if second is not None else free.pop()
