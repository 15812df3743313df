"""Tensors in files of the safetensors format: mapped to be read, written in one canonical way.

The canonical file of a run's tensors has them in the run's order, under the header of wire/safetensors.py.
"""

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from primep2p.model.errors import PeerError
from primep2p.model.records import TensorSpec
from primep2p.store.files import disk
from primep2p.wire.safetensors import ALIGNMENT, LENGTH_BYTES, RESERVED_NAME, data_bytes, header_bytes

__all__ = [
    "MAX_HEADER_BYTES",
    "TensorWriter",
    "canonical_header",
    "map_tensors",
    "most_bytes",
    "places_of",
    "private",
    "specs_in",
    "write_tensors",
    "writing",
]

MAX_HEADER_BYTES = 16 * 2**20
"""Four times the largest RunSpec: the names and shapes in a header come from there."""

_SPARE_BYTES = 64 * 2**10
"""What another writer may add to a header beside the tensors: metadata, blanks."""

_SHOWN = 64
"""Characters of a stranger's name for a tensor that an error repeats."""

_FLOAT32 = np.dtype("<f4")

Array = npt.NDArray[np.float32]


_Size = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
"""Beyond any blob's. Unbounded, a number may have more digits than Python is willing to write into an error."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header says of one tensor: where it begins and ends after the header."""

    dtype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[list[_Size], msgspec.Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


def canonical_header(tensors: Sequence[TensorSpec]) -> bytes:
    """All that comes before the tensors' bytes, its length included. Raises PeerError for names that no file has."""
    try:
        header = header_bytes(tensors)
    except ValueError as error:
        raise PeerError(str(error)) from error
    if len(header) - LENGTH_BYTES > MAX_HEADER_BYTES:
        raise PeerError(f"a header of {len(header) - LENGTH_BYTES} bytes, more than the {MAX_HEADER_BYTES} allowed")
    return header


def map_tensors(path: Path, tensors: Sequence[TensorSpec]) -> list[Array]:
    """The tensors of the file at `path` in the order of `tensors`, which they must equal in names and shapes.

    They are read-only views of the mapped file, which stays mapped as long as one of them lives; nothing is copied.
    Accepts any order and metadata, as other writers of the format have them; deltas do not [B3]. Raises PeerError for
    a bad file, StoreError where it cannot be read.
    """
    with disk(path, "map"), path.open("rb") as file:
        places = places_of(file, tensors)
        if min(places, default=0) % ALIGNMENT:
            raise PeerError(f"no safetensors file to be mapped: its header's length is no multiple of {ALIGNMENT}")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return [
        np.frombuffer(mapped, _FLOAT32, count=prod(tensor.shape), offset=place).reshape(tensor.shape)
        for tensor, place in zip(tensors, places, strict=True)
    ]


def most_bytes(tensors: Sequence[TensorSpec]) -> int:
    """The largest file of `tensors` that is read: no more of one needs to be kept."""
    return LENGTH_BYTES + _most_header(tensors) + data_bytes(tensors)


def places_of(file: BinaryIO, tensors: Sequence[TensorSpec]) -> list[int]:
    """Where in the open `file` the values of each of `tensors` begin, once its header and size are found to be those of
    exactly these. Raises PeerError."""
    size_bytes = os.fstat(file.fileno()).st_size
    header = _read_header(file, size_bytes, _most_header(tensors))
    return [len(header) + place for place in _places(header, tensors, size_bytes - len(header))]


def specs_in(file: BinaryIO) -> tuple[TensorSpec, ...]:
    """The tensors that the open `file` says it holds, in the order of their values. Raises PeerError where it cannot
    hold them, and for names and shapes that no run's tensors have."""
    size_bytes = os.fstat(file.fileno()).st_size
    header = _read_header(file, size_bytes, MAX_HEADER_BYTES)
    entries = _entries(header[LENGTH_BYTES:])
    in_order = sorted(entries.items(), key=lambda entry: entry[1].data_offsets)
    found = [(name, "float32", entry.shape) for name, entry in in_order]
    if not found:
        raise PeerError("the file has no tensors")
    try:
        tensors = msgspec.convert(found, tuple[TensorSpec, ...])
    except msgspec.ValidationError as error:
        raise PeerError(f"the file's tensors cannot be a model's: {error}") from error
    _places(header, tensors, size_bytes - len(header))
    return tensors


class TensorWriter:
    """Takes the elements of all tensors, one tensor after another, in pieces of any size and order."""

    def __init__(self, file: BinaryIO, tensors: Sequence[TensorSpec], begin_bytes: int) -> None:
        self._file = file
        self._begin_bytes = begin_bytes
        self.remaining = sum(prod(tensor.shape) for tensor in tensors)
        """Elements still to come."""

    def write(self, piece: Array) -> None:
        """The elements after those written last: a contiguous float32 array, in C order. Raises ValueError where they
        are too many."""
        if piece.dtype != np.float32 or piece.size > self.remaining:
            raise ValueError(f"{piece.size} elements of {piece.dtype} where {self.remaining} float32 remain")
        self.remaining -= piece.size
        self._file.write(piece.astype(_FLOAT32, copy=False).reshape(-1).view(np.uint8).data)

    def write_at(self, place: int, piece: Array) -> None:
        """The elements from number `place` on. Each place is written once."""
        self._file.seek(self._begin_bytes + _FLOAT32.itemsize * place)
        self.write(piece)


@contextmanager
def writing(path: Path, tensors: Sequence[TensorSpec]) -> Iterator[TensorWriter]:
    """A new canonical file at `path`, whole when the context is left in peace and gone otherwise.

    Raises StoreError where the disk fails, ValueError where elements are missing.
    """
    header = canonical_header(tensors)
    try:
        with disk(path, "write"), open(path, "wb", opener=private) as file:
            writer = TensorWriter(file, tensors, len(header))
            file.write(header)
            yield writer
            if writer.remaining:
                raise ValueError(f"{writer.remaining} elements are missing")
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_tensors(path: Path, tensors: Sequence[TensorSpec], arrays: Sequence[Array]) -> None:
    """The canonical file of `arrays` at `path`. Raises StoreError; ValueError unless they are what `tensors` say."""
    found = [(str(array.dtype), array.shape) for array in arrays]
    if found != [(tensor.dtype, tensor.shape) for tensor in tensors]:
        raise ValueError(f"arrays of {found} for {tensors}")
    with writing(path, tensors) as writer:
        for array in arrays:
            writer.write(np.ascontiguousarray(array))


def _most_header(tensors: Sequence[TensorSpec]) -> int:
    return 2 * len(canonical_header(tensors)) + _SPARE_BYTES


def _read_header(file: BinaryIO, size_bytes: int, allowed_bytes: int) -> bytes:
    """All that comes before the tensors' bytes, read only once its length is found sane."""
    prefix = file.read(LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    most = min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES, allowed_bytes)
    if len(prefix) < LENGTH_BYTES or length > most:
        raise PeerError(f"no safetensors file: a header of {length} bytes in a file of {size_bytes}")
    return prefix + file.read(length)


def _places(header: bytes, tensors: Sequence[TensorSpec], found_bytes: int) -> list[int]:
    """Where each of `tensors` begins among the `found_bytes` bytes after the header."""
    entries = _entries(header[LENGTH_BYTES:])
    names = {tensor.name for tensor in tensors}
    if odd := sorted(names - entries.keys()):
        raise PeerError(f"the file lacks the tensor {odd[0]!r}{_and_more(odd)}")
    if odd := sorted(entries.keys() - names):
        raise PeerError(f"the file has a tensor {odd[0][:_SHOWN]!r}{_and_more(odd)}, which the run has not")
    for tensor in tensors:
        entry = entries[tensor.name]
        start, end = entry.data_offsets
        if entry.dtype != "F32":
            raise PeerError(f"tensor {tensor.name!r} is {entry.dtype!r}, and must be F32")
        if tuple(entry.shape) != tensor.shape:
            raise PeerError(f"tensor {tensor.name!r} has shape {entry.shape}, not {list(tensor.shape)}")
        if end - start != prod(tensor.shape) * _FLOAT32.itemsize:
            raise PeerError(f"tensor {tensor.name!r} has {end - start} bytes for shape {entry.shape}")
    expected = 0
    for start, end in sorted(entry.data_offsets for entry in entries.values()):
        if start != expected:
            raise PeerError("the tensors' bytes overlap or leave gaps")
        expected = end
    if expected != found_bytes:
        raise PeerError(f"the tensors take {expected} bytes where the file has {found_bytes}")
    return [entries[tensor.name].data_offsets[0] for tensor in tensors]


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _entries(header: bytes) -> dict[str, _Entry]:
    try:
        found = json.loads(header.decode(), object_pairs_hook=_without_twins)
        if isinstance(found, dict):
            found.pop(RESERVED_NAME, None)
            "".join(found).encode()  # half a surrogate pair is no text that a record could hold
        return msgspec.convert(found, dict[str, _Entry], strict=True)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"no safetensors file: {error}") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def private(path: str, flags: int) -> int:
    """The opener of a file that only its owner reads."""
    return os.open(path, flags, 0o600)
