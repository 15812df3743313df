"""Tensors in a file, mapped on both sides of the pipe: safetensors, float32, in a given order, no metadata.

The header is a function of the tensors' names and shapes: so whoever knows these checks a file by comparing bytes, and
parses nothing that a trainer wrote.
"""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primep2p.model.records import TensorSpec
from primep2p.wire.safetensors import FLOAT_BYTES, LENGTH_BYTES, RESERVED_NAME, data_bytes, header_bytes

__all__ = ["Array", "check_file", "create_mapped", "is_finite", "open_mapped", "specs_of"]

Array = npt.NDArray[np.float32]

BLOCK_VALUES = 2**18
"""1 MiB: stays in a core's cache between reading and looking."""

MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format itself."""


def create_mapped(path: Path, tensors: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """A new file at `path`, its values zero and mapped: what is assigned to them is in the file."""
    header = header_bytes(tensors)
    with path.open("xb") as file:
        file.write(header)
        file.truncate(len(header) + data_bytes(tensors))
    return _views(np.memmap(path, dtype=np.uint8, mode="r+"), len(header), tensors)


def open_mapped(path: Path) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """The tensors of the file at `path`, in its order, read-only. Raises ValueError where it is not such a file,
    OSError where it cannot be read."""
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    header_size = int.from_bytes(mapped[:LENGTH_BYTES].tobytes(), "little")
    if header_size > min(MAX_HEADER_BYTES, mapped.size - LENGTH_BYTES):
        raise ValueError("it is no safetensors file")
    entries = json.loads(mapped[LENGTH_BYTES : LENGTH_BYTES + header_size].tobytes())
    entries.pop(RESERVED_NAME, None)
    in_order = sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"])
    tensors = tuple(TensorSpec(name, "float32", tuple(entry["shape"])) for name, entry in in_order)
    start = LENGTH_BYTES + header_size
    for name, entry in in_order:
        if entry["dtype"] != "F32":
            raise ValueError(f"tensor {name!r} is {entry['dtype']}, and must be F32")
    if start + data_bytes(tensors) != mapped.size:
        raise ValueError(
            f"the tensors take {data_bytes(tensors)} bytes, and the file has {mapped.size - start} for them"
        )
    return tensors, _views(mapped, start, tensors)


def check_file(path: Path, tensors: tuple[TensorSpec, ...]) -> None:
    """Raises ValueError unless the file at `path` holds exactly `tensors`, all finite. Blocks; parses nothing."""
    header = header_bytes(tensors)
    if path.is_symlink() or not path.is_file():
        raise ValueError("the result file is missing")
    if path.stat().st_size != len(header) + data_bytes(tensors):
        raise ValueError("the result file has another size than the run's tensors")
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise ValueError("the result file names other tensors than the run's")
        while (values := np.fromfile(file, "<f4", BLOCK_VALUES)).size:  # a mapped file that shrinks kills its reader
            if not is_finite(values):
                raise ValueError("the result file has values that are not finite")


def specs_of(params: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """Names and shapes of `params`, in their order."""
    return tuple(TensorSpec(name, "float32", array.shape) for name, array in params.items())


def is_finite(values: Array) -> bool:
    """Whether no value is NaN or infinite. The extremes carry both, so no mask the size of `values` is made."""
    return values.size == 0 or bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _views(mapped: npt.NDArray[np.uint8], start: int, tensors: tuple[TensorSpec, ...]) -> dict[str, Array]:
    views: dict[str, Array] = {}
    for tensor in tensors:
        end = start + FLOAT_BYTES * prod(tensor.shape)
        views[tensor.name] = np.asarray(mapped[start:end]).view("<f4").reshape(tensor.shape)
        start = end
    return views
