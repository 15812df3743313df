"""What is measured, beside whom, and which bars a figure has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import psutil

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

__all__ = ["Bar", "Case", "bars_of", "cases", "rows_of"]

UNIFORM = FedAvg("uniform")

NARROW = (10_000, 100)
"""Many short updates, as Prime ML's NAPI published them."""

BULYAN_VALUES = 10_000
"""With many updates: Flower computes all distances again for each update that it chooses."""


@dataclass(frozen=True)
class Case:
    """A pipeline on `updates` rows of `values` each, and those whose time is taken beside ours."""

    name: str
    pipeline: Pipeline
    updates: int
    values: int
    peers: tuple[str, ...]

    @property
    def size(self) -> str:
        return f"{self.updates} x {self.values:,}"

    @property
    def input_bytes(self) -> int:
        return 4 * self.updates * self.values


def cases(updates: Sequence[int], values: int, peers: Sequence[str]) -> Iterator[Case]:
    """Each rule and each stage before one, at these sizes; and the mean of many short updates."""
    for count in updates:
        for name, pipeline, known_to in _pipelines(count):
            width = min(values, BULYAN_VALUES) if name == "bulyan" and count > 20 else values
            if name.startswith("nnm") and "byzfl" in peers:
                width = min(values, _widest_neighbours(count, _liars(count)))
            yield Case(name, pipeline, count, width, tuple(peer for peer in known_to if peer in peers))
    yield Case("fedavg", Pipeline(), *NARROW, tuple(peer for peer in ("flwr", "byzfl") if peer in peers))


def _pipelines(count: int) -> list[tuple[str, Pipeline, tuple[str, ...]]]:
    f = _liars(count)
    both, flower, byzfl = ("flwr", "byzfl"), ("flwr", "flwr-messages"), ("byzfl",)
    return [
        ("fedavg", Pipeline(), ("flwr", "flwr-messages", "byzfl")),
        ("median", Pipeline(Median()), both),
        ("trimmed_mean", Pipeline(TrimmedMean("0.1")), both),
        ("krum", Pipeline(Krum(f)), (*flower, "byzfl")),
        ("multi_krum", Pipeline(MultiKrum(f, count - f - 1)), (*flower, "byzfl")),
        ("bulyan", Pipeline(Bulyan(max(1, count // 10))), ("flwr",)),
        ("geometric_median", Pipeline(GeometricMedian(nu=0.1, weighting="uniform")), byzfl),
        ("centered_clip", Pipeline(CenteredClip()), byzfl),
        ("clip+fedavg", Pipeline(UNIFORM, pre=(Clip(2.0),)), byzfl),
        ("arc+fedavg", Pipeline(UNIFORM, pre=(Arc(f),)), byzfl),
        ("bucketing+median", Pipeline(Median(), pre=(Bucketing(2),)), byzfl),
        ("nnm+fedavg", Pipeline(UNIFORM, pre=(NearestNeighbours(f),)), byzfl),
        ("nnm+trimmed_mean", Pipeline(TrimmedMean("0.1"), pre=(NearestNeighbours(f),)), byzfl),
    ]


def _liars(count: int) -> int:
    return max(1, count // 5)


def _widest_neighbours(count: int, f: int) -> int:
    """Values an update for which ByzFL's array of all neighbours of all updates takes half of the memory that is free:
    a 1, 2 or 5 with zeros."""
    most = psutil.virtual_memory().available // 2 // (4 * count * (count - f))
    return max(step * 10**zeros for zeros in range(10) for step in (1, 2, 5) if step * 10**zeros <= max(most, 1))


def rows_of(updates: int, values: int) -> npt.NDArray[np.float32]:
    """Updates as rounds have them: of one mean, normally distributed about it, some of them long. (K, D)."""
    draws = np.random.default_rng(1)
    rows = draws.standard_normal((updates, values), np.float32)
    rows *= draws.uniform(0.5, 2, (updates, 1)).astype(np.float32)
    rows += draws.standard_normal(values, np.float32)
    return rows


@dataclass(frozen=True)
class Bar:
    """A figure that one machine in one run should reach."""

    name: str
    backend: str
    updates: int
    kind: Literal["ratio", "share", "ms"]
    value: float
    peer: str = ""

    @property
    def text(self) -> str:
        match self.kind:
            case "ratio":
                return f"≥ {self.value:g}x"
            case "share":
                return f"≥ {self.value:g} read"
        return f"≤ {self.value:g} ms"

    def is_met(self, *, ms: float, share: float, ratio: float) -> bool:
        match self.kind:
            case "ratio":
                return ratio >= self.value
            case "share":
                return share >= self.value
        return ms <= self.value


BARS = [
    Bar("fedavg", "any order", 100, "share", 0.75),
    Bar("fedavg", "compiled", 100, "share", 0.5),
    Bar("fedavg", "numpy", 100, "share", 0.35),
    Bar("fedavg", "numpy", 100, "ratio", 6, "flwr"),
    Bar("fedavg", "compiled", 100, "ratio", 6, "flwr"),
    *(Bar("fedavg", backend, NARROW[0], "ms", 0.3) for backend in ("any order", "numpy", "compiled")),
    *(
        Bar(rule, backend, 10, "ratio", 10, "flwr")
        for rule in ("median", "trimmed_mean")
        for backend in ("numpy", "compiled")
    ),
    *(Bar(rule, "numpy", 100, "ratio", 4, "flwr") for rule in ("median", "trimmed_mean")),
    *(Bar(rule, "compiled", 100, "ratio", 12, "flwr") for rule in ("median", "trimmed_mean")),
    *(Bar("multi_krum", backend, 100, "ratio", 6, "flwr") for backend in ("numpy", "compiled")),
    *(
        Bar(rule, backend, 100, "ratio", 8, "byzfl")
        for rule in ("geometric_median", "nnm+fedavg")
        for backend in ("numpy", "compiled")
    ),
]


def bars_of(case: Case, backend: str, peer: str) -> list[Bar]:
    """Those of this figure: beside a peer those that name it, alone all others."""
    wanted = (case.name, backend, case.updates, peer)
    return [bar for bar in BARS if (bar.name, bar.backend, bar.updates, bar.peer) == wanted]
