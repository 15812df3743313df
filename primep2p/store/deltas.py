"""The file of a delta: a row of all the run's values, in the form that the run's deltas travel in [B3].

The form and the run's tensors say every byte of the header and the size, so a reader parses nothing that a stranger
wrote: what is not canonical is refused before anything in it is looked at.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import BLOCK, Array, Each, Row, Span, all_finite, one_after_another
from primep2p.kernels.compress import (
    MOST_INDEXED,
    Bfloat16Row,
    Int8Row,
    TopKRow,
    are_ascending,
    are_finite_halves,
    are_scales,
    kept,
    largest,
    scales_for,
    to_bfloat16,
    to_int8,
)
from primep2p.model.errors import PeerError
from primep2p.model.pipeline import Bfloat16, Float32, Int8, TopK, Wire
from primep2p.model.records import TensorSpec
from primep2p.store.files import disk
from primep2p.store.tensors import canonical_header, private
from primep2p.wire.safetensors import Entry, entry_bytes, header_of

__all__ = ["check_delta", "columns_of", "delta_bytes", "map_delta", "write_delta"]

_PIECE = 2**20
"""Columns encoded and written at a time: 4 MiB, a piece for each of a few threads."""

_DTYPES = {"F32": "<f4", "BF16": "<u2", "I8": "i1", "U32": "<u4"}

Values = npt.NDArray[Any]


def columns_of(tensors: Sequence[TensorSpec]) -> int:
    """How many values a row of all of them has: each in C order, one tensor after another."""
    return sum(prod(tensor.shape) for tensor in tensors)


def delta_bytes(wire: Wire, tensors: Sequence[TensorSpec]) -> int:
    """The size of every delta's file. Raises PeerError where there can be none."""
    header, entries = _layout(wire, tensors)
    return len(header) + sum(map(entry_bytes, entries))


def map_delta(path: Path, wire: Wire, tensors: Sequence[TensorSpec]) -> Row:
    """The row in a delta's file, which stays mapped as long as the row lives; nothing is copied. Raises PeerError
    where the file has not that form, StoreError where it cannot be read. Of its values see `check_delta`."""
    columns = columns_of(tensors)
    match wire, _map(path, wire, tensors):
        case Float32(), [values]:
            return Span(values)
        case Bfloat16(), [values]:
            return Bfloat16Row(values)
        case Int8(), [scales, values]:
            return Int8Row(values, scales)
        case TopK(), [indices, values]:
            return TopKRow(columns, indices, values)
    raise AssertionError(wire)


def check_delta(path: Path, wire: Wire, tensors: Sequence[TensorSpec]) -> None:
    """Raises PeerError unless the file is a delta of the run: in its form, every value a finite number."""
    match wire, _map(path, wire, tensors):
        case Float32(), [values]:
            _require(all_finite(values), "a value that is not finite")
        case Bfloat16(), [values]:
            _require(are_finite_halves(values), "a value that is not finite")
        case Int8(), [scales, values]:
            _require(are_scales(scales), "a scale that is negative, not finite, or leads to values that are not")
            _require(all(int(values[low : low + BLOCK].min()) > -128 for low in range(0, len(values), BLOCK)), "a -128")
        case TopK(), [indices, values]:
            _require(are_ascending(indices), "indices that do not ascend")
            _require(len(indices) == 0 or int(indices[-1]) < columns_of(tensors), "an index beyond the last value")
            _require(all_finite(values), "a value that is not finite")


def write_delta(
    path: Path, row: Row, wire: Wire, tensors: Sequence[TensorSpec], *, each: Each = one_after_another
) -> None:
    """A new file with what `wire` makes of a row of finite values. It is whole when this returns, and gone when it
    raises: StoreError where the disk fails, PeerError where there can be no such file."""
    header, _ = _layout(wire, tensors)
    if len(row) != columns_of(tensors):
        raise ValueError(f"a row of {len(row)} values for tensors of {columns_of(tensors)}")
    try:
        with disk(path, "write"), open(path, "wb", opener=private) as file:
            file.write(header)
            match wire:
                case Float32():
                    _write_pieces(file, row, lambda piece: piece)
                case Bfloat16():
                    _write_pieces(file, row, lambda piece: _halves(piece, each))
                case Int8():
                    _write_int8(file, row, each)
                case TopK():
                    for part in largest(row, kept(wire.ratio, len(row)), each=each):
                        _write(file, part)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _layout(wire: Wire, tensors: Sequence[TensorSpec]) -> tuple[bytes, tuple[Entry, ...]]:
    """All that comes before the values, and what follows. Wider values come first: all are aligned."""
    columns = columns_of(tensors)
    match wire:
        case Float32():
            return canonical_header(tensors), (Entry("", "F32", (columns,)),)
        case Bfloat16():
            entries: tuple[Entry, ...] = (Entry("values", "BF16", (columns,)),)
        case Int8():
            entries = (Entry("scales", "F32", (scales_for(columns),)), Entry("values", "I8", (columns,)))
        case TopK(ratio):
            if columns > MOST_INDEXED:
                raise PeerError(f"topk has indices for {MOST_INDEXED} values, and the run's tensors have {columns}")
            count = kept(ratio, columns)
            entries = (Entry("indices", "U32", (count,)), Entry("values", "F32", (count,)))
    return header_of(entries), entries


def _map(path: Path, wire: Wire, tensors: Sequence[TensorSpec]) -> list[Values]:
    """The parts of the file, once its size and header are found right."""
    header, entries = _layout(wire, tensors)
    size_bytes = len(header) + sum(map(entry_bytes, entries))
    with disk(path, "map"), path.open("rb") as file:
        found_bytes = os.fstat(file.fileno()).st_size
        if found_bytes != size_bytes:
            raise PeerError(f"the file has {found_bytes} bytes, and in the form that this run wants {size_bytes}")
        if file.read(len(header)) != header:
            raise PeerError("the file's header is not that of the form that this run wants")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    parts, start = [], len(header)
    for entry in entries:
        parts.append(np.frombuffer(mapped, _DTYPES[entry.type], count=prod(entry.shape), offset=start))
        start += entry_bytes(entry)
    return parts


def _require(is_right: bool, fault: str) -> None:
    if not is_right:
        raise PeerError(f"the file has {fault}")


def _write_pieces(file: BinaryIO, row: Row, encode: Callable[[Array], Values]) -> None:
    for start in range(0, len(row), _PIECE):
        _write(file, encode(row.read(start, min(start + _PIECE, len(row)))))


def _halves(piece: Array, each: Each) -> Values:
    out = np.empty(len(piece), np.uint16)
    to_bfloat16(piece, out, each=each)
    return out


def _write_int8(file: BinaryIO, row: Row, each: Each) -> None:
    """The scales come first in the file, and are known last: of a row of D values they take D / 2048 bytes."""
    scales = np.empty(scales_for(len(row)), np.float32)
    place = file.tell()
    file.seek(scales.nbytes, os.SEEK_CUR)

    def encode(start: int, piece: Array) -> Values:
        out = np.empty(len(piece), np.int8)
        to_int8(piece, out, scales[scales_for(start) :][: scales_for(len(piece))], each=each)
        return out

    for start in range(0, len(row), _PIECE):
        _write(file, encode(start, row.read(start, min(start + _PIECE, len(row)))))
    file.seek(place)
    _write(file, scales)


def _write(file: BinaryIO, values: Values) -> None:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    file.write(little.view(np.uint8).data)
