"""The weighted mean that peers compute to the same bytes: float32, multiply, then add, one row after another.

Row k enters column d as acc = round(acc + round(w[k] * x[k, d])), rows in the given order, starting from
round(w[0] * x[0, d]). Each column stands alone, so blocks and threads change nothing. Nothing here may become a
BLAS call or a fused multiply-add: both give other bytes, and not the same ones on every machine.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "BLOCK",
    "Array",
    "Each",
    "all_finite",
    "apply",
    "one_after_another",
    "self_check",
    "weighted_mean",
    "weights",
]

Array = npt.NDArray[np.float32]

BLOCK = 32 * 1024
"""Columns handled at a time: scratch, result and a row take 384 KiB, which stay in the second-level cache."""

_RANGE = 8 * BLOCK
"""Columns that a worker is given at a time: large beside the cost of handing them over."""

Range = tuple[int, int]
Each = Callable[[Sequence[Range], Callable[[int, int], None]], None]
"""Calls a function for each range (start, end) of columns, in any order or at once; returns when all are done."""


def one_after_another(ranges: Sequence[Range], function: Callable[[int, int], None]) -> None:
    """The Each of a caller with one thread."""
    for start, end in ranges:
        function(start, end)


def weights(counts: Sequence[int], weighting: Literal["examples", "uniform"]) -> list[np.float32]:
    """The weight of each row: its share of the examples (each count at least 1), or the same for all.

    The quotient is taken in float64 and rounded once to float32. Sums of counts stay below 2**53: they are exact.
    """
    if weighting == "uniform":
        return [np.float32(1.0 / len(counts))] * len(counts)
    total = float(sum(counts))
    return [np.float32(float(count) / total) for count in counts]


def weighted_mean(
    rows: Sequence[Array],
    weights: Sequence[np.float32],
    out: Array,
    *,
    each: Each = one_after_another,
    block: int = BLOCK,
) -> None:
    """out[d] = sum over k of weights[k] * rows[k][d], as the head of this module says.

    `rows` are K >= 1 arrays of shape (D,), `out` is another one that overlaps none of them; scratch is `block`
    float32 for each range at work. Overflow gives inf, without a warning.
    """
    if len(rows) != len(weights) or not rows:
        raise ValueError(f"{len(rows)} rows with {len(weights)} weights")
    if any(row.shape != out.shape or row.dtype != np.float32 for row in (*rows, out)) or out.ndim != 1:
        raise ValueError("rows and result are float32 and of one length")

    def mean(start: int, end: int) -> None:
        scratch = np.empty(min(block, end - start), np.float32)
        with np.errstate(all="ignore"):
            for low in range(start, end, block):
                high = min(low + block, end)
                product, result = scratch[: high - low], out[low:high]
                np.multiply(rows[0][low:high], weights[0], out=result)
                for row, weight in zip(rows[1:], weights[1:], strict=True):
                    np.multiply(row[low:high], weight, out=product)
                    np.add(result, product, out=result)

    each(_ranges(len(out)), mean)


def apply(base: Array, mean: Array, out: Array) -> None:
    """out = base + mean, of shape (D,) each; `out` may be either of them."""
    with np.errstate(all="ignore"):
        np.add(base, mean, out=out)


def all_finite(array: Array) -> bool:
    """Whether no element of an array of shape (D,) is NaN or infinite. Scratch: BLOCK bytes."""
    scratch = np.empty(min(BLOCK, len(array)), np.bool_)
    for low in range(0, len(array), BLOCK):
        finite = scratch[: min(BLOCK, len(array) - low)]
        if not np.isfinite(array[low : low + BLOCK], out=finite).all():
            return False
    return True


def self_check() -> bytes:
    """The sha-256 of results on fixed vectors: who computes another one would not reproduce the group's checkpoints.

    The vectors take every exponent in turn: denormals (lost where a library has told the CPU to flush them to zero),
    both zeros, values that round, and one column that overflows.
    """
    columns = 2 * BLOCK + 11  # two whole blocks and a ragged end
    result, digest = np.empty(columns, np.float32), sha256()
    for counts, weighting in (((3, 1, 4, 1, 5, 9, 2), "examples"), ((1,) * 5, "uniform"), ((1, 2**40), "examples")):
        rows = [_fixed_vector(row, columns) for row in range(len(counts))]
        weighting_: Literal["examples", "uniform"] = "examples" if weighting == "examples" else "uniform"
        weighted_mean(rows, weights(counts, weighting_), result)
        digest.update(result.astype("<f4").tobytes())
        apply(_fixed_vector(99, columns), result, result)
        digest.update(result.astype("<f4").tobytes())
    return digest.digest()


def _ranges(columns: int) -> list[Range]:
    return [(start, min(start + _RANGE, columns)) for start in range(0, columns, _RANGE)]


def _fixed_vector(seed: int, columns: int) -> Array:
    """Float32 values of any sign, exponent and fraction but neither NaN nor inf, by integer arithmetic alone."""
    bits = np.arange(columns, dtype=np.uint32) * np.uint32(2_654_435_761) + np.uint32(seed * 40_503 + 1)
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(2_246_822_519)
    bits ^= bits >> np.uint32(13)
    # Two columns in three have exponents near 1, as models have; the others range over all but the highest.
    near = (bits & np.uint32(0x80FFFFFF)) | np.uint32(0x3D000000)
    vector = np.where(np.arange(columns) % 3 > 0, near, bits & np.uint32(0xFEFFFFFF)).astype(np.uint32).view(np.float32)
    vector[0], vector[1], vector[2] = np.float32(3.4e38), np.float32(-0.0), np.float32(1e-45 * (1 + seed % 3))
    return vector
