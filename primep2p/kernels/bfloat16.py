"""bf16, the upper half of a float32, held as its bits in uint16 because numpy has no such type.

Widening is exact. Narrowing rounds once, to the nearest and ties to even, from whatever it starts; overflow gives inf,
and a NaN stays one.
"""

import numpy as np
import numpy.typing as npt
from ml_dtypes import bfloat16

__all__ = ["Bits", "from_float32", "from_float64", "from_integers", "to_float32"]

Bits = npt.NDArray[np.uint16]

_EXACT_BELOW = 2**53
"""Integers up to here are float64 values."""

_STICKY = 2**11
"""64 bits less the lowest 11 are as many as a float64 has."""


def to_float32(bits: Bits) -> npt.NDArray[np.float32]:
    """The values, of the same shape; always a copy."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def from_float32(values: npt.NDArray[np.float32]) -> Bits:
    """The nearest bf16 of each value; of the same shape, in C order."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(values).astype(bfloat16).view(np.uint16).reshape(values.shape)


def from_float64(values: npt.NDArray[np.float64]) -> Bits:
    """The nearest bf16 of each value; of the same shape.

    Two roundings to the nearest would not give it. So the first, to float32, is to odd: a value between two neighbours
    becomes the one whose last bit is set, which is never half way between two bf16 (Boldo and Melquiond, "Emulation of
    a FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    """
    with np.errstate(all="ignore"):
        near = np.atleast_1d(values).astype(np.float32)
        bits, exact = near.view(np.uint32), near.astype(np.float64)
    wide = np.atleast_1d(values)
    bits -= np.abs(exact) > np.abs(wide)  # towards zero: the bits without the sign are ordered as the magnitudes are
    bits |= (exact != wide) & ~np.isnan(wide)
    return from_float32(near).reshape(values.shape)


def from_integers(values: npt.NDArray[np.integer]) -> Bits:
    """The nearest bf16 of each value; of the same shape."""
    wide = np.atleast_1d(values)
    large = (wide >= _EXACT_BELOW) | (wide <= -_EXACT_BELOW) if wide.dtype.itemsize == 8 else np.bool_(False)
    if np.any(large):  # to odd, as above: float64 would round a first time
        low = wide.dtype.type(_STICKY - 1)
        odd = (wide & ~low) | np.where(wide & low, wide.dtype.type(_STICKY), wide.dtype.type(0))
        wide = np.where(large, odd, wide)
    return from_float64(wide.astype(np.float64)).reshape(values.shape)
