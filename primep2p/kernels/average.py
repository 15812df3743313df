"""Weighted means: the weights, and a mean that takes its rows one at a time [A1].

Row k enters as acc = round(acc + round(w[k] * x[k])), rows in the given order, starting from round(w[0] * x[0]): each
column stands alone, so blocks and threads change nothing.
"""

from collections.abc import Sequence

import numpy as np

from primep2p.kernels.arrays import BLOCK, Array, Each, Matrix, finish, one_after_another, ranges_of
from primep2p.kernels.backends.seam import Doubles
from primep2p.model.pipeline import Weighting

__all__ = ["Fold", "any_order_mean", "shares_of"]

PRODUCT_COLUMNS = 16 * 1024
"""Of one product: its result stays in the first-level cache while the rows pass."""


def shares_of(counts: Sequence[int], weighting: Weighting) -> Doubles:
    """Each row's share of the examples (each count at least 1), or the same for all: float64, each quotient of whole
    numbers, however large, rounded once."""
    if weighting == "uniform":
        return np.full(len(counts), 1.0 / len(counts))
    total = sum(counts)
    return np.array([count / total for count in counts], np.float64)


def any_order_mean(rows: Matrix, shares: Doubles, out: Array, *, each: Each = one_after_another) -> None:
    """out (D,) = the mean of rows (K, D) with these weights (K,), as fast as memory can be read.

    Sums are in the order of the BLAS, another one on each kind of machine: for results that nobody has to repeat.
    """
    weights = shares.astype(np.float32)

    def mean(start: int, end: int) -> None:
        with np.errstate(all="ignore"):
            for low, high in ranges_of(start, end, PRODUCT_COLUMNS):
                np.matmul(weights, rows.block(low, high), out=out[low:high])

    finish(each(ranges_of(0, len(out)), mean))


class Fold:
    """The mean of rows that arrive one after another, in one result's memory: the same bytes as with all at once.

    `shares` are known before the rows are, from what each update claims. Shape of rows and result: (D,).
    """

    def __init__(self, columns: int, shares: Doubles) -> None:
        self.result = np.zeros(columns, np.float32)
        """Of the rows so far."""
        self._weights = [np.float32(share) for share in shares]
        self._scratch = np.empty(min(BLOCK, columns), np.float32)
        self._taken = 0

    @property
    def missing(self) -> int:
        """Rows still to come."""
        return len(self._weights) - self._taken

    def add(self, row: Array) -> None:
        """The next row. Raises ValueError where it is one too many, or no row of this mean."""
        if not self.missing or row.shape != self.result.shape or row.dtype != np.float32:
            raise ValueError(f"{row.shape} of {row.dtype} with {self.missing} rows of {self.result.shape} to come")
        weight, first = self._weights[self._taken], self._taken == 0
        with np.errstate(all="ignore"):
            for low in range(0, len(row), BLOCK):
                result = self.result[low : low + BLOCK]
                product = result if first else self._scratch[: len(result)]
                np.multiply(row[low : low + BLOCK], weight, out=product)
                if not first:
                    np.add(result, product, out=result)
        self._taken += 1
