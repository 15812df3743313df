"""Rows and pipelines to hold backends to: any finite float32, denormals and both zeros among them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from primep2p.kernels.arrays import Array, Block
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.selfcheck import fixed_vector
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
    TrimmedMean,
)

__all__ = ["SPECIAL", "blocks", "matrices", "mlx_on", "pipelines"]

SPECIAL = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, -1.1754942e-38, 1.1754944e-38, 1.0, -1.0, 3.4028235e38, -3.4028235e38],
    np.float32,
)
"""Zeros, the ends of the denormals and of all values."""

RULES = st.sampled_from(
    [
        FedAvg(),
        FedAvg("uniform"),
        Median(),
        TrimmedMean("0.1"),
        TrimmedMean("0.4"),
        Krum(1),
        MultiKrum(1),
        MultiKrum(1, 3),
        Bulyan(1),
        GeometricMedian(),
        GeometricMedian(1e-3, 3, "uniform"),
        CenteredClip(),
        CenteredClip(1e-3, 5),
    ]
)
STAGES = st.sampled_from([Clip(1.0), Clip(1e-30), Arc(1), NearestNeighbours(1), Bucketing(2)])

Counts = st.SearchStrategy[int]
COUNTS = st.integers(1, 40)
WIDTHS = st.one_of(COUNTS, st.integers(1, 5000))


@st.composite
def matrices(draw: st.DrawFn, rows: Counts = COUNTS, columns: Counts = WIDTHS) -> Array:
    """(K, D), K from `rows`: of like exponents, of any, or of few values, so that many are equal."""
    count, width = draw(rows), draw(columns)
    seed, kind = draw(st.integers(0, 1000)), draw(st.sampled_from(["near", "wide", "special", "mixed"]))
    drawn = np.array([fixed_vector(seed + row, max(3, width), wide=kind == "wide")[:width] for row in range(count)])
    if kind in ("special", "mixed"):
        picked = drawn.view(np.uint32) % np.uint32(len(SPECIAL) if kind == "special" else 2 * len(SPECIAL))
        chosen = SPECIAL[picked % len(SPECIAL)]
        drawn = np.where(picked < len(SPECIAL), chosen, drawn)
    return drawn.astype(np.float32)


@st.composite
def blocks(draw: st.DrawFn, matrix: Array) -> Block:
    """A matrix (K, D) as a backend may be given it: in one piece, or as rows that lie anywhere, none to be written."""
    shape: Callable[[Array], Block] = draw(st.sampled_from([lambda whole: whole, _cut, _scattered]))
    return shape(matrix)


def _cut(matrix: Array) -> Block:
    """Columns of a wider matrix."""
    return np.pad(matrix, ((0, 0), (3, 5)))[:, 3:-5]


def _scattered(matrix: Array) -> Block:
    """Rows of their own, not even aligned, as in a mapped file."""
    rows = []
    for row in matrix:
        copy = np.frombuffer(b"\0" + row.tobytes(), np.float32, offset=1)
        copy.flags.writeable = False
        rows.append(copy)
    return rows


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Any rule behind at most two stages."""
    return Pipeline(draw(RULES), pre=tuple(draw(st.lists(STAGES, max_size=2))))


def mlx_on(run: Callable[[Callable[[], Any]], Any]) -> Backend:
    """The backend, on the thread that `run` runs functions on."""

    def load() -> Backend:
        from primep2p.kernels.backends.mlx import Mlx

        return Mlx(run)

    backend: Backend = run(load)
    return backend
