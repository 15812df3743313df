"""What this machine makes of fixed vectors: who gets other bytes would not reproduce the group's checkpoints.

The vectors take every exponent in turn: denormals (lost where a library has told the CPU to flush them to zero), both
zeros, values that round, and one column that overflows. Every stage of every pipeline computes on them.
"""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np

from primep2p.kernels.arrays import BLOCK, Array, Matrix, Separate, Span
from primep2p.kernels.average import shares_of
from primep2p.kernels.backends.seam import Backend, Doubles
from primep2p.kernels.geometry import distances, gram
from primep2p.kernels.mixing import mix
from primep2p.kernels.outer import first_state, state_names, step
from primep2p.kernels.pipeline import aggregate
from primep2p.kernels.robust import centered_clip, geometric_median
from primep2p.model.pipeline import (
    Adagrad,
    Adam,
    Arc,
    Bucketing,
    Bulyan,
    CenteredClip,
    Clip,
    FedAvg,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighbours,
    Outer,
    Pipeline,
    Sgd,
    TrimmedMean,
    Yogi,
)

__all__ = ["digest", "fixed_vector"]

UNIFORM = FedAvg("uniform")

DISTANCES = (Krum, MultiKrum, Bulyan, GeometricMedian, CenteredClip)
"""Rules to which vectors with one huge value would all be alike."""

CHECKED: tuple[tuple[Pipeline, int, int], ...] = (
    (Pipeline(), 7, 2 * BLOCK + 11),  # two whole blocks and a ragged end
    (Pipeline(), 300, 40),  # many short rows
    (Pipeline(Median()), 9, 5003),
    (Pipeline(Median()), 40, 701),  # more rows than a network sorts
    (Pipeline(TrimmedMean("0.2")), 10, 5003),
    (Pipeline(TrimmedMean("0.1")), 41, 701),
    (Pipeline(Krum(1)), 7, 5003),
    (Pipeline(MultiKrum(3, 5)), 11, 5003),
    (Pipeline(Bulyan(2)), 12, 701),
    (Pipeline(GeometricMedian()), 6, 5003),
    (Pipeline(CenteredClip(1e-3)), 6, 701),
    (Pipeline(UNIFORM, pre=(Clip(0.5),)), 5, 701),
    (Pipeline(UNIFORM, pre=(Arc(2),)), 8, 701),
    (Pipeline(Median(), pre=(NearestNeighbours(2),)), 8, 701),
    (Pipeline(TrimmedMean("0.3"), pre=(Bucketing(2), NearestNeighbours(1))), 9, 701),
)

OPTIMISERS: tuple[Outer | None, ...] = (None, Sgd(0.7, 0.9, True), Adagrad(), Adam(), Yogi())


def digest(backend: Backend) -> bytes:
    """The sha-256 of all results, and of what they follow from."""
    found = sha256()
    for part in _parts(backend):
        found.update(part.astype(part.dtype.newbyteorder("<")).tobytes())
    for pipeline, count, columns in CHECKED:
        result = np.empty(columns, np.float32)
        wide = not (pipeline.pre or isinstance(pipeline.rule, DISTANCES))
        rows = [fixed_vector(row, columns, wide=wide) for row in range(count)]
        counts = [1 + 37 * row % 11 for row in range(count)]
        together = Matrix(np.stack(rows)) if columns < 100 else Separate([Span(row) for row in rows])
        aggregate(pipeline, together, counts, b"seed", out=result, backend=backend)
        found.update(_bytes(result))
    for outer in OPTIMISERS:
        base, result = fixed_vector(99, 701), fixed_vector(98, 701)
        state = [np.full(701, value, np.float32) for value in first_state(outer)]
        for _ in range(2):
            step(outer, base, result, state, base, state)
        found.update(_bytes(base))
        for name, values in zip(state_names(outer), state, strict=True):
            found.update(name.encode() + _bytes(values))
    return found.digest()


def _parts(backend: Backend) -> Iterator[Array | Doubles]:
    """What is decided before any column is added up: its last bits reach the results of few rounds."""
    rows = np.stack([fixed_vector(row, 701, wide=row < 2) for row in range(12)])
    rows[2] *= np.float32(2.0**-125)  # nothing but denormals
    rows[3, 0] = 1  # a power of two: the next value below it has another scale
    largest, products = backend.largest(rows), gram(Matrix(rows), backend)
    shares = shares_of([1 + 37 * row % 11 for row in range(12)], "examples")
    mixed = mix(products, shares, (Clip(30.0), Arc(2), NearestNeighbours(2), Bucketing(2)), b"seed")
    yield from (largest, products, distances(products), mixed.gram, mixed.matrix, mixed.shares)
    yield geometric_median(products[4:, 4:], shares_of(range(1, 9), "examples"), nu=1e-6, iterations=8)
    yield centered_clip(products[4:, 4:], tau=0.5, iterations=3)


def _bytes(values: Array) -> bytes:
    """Little endian; every NaN alike, since which one it is nobody relies on: no checkpoint has one."""
    return np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4").tobytes()


def fixed_vector(seed: int, columns: int, *, wide: bool = True) -> Array:
    """Float32 values by integer arithmetic alone, neither NaN nor inf: of any sign and fraction and, if `wide`, of any
    exponent."""
    bits = np.arange(columns, dtype=np.uint32) * np.uint32(2_654_435_761) + np.uint32(seed * 40_503 + 1)
    bits ^= bits >> np.uint32(15)
    bits *= np.uint32(2_246_822_519)
    bits ^= bits >> np.uint32(13)
    near = (bits & np.uint32(0x80FFFFFF)) | np.uint32(0x3D000000)
    if not wide:
        return near.view(np.float32)
    # Two columns in three have exponents near 1, as models have; the others range over all but the highest.
    vector = np.where(np.arange(columns) % 3 > 0, near, bits & np.uint32(0xFEFFFFFF)).astype(np.uint32).view(np.float32)
    vector[0], vector[1], vector[2] = np.float32(3.4e38), np.float32(-0.0), np.float32(1e-45 * (1 + seed % 3))
    return vector
