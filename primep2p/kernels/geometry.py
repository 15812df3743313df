"""Inner products of updates that are the same on every machine, whatever multiplies its matrices [A3].

Each row is rounded to integers of at most 2**20 in size, at a scale of its own (a power of two, so scaling rounds
nothing): products of those are exact in any order, with or without fused operations. A row's scale depends on that
row alone, so that a liar's huge values cost others no precision; the rounding moves a row by at most 2**-20 of its
largest value in each coordinate. What follows on the (K, K) part is float64, one operation after another in an order
that is written down here: no BLAS, no pairwise sums.
"""

import numpy as np

from primep2p.kernels.arrays import Each, Rows, one_after_another, ranges_of
from primep2p.kernels.backends.seam import Backend, Doubles

__all__ = ["distances", "gram", "in_order", "product"]

BITS = 20
"""Of a rounded value: 2**13 products of two have an exact sum in float64."""

RANGE = 2**18
"""Columns for a thread: their products' sum stays below 2**58, and the (K, K) sums are cheap beside them."""

LOW_BITS = 32


def gram(rows: Rows, backend: Backend, each: Each = one_after_another) -> Doubles:
    """(K, K) inner products of finite rows, each rounded once to float64. Two passes over the rows."""
    count, columns = rows.shape
    largest = np.zeros(count, np.float32)
    for found in each(ranges_of(0, columns, RANGE), lambda start, end: backend.largest(rows.block(start, end))):
        np.maximum(largest, found, out=largest)
    _, exponents = np.frexp(largest.astype(np.float64))
    scales = np.ldexp(1.0, np.where(largest > 0, BITS - exponents, 0))
    high, low = np.zeros((count, count), np.int64), np.zeros((count, count), np.int64)
    for part in each(ranges_of(0, columns, RANGE), lambda start, end: backend.gram(rows.block(start, end), scales)):
        high += part >> LOW_BITS
        low += part & (2**LOW_BITS - 1)
    rounded, inverse = np.empty((count, count)), 1 / scales
    for row, upper, lower in zip(rounded, high, low, strict=True):  # Python's integers take far more memory than these
        row[:] = (upper.astype(object) << LOW_BITS) + lower.astype(object)
    rounded *= inverse[:, None]
    rounded *= inverse[None, :]
    return rounded


def distances(gram: Doubles) -> Doubles:
    """(K, K) squared distances between rows: |x|^2 + |y|^2 - 2xy, never negative, zero from a row to itself."""
    norms = np.diag(gram)
    squares = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0)
    np.fill_diagonal(squares, 0)
    return squares


def in_order(terms: Doubles) -> Doubles:
    """The sum along the first axis, one term after another."""
    total: Doubles = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total


def product(left: Doubles, right: Doubles) -> Doubles:
    """(I, K) times (K, J) or (K,): the products over k added one after another."""
    total: Doubles = np.multiply.outer(left[:, 0], right[0])
    for column, row in zip(left.T[1:], right[1:], strict=True):
        total += np.multiply.outer(column, row)
    return total
