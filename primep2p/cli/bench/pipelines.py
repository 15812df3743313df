"""What is measured: each rule, each stage before one, and the updates that they get."""

import numpy as np

from primep2p.kernels.arrays import Array
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

__all__ = ["UNIFORM", "pipelines", "rows_of"]

UNIFORM = FedAvg("uniform")


def pipelines(updates: int) -> dict[str, Pipeline]:
    """By name, for so many updates (7 at least), of which a fifth may be of liars."""
    f = max(1, updates // 5)
    nearest = NearestNeighbours(f)
    return {
        "fedavg": Pipeline(),
        "median": Pipeline(Median()),
        "trimmed_mean": Pipeline(TrimmedMean("0.1")),
        "krum": Pipeline(Krum(f)),
        "multi_krum": Pipeline(MultiKrum(f, updates - f - 1)),
        "bulyan": Pipeline(Bulyan(max(1, updates // 10))),
        "geometric_median": Pipeline(GeometricMedian(nu=0.1, weighting="uniform")),
        "centered_clip": Pipeline(CenteredClip()),
        "clip+fedavg": Pipeline(UNIFORM, pre=(Clip(2.0),)),
        "arc+fedavg": Pipeline(UNIFORM, pre=(Arc(f),)),
        "bucketing+median": Pipeline(Median(), pre=(Bucketing(2),)),
        "nnm+fedavg": Pipeline(UNIFORM, pre=(nearest,)),
        "nnm+trimmed_mean": Pipeline(TrimmedMean("0.1"), pre=(nearest,)),
    }


def rows_of(updates: int, values: int) -> Array:
    """Normally distributed about one mean, some longer than others. (K, D)."""
    draws = np.random.default_rng(1)
    rows = draws.standard_normal((updates, values), np.float32)
    rows *= draws.uniform(0.5, 2, (updates, 1)).astype(np.float32)
    rows += draws.standard_normal(values, np.float32)
    return rows
