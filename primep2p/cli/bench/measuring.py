"""Times, and what this machine can read: medians of calls, and the memory's speed as numpy sees it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median

import numpy as np

from primep2p.kernels.arrays import Array, finish
from primep2p.services.aggregating.compute import Compute

__all__ = ["REPEATS", "Memory", "Timing", "interleaved", "timed", "together"]

READ_BYTES = 256 * 2**20
"""Of one array that is read: eight times what the largest cache here holds, and of no use to it."""

REPEATS = 5


@dataclass(frozen=True)
class Timing:
    """The median of so many calls."""

    seconds: float
    calls: int


def timed(call: Callable[[], object], *, repeats: int = REPEATS, budget_s: float = math.inf) -> Timing:
    """See `interleaved`."""
    return together([call], repeats=repeats, budget_s=budget_s)[0]


def together(
    calls: Sequence[Callable[[], object]], *, repeats: int = REPEATS, budget_s: float = math.inf
) -> list[Timing]:
    """See `interleaved`: calls that are ready at any time."""
    return interleaved([partial(_same, call) for call in calls], repeats=repeats, budget_s=budget_s)


def interleaved(
    makers: Sequence[Callable[[], Callable[[], object]]], *, repeats: int = REPEATS, budget_s: float = math.inf
) -> list[Timing]:
    """Calls that are compared, taking turns: what else the machine does then slows all of them.

    Each maker makes one call ready, outside of what is timed. After one call that warms up come `repeats` more; fewer
    where these would take a call's own budget, down to the first alone.
    """
    first = [_once(make()) for make in makers]
    seconds: list[list[float]] = [[] for _ in makers]
    for _ in range(repeats):
        for make, one, spent in zip(makers, first, seconds, strict=True):
            if one + sum(spent) + max([one, *spent]) <= budget_s:
                spent.append(_once(make()))
    return [Timing(median(each or [one]), max(1, len(each))) for one, each in zip(first, seconds, strict=True)]


def _same(call: Callable[[], object]) -> Callable[[], object]:
    return call


def _once(call: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    call()
    return time.perf_counter() - began_at


class Memory:
    """How fast memory can be read: the largest of what numpy's sum, max and inner product reach."""

    size_bytes = READ_BYTES

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._values: Array = np.ones(READ_BYTES // 4, np.float32)  # written: pages that exist
        self._half = len(self._values) // 2
        self._best = max(READS, key=lambda name: self.bytes_per_s(read=name))

    def bytes_per_s(self, *, read: str = "", repeats: int = REPEATS) -> float:
        """The median of several passes over the array, by all threads at once."""
        return READ_BYTES / timed(lambda: self.once(read), repeats=repeats).seconds

    def once(self, read: str = "") -> None:
        """One pass over the array, by the fastest of the reads where none is named."""
        values, half, function = self._values, self._half, READS[read or self._best]
        parts = max(4, 2 * self._compute.threads)
        bounds = [half * part // parts for part in range(parts + 1)]

        def look(start: int, end: int) -> None:
            function(values[start:end], values[half + start : half + end])

        finish(self._compute.each(list(pairwise(bounds)), look))


def _sums(one: Array, other: Array) -> None:
    one.sum()
    other.sum()


def _maxima(one: Array, other: Array) -> None:
    one.max()
    other.max()


READS: dict[str, Callable[[Array, Array], object]] = {"sum": _sums, "max": _maxima, "dot": np.dot}
"""Of two halves; numpy lets other threads run meanwhile."""
