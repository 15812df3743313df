"""Files of tensors that another program wrote: opened with care, read once, checked, and copied.

Whoever wrote such a file may change it at any time, and a mapped file that shrinks kills its reader: so nothing here is
mapped but what this node has written itself, and what counts is the copy.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import all_finite
from primep2p.model.errors import PeerError
from primep2p.model.records import TensorSpec
from primep2p.store.tensors import map_tensors, places_of, specs_in, writing

__all__ = ["regular", "take_in", "tensors_in"]

_BLOCK_VALUES = 2**18
"""1 MiB at a time: stays in a core's cache from reading to writing."""

Array = npt.NDArray[np.float32]


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """The file at `path`, if it is one: opening a pipe would wait, and a device may do anything. Raises PeerError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise PeerError(f"{str(path)!r} cannot be opened: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PeerError(f"{str(path)!r} is no regular file")
    with open(descriptor, "rb") as file:
        yield file


def tensors_in(path: Path) -> tuple[TensorSpec, ...]:
    """What the safetensors file at `path` says it holds. Raises PeerError."""
    with regular(path) as file:
        return specs_in(file)


def take_in(source: Path, tensors: Sequence[TensorSpec], out: Path, *, base: Path | None = None) -> None:
    """A new canonical file `out` with the values of `source`, which must hold exactly `tensors`, in any order, all
    finite; with `base`, a file of this node's own, the values minus those of `base`. `out` is whole when this returns,
    and gone when it raises: PeerError says what is wrong with `source`, StoreError that the disk fails."""
    with regular(source) as file:
        places = places_of(file, tensors)
        bases = map_tensors(base, tensors) if base is not None else [None] * len(tensors)
        with writing(out, tensors) as writer:
            for tensor, place, before in zip(tensors, places, bases, strict=True):
                flat = None if before is None else before.reshape(-1)
                for start in range(0, prod(tensor.shape), _BLOCK_VALUES):
                    count = min(_BLOCK_VALUES, prod(tensor.shape) - start)
                    values = _read(file, place + 4 * start, count)
                    _require_finite(values, tensor, "a value that is not finite")
                    if flat is not None:
                        with np.errstate(over="ignore"):
                            values = values - flat[start : start + count]
                        _require_finite(values, tensor, "a value too far from the round's params for float32")
                    writer.write(values)


def _read(file: BinaryIO, place: int, count: int) -> Array:
    raw = os.pread(file.fileno(), 4 * count, place)
    if len(raw) != 4 * count:
        raise PeerError("the file was cut while it was read")
    return np.frombuffer(raw, "<f4")


def _require_finite(values: Array, tensor: TensorSpec, fault: str) -> None:
    if not all_finite(values):
        raise PeerError(f"tensor {tensor.name!r} has {fault}")
