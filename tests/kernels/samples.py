"""Rows, pipelines and ways to run them, for all tests of kernels."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from primep2p.kernels.arrays import Array, Each, Matrix, Range, Rows, Separate, Span, one_after_another
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.pipeline import aggregate
from primep2p.model.pipeline import (
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
    Pipeline,
    Pre,
    Rule,
    TrimmedMean,
)

T = TypeVar("T")

UNIFORM = FedAvg("uniform")

RULES: tuple[Rule, ...] = (
    FedAvg(),
    UNIFORM,
    Median(),
    TrimmedMean("0.2"),
    Krum(2),
    MultiKrum(2),
    MultiKrum(2, 3),
    Bulyan(2),
    GeometricMedian(),
    GeometricMedian(weighting="uniform", iterations=50),
    CenteredClip(1.0, 5),
)
"""With settings for 11 rows or more."""

STAGES: tuple[Pre, ...] = (Clip(2.0), Arc(2), NearestNeighbours(2), Bucketing(2))

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)  # denormals and both zeros among them
eighths = st.integers(-(2**13), 2**13).map(lambda eighth: eighth / 8)
"""Rows of these are integers to the kernels, and sums of their squares exact: distances, and ties, are the papers'."""
few = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1 + 2**-23])


def matrices(
    values: st.SearchStrategy[float], least: int = 1, most: int = 12, columns: int = 20
) -> st.SearchStrategy[Array]:
    shapes = st.tuples(st.integers(least, most), st.integers(1, columns))
    return shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=values))


def rules(count: int) -> st.SearchStrategy[Rule]:
    """For so many rows."""
    found: list[st.SearchStrategy[Rule]] = [
        st.builds(FedAvg, st.sampled_from(["examples", "uniform"])),
        st.builds(CenteredClip, st.sampled_from([1e-3, 1.0, 1e30]), st.integers(1, 4)),
    ]
    if count >= 3:
        found += [
            st.just(Median()),
            st.builds(
                GeometricMedian,
                st.sampled_from([1e-6, 0.1, 1e30]),
                st.integers(1, 9),
                st.sampled_from(["examples", "uniform"]),
            ),
            st.builds(TrimmedMean, st.sampled_from(["0.1", "0.25", "0.4", "0.499999"])),
        ]
    if count >= 5:
        f = st.integers(1, (count - 3) // 2)
        found += [
            st.builds(Krum, f),
            st.builds(MultiKrum, f),
            f.flatmap(lambda f: st.builds(MultiKrum, st.just(f), st.integers(1, count - f))),
        ]
    if count >= 7:
        found.append(st.builds(Bulyan, st.integers(1, (count - 3) // 4)))
    return st.one_of(found)


def stages(count: int) -> st.SearchStrategy[Pre]:
    found: list[st.SearchStrategy[Pre]] = [
        st.builds(Clip, st.sampled_from([1e-3, 1.0, 1e30])),
        st.builds(Bucketing, st.integers(2, 3)),
    ]
    if count >= 3:
        f = st.integers(1, (count - 1) // 2)
        found += [st.builds(Arc, f), st.builds(NearestNeighbours, f)]
    return st.one_of(found)


@st.composite
def pipelines(draw: st.DrawFn, count: int) -> Pipeline:
    pre: list[Pre] = []
    for _ in range(draw(st.integers(0, 2))):
        stage = draw(stages(count))
        pre.append(stage)
        count = -(-count // stage.size) if isinstance(stage, Bucketing) else count
    return Pipeline(draw(rules(count)), tuple(pre))


def forms(rows: Array) -> list[Rows]:
    """The same rows, as each kind of Rows."""
    return [Matrix(rows), Separate([Span(row.copy()) for row in rows])]


def result_of(
    pipeline: Pipeline,
    rows: Array | Rows,
    counts: Sequence[int] | None = None,
    seed: bytes = b"seed",
    *,
    backend: Backend | None = None,
    each: Each = one_after_another,
) -> Array:
    rows = Matrix(rows) if isinstance(rows, np.ndarray) else rows
    out = np.full(rows.shape[1], np.nan, np.float32)
    aggregate(pipeline, rows, counts or [1] * rows.shape[0], seed, out=out, backend=backend, each=each)
    return out


def threaded(ranges: Sequence[Range], function: Callable[[int, int], T], /) -> Iterable[T]:
    """The last first, three at a time."""
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(function, *one) for one in reversed(ranges)]
        return [one.result() for one in reversed(found)]


def same_bits(one: Array, other: Array) -> bool:
    nan = np.isnan(one) & np.isnan(other)  # which NaN it is nobody relies on: no checkpoint has one
    return one.shape == other.shape and bool(np.all(nan | (one.view(np.uint32) == other.view(np.uint32))))


def like_deltas(count: int, columns: int, seed: int = 1, *, mean: float = 0.3) -> Array:
    """Rows of one direction and noise, of different lengths."""
    random = np.random.default_rng(seed)
    way = mean * random.normal(size=columns)
    lengths = random.uniform(0.5, 2, size=(count, 1))
    found: Array = (lengths * (way + random.normal(size=(count, columns)))).astype(np.float32)
    return found


def wild(count: int, columns: int, seed: int = 1) -> Array:
    """Finite values of every exponent."""
    bits = np.random.default_rng(seed).integers(0, 2**32, size=(count, columns), dtype=np.uint32)
    values = bits.view(np.float32)
    found: Array = np.where(np.isfinite(values), values, np.float32(0))
    return found
