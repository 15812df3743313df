"""Inner products of updates that are the same on every machine, whatever multiplies its matrices [A3].

Each row is rounded to integers of at most 2**20 in size, at a scale of its own (a power of two, so scaling rounds
nothing): products of those are exact in any order, with or without fused operations. A row's scale depends on that
row alone, so that a liar's huge values cost others no precision; the rounding moves a row by at most 2**-20 of its
largest value in each coordinate. What follows on the (K, K) part is float64, one operation after another in an order
that is written down here: no BLAS, no pairwise sums.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import Array, Each, Rows, one_after_another, ranges_of
from primep2p.kernels.backends.seam import Backend, Doubles

__all__ = ["distances", "exact_products", "exact_squares", "gram", "in_order", "product", "squares"]

BITS = 20
"""Of a rounded value."""

EXACT_COLUMNS = 2**13
"""Columns of a product: sums of so many products of two rounded values stay below 2**53, exact in float64 in any
order."""

RANGE = 2**18
"""Columns for a thread: the sum of their products stays below 2**58, and the (K, K) sums are cheap beside them."""

ROUNDED_BYTES = 4 * 2**20
"""What rounded values may take at a time in a thread: wide blocks, since between two calls threads wait for another."""

LOW_BITS = 32

Integers = npt.NDArray[np.int64]
Totals = Callable[[Doubles], Integers]


def gram(rows: Rows, backend: Backend, each: Each = one_after_another) -> Doubles:
    """(K, K) inner products of finite rows, each rounded once to float64. Two passes over the rows."""
    exact, inverse = _totals(rows, backend, each, exact_products)
    exact *= inverse[:, None]
    exact *= inverse[None, :]
    return exact


def squares(rows: Rows, backend: Backend, each: Each = one_after_another) -> Doubles:
    """(K,): the diagonal of `gram` alone, for a part of the work."""
    exact, inverse = _totals(rows, backend, each, exact_squares)
    return exact * inverse * inverse


def _totals(rows: Rows, backend: Backend, each: Each, of: Totals) -> tuple[Doubles, Doubles]:
    """What `of` makes of all rounded values, each total rounded once, and what undoes each row's scale."""
    count, columns = rows.shape
    scales = _scales(rows, backend, each)
    width = min(rows.width, max(512, ROUNDED_BYTES // (8 * count)))
    width -= width % EXACT_COLUMNS if width > EXACT_COLUMNS else 0

    def total(start: int, end: int) -> Integers:
        scratch = np.empty((count, min(width, end - start)))
        found = np.zeros_like(of(scratch[:, :0]))
        for low, high in ranges_of(start, end, width):
            integers = scratch[:, : high - low]
            backend.rounded(rows.block(low, high), scales, integers)
            found += of(integers)
        return found

    high = low = np.zeros_like(of(np.empty((count, 0))))
    for part in each(ranges_of(0, columns, RANGE), total):
        high, low = high + (part >> LOW_BITS), low + (part & (2**LOW_BITS - 1))
    exact = np.empty(high.shape)
    for place in range(count):  # Python's integers take far more memory than these
        exact[place] = (high[place].astype(object) << LOW_BITS) + low[place].astype(object)
    return exact, 1 / scales


def _scales(rows: Rows, backend: Backend, each: Each) -> Doubles:
    """(K,) powers of two that take each row's values to at most 2**BITS, the largest above half of that."""
    count, columns = rows.shape
    largest = np.zeros(count, np.float32)

    def longest(start: int, end: int) -> Array:
        found = np.zeros(count, np.float32)
        for low, high in ranges_of(start, end, rows.width):
            np.maximum(found, backend.largest(rows.block(low, high)), out=found)
        return found

    for found in each(ranges_of(0, columns, RANGE), longest):
        np.maximum(largest, found, out=largest)
    _, exponents = np.frexp(largest.astype(np.float64))
    scales: Doubles = np.ldexp(1.0, np.where(largest > 0, BITS - exponents, 0))
    return scales


def exact_products(integers: Doubles) -> Integers:
    """(K, K) inner products of rounded rows (K, W), W at most RANGE."""
    whole, rest = _cut(integers)
    total: Integers = (whole @ whole.transpose(0, 2, 1)).astype(np.int64).sum(axis=0)
    total += (rest @ rest.T).astype(np.int64)
    return total


def exact_squares(integers: Doubles) -> Integers:
    """(K,) inner products of such rows with themselves."""
    whole, rest = _cut(integers)
    total: Integers = np.einsum("nkd,nkd->nk", whole, whole).astype(np.int64).sum(axis=0)
    total += np.einsum("kd,kd->k", rest, rest).astype(np.int64)
    return total


def _cut(integers: Doubles) -> tuple[Doubles, Doubles]:
    """Blocks (N, K, EXACT_COLUMNS), whose sums are exact, and the columns (K, R) that are left; both are views."""
    count, columns = integers.shape
    blocks = columns // EXACT_COLUMNS
    whole = integers[:, : blocks * EXACT_COLUMNS].reshape(count, blocks, EXACT_COLUMNS)
    return whole.transpose(1, 0, 2), integers[:, blocks * EXACT_COLUMNS :]


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
