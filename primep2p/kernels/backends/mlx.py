"""MLX (Apple's arrays), held to the bytes of the numpy backend.

Its streams belong to the thread that made them, so one thread does all that MLX does, the first `import mlx` in the
process included: whoever owns that thread hands its `OneThread` in, and imports this module on it. Nothing here is
compiled by `mx.compile`, which may fuse a product into the sum behind it: each operation is a kernel of its own, and
rounds by itself. Numbers are copied on their way in, and seen where they lie on their way out.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import mlx.core as mx
import numpy as np

from primep2p.kernels.arrays import BLOCK, Array, Block
from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.order import mean

__all__ = ["Mlx", "OneThread", "devices"]

TOGETHER = 8
"""Rows between two evaluations: their copies fill half the second-level cache, and a call of `mx.eval` is worth it."""

SORTED_BYTES = 2**20
"""What a block of all rows that is sorted may take."""

T = TypeVar("T")


class OneThread(Protocol):
    """Runs a function on the one thread that touches MLX, and gives what it returns, or raises what it raised."""

    def __call__(self, function: Callable[[], T], /) -> T: ...


def devices() -> list[str]:
    """What MLX can compute on here, the fastest first."""
    return ["gpu", "cpu"] if mx.is_available(mx.gpu) else ["cpu"]


class Mlx:
    """See `Backend`. On a GPU too, where that keeps denormals and rounds as the standard says, which the self-check
    finds out; only `rounded`, which needs float64, is the CPU's everywhere."""

    name = "mlx"

    def __init__(self, run: OneThread, device: str = "cpu") -> None:
        self._run = run
        self._device: Any = mx.gpu if device == "gpu" else mx.cpu

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        self._on(self._device, lambda: _weighted_sum(rows, weights, out))

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        self._on(self._device, lambda: _ranks(rows, wanted, out))

    def ranked_mean(self, rows: Block, wanted: range, out: Array) -> None:
        self._on(self._device, lambda: _ranked_mean(rows, wanted, out))

    def largest(self, rows: Block) -> Array:
        return self._on(self._device, lambda: np.array([_largest(row) for row in rows], np.float32))

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        self._on(mx.cpu, lambda: _rounded(rows, scales, out))

    def _on(self, device: Any, function: Callable[[], T]) -> T:
        def work() -> T:
            with mx.stream(device):
                return function()

        return self._run(work)


def _weighted_sum(rows: Block, weights: Array, out: Array) -> None:
    factors = [float(weight) for weight in weights]  # exact, and float32 again beside an array of float32
    for low in range(0, len(out), BLOCK):
        total = mx.array(rows[0][low : low + BLOCK]) * factors[0]
        for first in range(1, len(factors), TOGETHER):
            for row, factor in zip(rows[first : first + TOGETHER], factors[first : first + TOGETHER], strict=True):
                total = total + mx.array(row[low : low + BLOCK]) * factor
            mx.eval(total)
        out[low : low + BLOCK] = _seen(total)


def _ranks(rows: Block, wanted: range, out: Array) -> None:
    for low, values in _in_order(rows, wanted):
        out[:, low : low + values.shape[1]] = values


def _ranked_mean(rows: Block, wanted: range, out: Array) -> None:
    with np.errstate(all="ignore"):
        for low, values in _in_order(rows, wanted):
            mean(values, out[low : low + values.shape[1]])


def _in_order(rows: Block, wanted: range) -> Iterator[tuple[int, Array]]:
    """Some columns after the others: the first, and the values of the wanted ranks."""
    columns, width = len(rows[0]), max(64, SORTED_BYTES // (4 * len(rows)))
    for low in range(0, columns, width):
        # (B, K): values side by side sort faster.
        block = mx.stack([mx.array(row[low : low + width]) for row in rows], axis=1)
        yield low, _seen(mx.sort(block, axis=1)).T[wanted.start : wanted.stop]


def _largest(row: Array) -> float:
    pieces = [row[low : low + BLOCK] for low in range(0, len(row), BLOCK)]
    return max(float(_seen(mx.max(mx.abs(mx.array(piece))))) for piece in pieces)


def _rounded(rows: Block, scales: Doubles, out: Doubles) -> None:
    factors = mx.array(scales, dtype=mx.float64)
    for row, factor, integers in zip(rows, factors, out, strict=True):
        integers[:] = _seen(mx.round(mx.array(row).astype(mx.float64) * factor))


def _seen(array: Any) -> Any:
    """Computed, and as an array of numpy in the same memory."""
    mx.eval(array)
    return np.asarray(array)
