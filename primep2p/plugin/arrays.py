"""Arrays of several types in a file: what a model is asked, what it answers, and what a trainer saves on its way.

Safetensors again, but of any names, shapes and types. `check_arrays` believes no file: it bounds and compares what the
header says before anything is allocated or mapped.
"""

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from primep2p.plugin.api import Arrays
from primep2p.wire.safetensors import LENGTH_BYTES, RESERVED_NAME

__all__ = ["DTYPES", "MAX_ARRAYS", "MAX_ARRAYS_BYTES", "check_arrays", "load_arrays", "load_state", "save_arrays"]

MAX_ARRAYS = 1000

MAX_ARRAYS_BYTES = 2**30
"""Of one question or answer: they are read into memory whole."""

MAX_HEADER_BYTES = 2**20
"""1,000 arrays with names of 256 characters take a third of it."""

DTYPES: Mapping[str, tuple[type[np.generic], int]] = {
    "BOOL": (np.bool_, 1),
    "U8": (np.uint8, 1),
    "I8": (np.int8, 1),
    "U16": (np.uint16, 2),
    "I16": (np.int16, 2),
    "F16": (np.float16, 2),
    "U32": (np.uint32, 4),
    "I32": (np.int32, 4),
    "F32": (np.float32, 4),
    "U64": (np.uint64, 8),
    "I64": (np.int64, 8),
    "F64": (np.float64, 8),
}
"""The format's names of types that numpy has too, and their bytes."""


class _Entry(Struct, frozen=True):
    dtype: str
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=16)]
    data_offsets: tuple[Annotated[int, Meta(ge=0, le=2**48)], Annotated[int, Meta(ge=0, le=2**48)]]


_headers = msgspec.json.Decoder(dict[Annotated[str, Meta(min_length=1, max_length=256)], msgspec.Raw])
_entries = msgspec.json.Decoder(_Entry)
_metadata = msgspec.json.Decoder(dict[str, str])


def check_arrays(path: Path) -> None:
    """Raises ValueError with the end of a sentence unless the file at `path` holds arrays without gaps, of DTYPES, and
    no more than the bounds above. Blocks."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("the file is missing")
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size_bytes < LENGTH_BYTES or header_bytes > min(MAX_HEADER_BYTES, size_bytes - LENGTH_BYTES):
            raise ValueError("it is no safetensors file, or its header is longer than a MiB")
        header = file.read(header_bytes)
    data_bytes = size_bytes - LENGTH_BYTES - header_bytes
    if data_bytes > MAX_ARRAYS_BYTES:
        raise ValueError(f"its arrays take {data_bytes} bytes, more than the {MAX_ARRAYS_BYTES} allowed")
    try:
        json.loads(header, object_pairs_hook=_said_once)
        named = _headers.decode(header.decode())
        _metadata.decode(named.get(RESERVED_NAME, b"{}"))
        entries = {name: _entries.decode(raw) for name, raw in named.items() if name != RESERVED_NAME}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header makes no sense: {error}") from error
    _check_entries(entries, data_bytes)


def _said_once(pairs: list[tuple[str, object]]) -> None:
    """Of a name that stands twice, readers take one or the other."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")


def _check_entries(entries: Mapping[str, _Entry], data_bytes: int) -> None:
    if not 1 <= len(entries) <= MAX_ARRAYS:
        raise ValueError(f"it has {len(entries)} arrays, and must have 1 to {MAX_ARRAYS}")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in DTYPES:
            raise ValueError(f"array {name!r} is {entry.dtype}, and must be one of {', '.join(DTYPES)}")
        begin, end_of_it = entry.data_offsets
        if begin != end or end_of_it - begin != DTYPES[entry.dtype][1] * prod(entry.shape):
            raise ValueError(f"array {name!r} lies elsewhere than its shape says")
        end = end_of_it
    if end != data_bytes:
        raise ValueError("it has bytes that belong to no array")


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """A new file at `path`, durably. Raises ValueError naming the array that cannot be in one, OSError where the disk
    is at fault."""
    from safetensors.numpy import save  # only who asks or saves pays for this import

    plain: Arrays = {}
    known = {dtype for dtype, _ in DTYPES.values()}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.type not in known:
            kind = f"of {array.dtype}" if isinstance(array, np.ndarray | np.generic) else f"a {type(array).__name__}"
            raise ValueError(f"array {name!r} is {kind}, and must be a numpy array of bools, ints or floats")
        if not isinstance(name, str) or not 1 <= len(name) <= 256 or name == RESERVED_NAME:
            raise ValueError(f"array {name!r} must have a name of 1 to 256 characters other than {RESERVED_NAME}")
        plain[name] = np.asarray(array, order="C")
    with path.open("xb") as file:
        file.write(save(plain, dict(metadata) if metadata else None))
        file.flush()
        os.fsync(file.fileno())


def load_arrays(path: Path) -> Arrays:
    """The arrays of a file that was checked; they are the caller's own."""
    from safetensors.numpy import load_file

    return load_file(path)


def load_state(path: Path) -> tuple[Mapping[str, str], Arrays]:
    """Metadata and arrays of a file that `save_arrays` made. Raises ValueError where it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no file of arrays: {error}") from error
