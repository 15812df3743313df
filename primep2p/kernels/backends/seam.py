"""What a backend must compute, to the byte: the passes over the rows that every rule is made of.

A backend is called for one range of columns at a time, from several threads at once, and does its own blocking. The
numpy backend is the reference; the contract suite in tests/kernels holds the others to its bytes.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import Array, Block

__all__ = ["Backend", "Doubles"]

Doubles = npt.NDArray[np.float64]


class Backend(Protocol):
    """Rows are finite float32, (K, B) with K >= 1 and B >= 1; denormals count."""

    @property
    def name(self) -> str:
        """As configuration calls it."""
        ...

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        """out[d] = sum over k of weights[k] * rows[k][d], in float32: multiply, round, add, round, one row after
        another, from round(weights[0] * rows[0][d]) on. Never fused, never in another order. `weights` is (K,).
        Overflow gives inf, without a warning."""
        ...

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        """out[i, d] = the value of rank wanted[i] (0: the smallest) among rows[0..K-1][d]; `out` is
        (len(wanted), B). Which of two zeros of different sign comes first is open: no rule depends on it."""
        ...

    def ranked_mean(self, rows: Block, wanted: range, out: Array) -> None:
        """out[d] = the values of the ranks `wanted`, added to +0.0 from the smallest up, times float32(1 / their
        number), each operation rounded to float32. So the sign of a zero never depends on which came first. The mean
        of the one or two middle ranks is the median. `out` is (B,). Overflow gives inf, without a warning."""
        ...

    def largest(self, rows: Block) -> Array:
        """The largest absolute value of each row: (K,), exact."""
        ...

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        """out[k, d] = rint(rows[k][d] * scales[k]), in float64, ties to even: scales (K,) are powers of two that take
        every value to at most 2**20 in size. `out` is (K, B), its rows contiguous."""
        ...
