"""Rules that look at each coordinate alone: what becomes of its values in ascending order [A6].

Sums begin at +0.0 and take the values from the smallest up, in float32; so equal values are equal results, whichever
way they were sorted, and the sign of a zero never depends on it.
"""

from collections.abc import Callable

import numpy as np

from primep2p.kernels.arrays import Array

__all__ = ["Finish", "closest_mean", "mean", "middle"]

Finish = Callable[[Array, Array], None]
"""From values in ascending order (n, B) to the result (B,)."""


def middle(values: Array, out: Array) -> None:
    """The one that is left, or the mean of the two: (a + b) * 0.5."""
    if len(values) == 1:
        np.add(values[0], np.float32(0), out=out)
        return
    np.add(values[0], values[1], out=out)
    np.multiply(out, np.float32(0.5), out=out)
    np.add(out, np.float32(0), out=out)


def mean(values: Array, out: Array) -> None:
    """Their sum times float32(1 / n)."""
    np.add(values[0], np.float32(0), out=out)
    for row in values[1:]:
        np.add(out, row, out=out)
    np.multiply(out, np.float32(1 / len(values)), out=out)


def closest_mean(count: int) -> Finish:
    """The mean of the `count` values closest to the median, for Bulyan.

    They stand side by side, between some that are dropped at either end: the smallest value is dropped as long as it
    is farther from the median than the one behind the others, both distances being rounded to float32.
    """

    def finish(values: Array, out: Array) -> None:
        extra = len(values) - count
        median = np.empty_like(out)
        half = len(values) // 2
        middle(values[half : half + 1] if len(values) % 2 else values[half - 1 : half + 1], median)
        out[:] = 0
        kept, far, dropped = np.empty_like(out), np.empty_like(out), np.empty((extra, len(out)), np.bool_)
        for low, lower_goes in enumerate(dropped):
            np.subtract(median, values[low], out=kept)
            np.subtract(values[low + count], median, out=far)
            np.greater(kept, far, out=lower_goes)
        for rank, row in enumerate(values):
            kept[:] = row
            if rank < extra:
                kept[dropped[rank]] = 0
            if rank >= count:
                kept[~dropped[rank - count]] = 0
            np.add(out, kept, out=out)
        np.multiply(out, np.float32(1 / count), out=out)

    return finish
