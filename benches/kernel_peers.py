"""What other libraries compute for the pipelines that both know: Flower's two interfaces, and ByzFL on numpy arrays.

A peer makes ready what it takes, outside of what is timed: some of them change or empty their inputs. Where definitions
differ, what is here is the call that means the same as ours; what no call of theirs means is left out.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

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
    trimmed,
)

__all__ = ["PEERS", "Prepared", "missing", "prepare"]

Array = npt.NDArray[np.float32]

Prepared = Callable[[], Array]
"""One call's work."""

SEE = "make bench-kernels installs it in .venv-bench and compares"

MODULES = {"flwr": "flwr", "flwr-messages": "flwr", "byzfl": "byzfl"}


def missing(peer: str) -> str:
    """Why this peer cannot be asked; empty where it can."""
    return "" if find_spec(MODULES[peer]) else f"{MODULES[peer]} is not installed here; {SEE}"


def prepare(peer: str, pipeline: Pipeline, rows: Array, counts: Sequence[int]) -> Prepared | None:
    """What `peer` makes of rows (K, D) that claim so many examples; None where it has no such pipeline."""
    return PEERS[peer](pipeline, rows, counts)


# ---- Flower, arrays: flwr.server.strategy.aggregate


def _flower(pipeline: Pipeline, rows: Array, counts: Sequence[int]) -> Prepared | None:
    from flwr.server.strategy import aggregate as flower

    if pipeline.pre:
        return None
    claimed = counts if pipeline.is_weighted else [1] * len(rows)
    results = [([row], count) for row, count in zip(rows, claimed, strict=True)]
    match pipeline.rule:
        case FedAvg():
            return lambda: flower.aggregate(results)[0]
        case Median():
            return lambda: flower.aggregate_median(results)[0]
        case TrimmedMean(ratio) as rule if trimmed(rule, len(rows)) == int(float(ratio) * len(rows)):
            return lambda: flower.aggregate_trimmed_avg(results, float(ratio))[0]
        case Krum(f):
            return lambda: flower.aggregate_krum(results, f, 0)[0]
        case MultiKrum(f, m):
            return lambda: flower.aggregate_krum(results, f, m or len(rows) - f)[0]
        case Bulyan(f):
            return lambda: flower.aggregate_bulyan(results, f, flower.aggregate_krum, to_keep=0)[0]
    return None


# ---- Flower, messages: flwr.serverapp.strategy, whose arrays travel as the bytes of .npy files


def _flower_messages(pipeline: Pipeline, rows: Array, counts: Sequence[int]) -> Prepared | None:
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.multikrum import select_multikrum
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    if pipeline.pre or not isinstance(pipeline.rule, FedAvg | Krum | MultiKrum):
        return None
    claimed = counts if pipeline.is_weighted else [1] * len(rows)
    records = [
        RecordDict({"arrays": ArrayRecord([row]), "metrics": MetricRecord({"num-examples": count})})
        for row, count in zip(rows, claimed, strict=True)
    ]

    def mean(chosen: list[Any]) -> Array:
        return aggregate_arrayrecords(chosen, "num-examples").to_numpy_ndarrays()[0]

    match pipeline.rule:
        case Krum(f):
            return lambda: mean(select_multikrum(records, f, 1))
        case MultiKrum(f, m):
            return lambda: mean(select_multikrum(records, f, m or len(rows) - f))
    return lambda: mean(records)


# ---- ByzFL


def _byzfl(pipeline: Pipeline, rows: Array, counts: Sequence[int]) -> Prepared | None:
    stages = [_byzfl_stage(stage) for stage in pipeline.pre]
    rule = None if pipeline.is_weighted and len(set(counts)) > 1 else _byzfl_rule(pipeline.rule, len(rows))
    if rule is None:
        return None
    vectors = rows.copy() if stages else rows  # clipping writes to its input

    def call() -> Array:
        mixed = vectors
        for stage in stages:
            mixed = stage(mixed)
        return rule(mixed)

    return call


def _byzfl_stage(stage: Pre) -> Callable[[Array], Array]:
    import byzfl

    match stage:
        case Clip(norm):
            return byzfl.Clipping(float(norm))
        case Arc(f):
            return byzfl.ARC(f)
        case NearestNeighbours(f):
            return byzfl.NNM(f)
        case Bucketing(size):
            return byzfl.Bucketing(size)  # draws from numpy's global generator


def _byzfl_rule(rule: Rule, updates: int) -> Callable[[Array], Array] | None:
    import byzfl

    match rule:
        case FedAvg():
            return byzfl.Average()
        case Median():
            return byzfl.Median()
        case TrimmedMean():
            return byzfl.TrMean(trimmed(rule, updates))
        case Krum(f):
            return byzfl.Krum(f + 1)  # it adds up one distance more than the paper, as we do with f + 1
        case MultiKrum(f, m) if m == updates - f - 1:
            return byzfl.MultiKrum(f + 1)  # which fixes how many it keeps
        case GeometricMedian(nu, iterations):
            return byzfl.GeometricMedian(float(nu), iterations)  # from zero on, not from the mean
        case CenteredClip(tau, iterations):
            return byzfl.CenteredClipping(L=iterations, tau=float(tau))
    return None


PEERS: dict[str, Callable[[Pipeline, Array, Sequence[int]], Prepared | None]] = {
    "flwr": _flower,
    "flwr-messages": _flower_messages,
    "byzfl": _byzfl,
}
