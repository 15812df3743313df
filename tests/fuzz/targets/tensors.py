"""store/tensors and store/intake: a file of tensors, mapped or taken in, and the header of a run's tensors as a
stranger names them [B2]."""

import os
from pathlib import Path

import msgspec
import numpy as np

from primep2p.model.errors import PeerError
from primep2p.model.records import TensorSpec
from primep2p.store.intake import take_in, tensors_in
from primep2p.store.tensors import canonical_header, map_tensors, write_tensors
from primep2p.wire.codec import decode, encode
from primep2p.wire.safetensors import data_bytes
from tests.fuzz.kit import home
from tests.fuzz.surface import Surface

RUNS = (
    (TensorSpec("w", "float32", (2, 3)), TensorSpec("b", "float32", ())),
    (TensorSpec("none", "float32", (0, 4)), TensorSpec("é", "float32", (1,)), TensorSpec("last", "float32", (0,))),
)


class Specs(msgspec.Struct, frozen=True, array_like=True):
    """The tensors of a RunSpec, alone."""

    tensors: tuple[TensorSpec, ...]


def fuzz(data: bytes) -> None:
    """What is mapped has exactly the run's shapes, and lies within the file."""
    path = home() / "delta.safetensors"
    path.write_bytes(data)
    for tensors in RUNS:
        try:
            arrays = map_tensors(path, tensors)
        except PeerError:
            continue
        assert [(array.dtype, array.shape) for array in arrays] == [(np.float32, tensor.shape) for tensor in tensors]
        assert sum(array.nbytes for array in arrays) <= len(data)
        float(sum(array.sum(dtype=np.float64) for array in arrays))
    _take_in(path, len(data))
    try:
        canonical_header(decode(Specs, data).tensors)
    except PeerError:
        return


def _take_in(path: Path, size_bytes: int) -> None:
    """What another program wrote is copied whole, finite and no larger than it is, or refused; and never twice."""
    out = path.with_name("taken.safetensors")
    try:
        tensors = tensors_in(path)
        assert data_bytes(tensors) <= size_bytes
        take_in(path, tensors, out)
    except PeerError:
        assert not out.exists()
        return
    assert tensors_in(out) == tensors
    assert all(bool(np.isfinite(array).all()) for array in map_tensors(out, tensors))
    out.unlink()


def corpus() -> list[bytes]:
    return [_file(tensors) for tensors in RUNS] + [_reordered()] + [encode(Specs(tensors)) for tensors in RUNS]


def _file(tensors: tuple[TensorSpec, ...]) -> bytes:
    path = home() / f"seed-{os.getpid()}.safetensors"
    write_tensors(path, tensors, [np.ones(tensor.shape, np.float32) for tensor in tensors])
    return path.read_bytes()


def _reordered() -> bytes:
    """As another writer has it, with metadata."""
    text = (
        b'{"__metadata__":{"by":"another"},"b":{"dtype":"F32","shape":[],"data_offsets":[24,28]},'
        b'"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
    )
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(28)


SURFACE = Surface(fuzz, corpus, examples_per_test=150)
