"""The forms of a delta on the wire, to and from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import BLOCK, Array, Each, Row, Span, finish, ranges_of
from primep2p.kernels.compress import (
    Bfloat16Row,
    Int8Row,
    TopKRow,
    kept,
    largest,
    scales_for,
    to_bfloat16,
    to_int8,
)

__all__ = ["TOP", "Codec", "by_argpartition", "codecs"]

TOP = "0.01"
"""The part of the values that `topk` keeps."""


@dataclass(frozen=True)
class Codec:
    """A form of the wire, for one delta."""

    name: str
    encode: Callable[[], object]
    decode: Callable[[], object]


def codecs(values: Array, each: Each) -> list[Codec]:
    """For values (D,). Encoding has one thread, as in a trainer's node; decoding is done block by block, as aggregation
    reads it."""
    halves, small = np.empty(len(values), np.uint16), np.empty(len(values), np.int8)
    scales, row, count = np.empty(scales_for(len(values)), np.float32), Span(values), kept(TOP, len(values))
    to_bfloat16(values, halves)
    to_int8(values, small, scales)
    most = TopKRow(len(values), *largest(row, count, each=each))
    return [
        Codec("bf16", lambda: to_bfloat16(values, halves), _reading(Bfloat16Row(halves), each)),
        Codec("int8", lambda: to_int8(values, small, scales), _reading(Int8Row(small, scales), each)),
        Codec("topk 1%", lambda: largest(row, count), _reading(most, each)),
    ]


def by_argpartition(values: Array) -> npt.NDArray[np.intp]:
    """What `topk` is measured beside: numpy's own way to the columns of the same values."""
    count = kept(TOP, len(values))
    return np.argpartition(np.abs(values), -count)[-count:]


def _reading(row: Row, each: Each) -> Callable[[], None]:
    def read(start: int, end: int) -> None:
        for low, high in ranges_of(start, end, BLOCK):
            row.read(low, high)

    return lambda: finish(each(ranges_of(0, len(row)), read))
