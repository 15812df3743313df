"""store/deltas: a delta's file in each form that runs have, as a stranger sends it [B3]."""

import os

import numpy as np

from primep2p.kernels.arrays import Span
from primep2p.model.errors import PeerError
from primep2p.model.pipeline import Bfloat16, Float32, Int8, TopK, Wire
from primep2p.model.records import TensorSpec
from primep2p.store.deltas import check_delta, columns_of, delta_bytes, map_delta, write_delta
from tests.fuzz.kit import home
from tests.fuzz.surface import Surface

WIRES: tuple[Wire, ...] = (Float32(), Bfloat16(), Int8(), TopK("0.4"))

RUNS = (
    (TensorSpec("w", "float32", (2, 3)), TensorSpec("b", "float32", ())),
    (TensorSpec("none", "float32", (0, 4)), TensorSpec("é", "float32", (1,))),
    (TensorSpec("none", "float32", (0,)),),
)


def fuzz(data: bytes) -> None:
    """What is accepted is read without fault in any range, as finite values, and has one size."""
    path = home() / "delta"
    path.write_bytes(data)
    for tensors in RUNS:
        columns = columns_of(tensors)
        for wire in WIRES:
            try:
                check_delta(path, wire, tensors)
            except PeerError:
                continue
            assert len(data) == delta_bytes(wire, tensors)
            row = map_delta(path, wire, tensors)
            assert len(row) == columns
            values = row.read(0, columns)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            for place in range(columns):
                assert row.read(place, place + 1).tobytes() == values[place : place + 1].tobytes()


def corpus() -> list[bytes]:
    return [_file(wire, tensors) for wire in WIRES for tensors in RUNS]


def _file(wire: Wire, tensors: tuple[TensorSpec, ...]) -> bytes:
    path = home() / f"seed-{os.getpid()}.delta"
    columns = columns_of(tensors)
    write_delta(path, Span(np.linspace(-2, 1, columns, dtype=np.float32)), wire, tensors)
    return path.read_bytes()


SURFACE = Surface(fuzz, corpus, examples_per_test=150)
