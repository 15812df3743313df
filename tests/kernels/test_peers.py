"""What other libraries make of the same updates: always on the vectors of their documentation, and on random ones where
they are installed."""

from collections.abc import Sequence

import numpy as np
import pytest

from benches.kernel_peers import PEERS, missing, prepare
from primep2p.kernels.arrays import Array, Matrix
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
    TrimmedMean,
)

UNIFORM = FedAvg("uniform")

DOCUMENTED = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)
"""The inputs of each example in ByzFL's documentation."""

ATTACKED = np.vstack([DOCUMENTED, -DOCUMENTED.mean(axis=0)]).astype(np.float32)
"""With its sign flipping attack as a fourth."""

PIPELINES = [
    Pipeline(),
    Pipeline(UNIFORM),
    Pipeline(Median()),
    Pipeline(TrimmedMean("0.1")),
    Pipeline(TrimmedMean("0.3")),
    Pipeline(Krum(2)),
    Pipeline(MultiKrum(2)),
    Pipeline(MultiKrum(2, 8)),
    Pipeline(Bulyan(2)),
    Pipeline(GeometricMedian(nu=0.1, iterations=100, weighting="uniform")),
    Pipeline(CenteredClip(tau=3.0, iterations=5)),
    Pipeline(CenteredClip(tau=1000.0, iterations=1)),
    Pipeline(UNIFORM, pre=(Clip(2.0),)),
    Pipeline(TrimmedMean("0.3"), pre=(Clip(30.0),)),
    Pipeline(Median(), pre=(Arc(3),)),
    Pipeline(UNIFORM, pre=(NearestNeighbours(3),)),
    Pipeline(Median(), pre=(NearestNeighbours(3),)),
    Pipeline(MultiKrum(2, 8), pre=(NearestNeighbours(3),)),
    Pipeline(CenteredClip(tau=3.0, iterations=5), pre=(NearestNeighbours(3),)),
    Pipeline(TrimmedMean("0.3"), pre=(Arc(3), NearestNeighbours(3))),
    Pipeline(UNIFORM, pre=(Bucketing(11),)),
]


def ours(pipeline: Pipeline, rows: Array, counts: Sequence[int] | None = None) -> Array:
    out = np.full(rows.shape[1], np.nan, np.float32)
    aggregate(pipeline, Matrix(rows), counts or [1] * len(rows), b"seed", out=out)
    return out


@pytest.mark.parametrize(
    ("pipeline", "rows", "expected"),
    [
        (Pipeline(UNIFORM), DOCUMENTED, [4, 5, 6]),
        (Pipeline(Median()), DOCUMENTED, [4, 5, 6]),
        (Pipeline(TrimmedMean("0.34")), DOCUMENTED, [4, 5, 6]),
        (Pipeline(TrimmedMean("0.25")), ATTACKED, [2.5, 3.5, 4.5]),
    ],
)
def test_the_documented_examples_of_byzfl_come_out(pipeline: Pipeline, rows: Array, expected: list[float]) -> None:
    assert ours(pipeline, rows).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_documented_neighbours_of_byzfl_come_out() -> None:
    # The second row is as far from the first as from the third there: a nudge decides it as ByzFL's example has it.
    nudged = DOCUMENTED.copy()
    nudged[1] -= 0.001
    pairs = [[2.5, 3.5, 4.5], [2.5, 3.5, 4.5], [5.5, 6.5, 7.5]]
    found = ours(Pipeline(Median(), pre=(NearestNeighbours(1),)), nudged)
    assert found == pytest.approx(np.median(pairs, axis=0), abs=0.002)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_peers_that_know_a_pipeline_agree_with_us(pipeline: Pipeline) -> None:
    if reasons := {missing(peer) for peer in PEERS} - {""}:
        pytest.skip("; ".join(sorted(reasons)))
    draws = np.random.default_rng(3)
    rows = (draws.standard_normal((11, 1009)) * draws.uniform(0.5, 3, (11, 1)) + 1).astype(np.float32)
    counts = [int(count) for count in draws.integers(1, 50, 11)]
    found = ours(pipeline, rows, counts)
    calls = [call for peer in PEERS if (call := prepare(peer, pipeline, rows.copy(), counts))]
    assert calls, "no peer knows it"
    for call in calls:
        np.testing.assert_allclose(found, call(), rtol=2e-4, atol=2e-5)
