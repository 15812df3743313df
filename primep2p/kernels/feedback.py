"""Error feedback: what a round left out of a delta is added to the next one.

A codec that drops values for good biases what is learnt; with the rest added to the next delta, dropped values arrive
late instead, and training converges as fast as without it, but for lower order terms. Stich et al., "Sparsified SGD
with memory", arXiv:1809.07599, algorithm 1.
"""

import numpy as np

from primep2p.kernels.arrays import Array, Row

__all__ = ["Difference", "Sum"]

_LARGEST = np.finfo(np.float32).max


class Sum:
    """A Row: two others of one length, added; what would be infinite is the largest number instead."""

    def __init__(self, first: Row, second: Row) -> None:
        _require_equal(first, second)
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first)

    def read(self, start: int, end: int) -> Array:
        with np.errstate(over="ignore"):
            total = np.add(self._first.read(start, end), self._second.read(start, end))
        return np.clip(total, -_LARGEST, _LARGEST, out=total)


class Difference:
    """A Row: what the second leaves of the first. Exact where the second has the same values, or 0."""

    def __init__(self, first: Row, second: Row) -> None:
        _require_equal(first, second)
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first)

    def read(self, start: int, end: int) -> Array:
        return np.subtract(self._first.read(start, end), self._second.read(start, end))


def _require_equal(first: Row, second: Row) -> None:
    if len(first) != len(second):
        raise ValueError(f"rows of {len(first)} and {len(second)} values")
