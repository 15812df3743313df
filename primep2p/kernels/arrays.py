"""The words that all kernels share: rows of a matrix that need not lie in one piece, and ranges of its columns.

K updates of D values are a matrix (K, D). No kernel holds it: each sees a few columns of all rows at a time.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCK",
    "Array",
    "Block",
    "Each",
    "Matrix",
    "Pieces",
    "Range",
    "Row",
    "Rows",
    "Separate",
    "Span",
    "all_finite",
    "finish",
    "one_after_another",
    "ranges_of",
]

Array = npt.NDArray[np.float32]

Block = Sequence[Array] | Array
"""Some columns of all rows: K arrays of shape (B,), or one of shape (K, B) whose rows are contiguous."""

BLOCK = 32 * 1024
"""Columns handled at a time by what goes through the rows one by one: scratch, result and a row take 384 KiB, which
stay in the second-level cache."""

RANGE = 8 * BLOCK
"""Columns that a thread is given at a time: large beside the cost of handing them over."""

DECODED_BYTES = 4 * 2**20
"""What columns of all rows may take at a time where they are copies: K rows of a RANGE would take K MiB."""

Range = tuple[int, int]
T = TypeVar("T")


class Each(Protocol):
    """Calls a function for each range (start, end) of columns, in any order or at once; gives what it returned, in the
    order of the ranges, and holds no more of that than it has threads."""

    def __call__(self, ranges: Sequence[Range], function: Callable[[int, int], T], /) -> Iterable[T]: ...


def one_after_another(ranges: Sequence[Range], function: Callable[[int, int], T], /) -> Iterable[T]:
    """The Each of a caller with one thread."""
    return (function(start, end) for start, end in ranges)


def finish(work: Iterable[None]) -> None:
    """Until all ranges of an Each are done, where they give nothing."""
    for _ in work:
        pass


def ranges_of(start: int, end: int, size: int = RANGE) -> list[Range]:
    """Columns from `start` to `end`, in ranges of at most `size`."""
    return [(low, min(low + size, end)) for low in range(start, end, size)]


class Row(Protocol):
    """One update of D values, in whatever form it is kept."""

    def __len__(self) -> int: ...

    def read(self, start: int, end: int, /) -> Array:
        """Its values in these columns: a view where it is kept as float32, else decoded into new memory."""
        ...


class Rows(Protocol):
    """K updates of D values each."""

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        ...

    @property
    def width(self) -> int:
        """Columns to ask `block` for at a time, at the most."""
        ...

    def block(self, start: int, end: int, /) -> Block:
        """These columns of all rows, which nobody may write to."""
        ...


class Matrix:
    """Rows that do lie in one piece: shape (K, D), each contiguous."""

    def __init__(self, values: Array) -> None:
        if values.ndim != 2 or values.dtype != np.float32 or values.strides[1] != 4:
            raise ValueError("a matrix of float32 is expected whose rows are contiguous")
        self._values = values

    @property
    def shape(self) -> tuple[int, int]:
        return self._values.shape[0], self._values.shape[1]

    @property
    def width(self) -> int:
        return RANGE

    def block(self, start: int, end: int) -> Array:
        return self._values[:, start:end]


class Span:
    """A Row that is an array of shape (D,) or a mapped file."""

    def __init__(self, values: Array) -> None:
        if values.ndim != 1 or values.dtype != np.float32 or (values.size > 1 and values.strides[0] != 4):
            raise ValueError("a contiguous row of float32 is expected")
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def read(self, start: int, end: int) -> Array:
        return self._values[start:end]


class Pieces:
    """A Row of arrays one after another, as a file's tensors are where it has them in another order."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._pieces = [array.reshape(-1) for array in arrays]
        self._ends = list(accumulate(len(piece) for piece in self._pieces))

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, end: int) -> Array:
        found = []
        piece = bisect_right(self._ends, start)
        while start < end:
            before = self._ends[piece] - len(self._pieces[piece])
            found.append(self._pieces[piece][start - before : end - before])
            start, piece = self._ends[piece], piece + 1
        return found[0] if len(found) == 1 else np.concatenate(found or [np.empty(0, np.float32)])


class Separate:
    """Rows of which each is kept somewhere else."""

    def __init__(self, rows: Sequence[Row]) -> None:
        if len({len(row) for row in rows}) != 1:
            raise ValueError("at least one row is expected, and all of one length")
        self._rows = rows

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._rows), len(self._rows[0])

    @property
    def width(self) -> int:
        are_views = all(isinstance(row, Span) for row in self._rows)
        return RANGE if are_views else min(RANGE, max(256, DECODED_BYTES // (4 * len(self._rows))))

    def block(self, start: int, end: int) -> list[Array]:
        return [row.read(start, end) for row in self._rows]


def all_finite(array: Array) -> bool:
    """Whether no element of an array of shape (D,) is NaN or infinite. Scratch: BLOCK bytes."""
    scratch = np.empty(min(BLOCK, len(array)), np.bool_)
    for low in range(0, len(array), BLOCK):
        finite = scratch[: min(BLOCK, len(array) - low)]
        if not np.isfinite(array[low : low + BLOCK], out=finite).all():
            return False
    return True
