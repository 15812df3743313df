"""The element types of tensors: their names, how numpy holds them, and what becomes what.

bf16, which numpy lacks, is held as its bits in uint16.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from primep2p.kernels import bfloat16

__all__ = ["NAMES", "STORED", "DType", "converted", "may_hold", "named"]

DType = Literal["f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8"]
"""Kind and bits: `i8` is an integer of eight bits (numpy's word "i8" means eight bytes)."""

# Little-endian, as safetensors files are, and as every machine that this runs on.
STORED: dict[str, np.dtype[Any]] = {
    name: np.dtype("<u2" if name == "bf16" else f"<{name[0]}{int(name[1:]) // 8}") for name in get_args(DType)
}
NAMES: dict[str, DType] = {STORED[name].name: name for name in get_args(DType) if name != "bf16"}

_BYTES = frozenset("bBc?")
"""Formats of a buffer that claims no type: its bytes may be anything."""

_KINDS = {"f": frozenset("efd"), "i": frozenset("hilqn"), "u": frozenset("HILQN")}
"""numpy's kind of a number, and the formats that a buffer has for it."""


def named(dtype: object) -> DType:
    """Raises ValueError for what is no dtype, with the word for what was probably meant."""
    if isinstance(dtype, str) and dtype in STORED:
        return dtype  # type: ignore[return-value]  # a key of STORED is a DType
    word = getattr(dtype, "__name__", str(dtype)).rpartition(".")[2].lower()
    meant = NAMES.get(word) or {"bfloat16": "bf16"}.get(word) or (word if word in STORED else None)
    right = f"it is {meant!r} here" if meant else f"there are {', '.join(STORED)}"
    raise ValueError(f"there is no dtype {dtype!r}: {right}")


def may_hold(memory: memoryview, stored: np.dtype[Any]) -> bool:
    """Whether memory of this format may be read as elements of type `stored`."""
    format_ = memory.format.lstrip("@=<")
    return format_ in _BYTES or (memory.itemsize == stored.itemsize and format_ in _KINDS[stored.kind])


def converted(numbers: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    """A copy of `numbers` in C order, as the type that `dtype` is stored as."""
    with np.errstate(all="ignore"):  # overflow and NaN are values like others here
        if dtype == "bf16":
            return _to_bf16(numbers)
        if STORED[dtype].kind != "f":
            _check_whole(numbers, dtype)
        return numbers.astype(STORED[dtype], order="C")


def _to_bf16(numbers: npt.NDArray[Any]) -> bfloat16.Bits:
    match numbers.dtype.kind, numbers.dtype.itemsize:
        case "f", 8:
            return bfloat16.from_float64(numbers.astype(np.float64, copy=False))
        case ("f", _) | ("b", _):
            return bfloat16.from_float32(numbers.astype(np.float32, copy=False))
        case _:
            return bfloat16.from_integers(numbers)


def _check_whole(numbers: npt.NDArray[Any], dtype: DType) -> None:
    """Raises ValueError for a number that is not among the integers of `dtype`."""
    limits = np.iinfo(STORED[dtype])
    if numbers.dtype.kind == "f":
        wide = numbers.astype(np.float64)
        # One past the highest is a power of two, and so a float64; the highest of i64 is not.
        fits = (wide == np.trunc(wide)) & (wide >= float(limits.min)) & (wide < float(limits.max + 1))
    elif numbers.dtype.kind == "b":
        return
    else:
        fits = (numbers >= limits.min) & (numbers <= limits.max)
    if not fits.all():
        wrong = numbers[~fits].flat[0]
        raise ValueError(f"{wrong} is no {dtype}: those are whole numbers from {limits.min} to {limits.max}")
