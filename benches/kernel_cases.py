"""What is measured, beside whom, and which bars a figure has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from primep2p.cli.bench.pipelines import UNIFORM, pipelines
from primep2p.model.pipeline import NearestNeighbours, Pipeline

__all__ = ["CODEC_VALUES", "NARROW", "Bar", "Case", "bars_of", "cases"]

NARROW = (10_000, 100)
"""Many short updates, as Prime ML's NAPI published them."""

CODEC_VALUES = 10_000_000

BULYAN_VALUES = 10_000
"""With many updates: Flower computes all distances again for each update that it chooses."""


@dataclass(frozen=True)
class Case:
    """A pipeline on `updates` rows of `values` each, and those that may know it too."""

    name: str
    pipeline: Pipeline | None
    """None for a codec."""
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
        for name, pipeline in pipelines(count).items():
            width = min(values, BULYAN_VALUES) if name == "bulyan" and count > 20 and "flwr" in peers else values
            if "byzfl" in peers and pipeline.pre and isinstance(pipeline.pre[0], NearestNeighbours):
                width = min(values, _widest_neighbours(count, pipeline.pre[0].f))
            yield Case(name, pipeline, count, width, tuple(peers))
    yield Case("fedavg", Pipeline(UNIFORM), *NARROW, tuple(peer for peer in peers if peer == "flwr"))


def _widest_neighbours(count: int, f: int) -> int:
    """Values an update for which ByzFL's array of all neighbours of all updates takes half of the memory that is free:
    a 1, 2 or 5 with zeros."""
    most = psutil.virtual_memory().available // 2 // (4 * count * (count - f))
    return max(step * 10**zeros for zeros in range(10) for step in (1, 2, 5) if step * 10**zeros <= max(most, 1))


@dataclass(frozen=True)
class Bar:
    """A figure that one machine in one run should reach."""

    name: str
    backend: str
    updates: int
    kind: Literal["ratio", "share", "ms", "gb_s"]
    value: float
    peer: str = ""

    @property
    def text(self) -> str:
        match self.kind:
            case "ratio":
                return f"≥ {self.value:g}x"
            case "share":
                return f"≥ {self.value:g} read"
            case "gb_s":
                return f"≥ {self.value:g} GB/s"
        return f"≤ {self.value:g} ms"

    def is_met(self, *, ms: float, share: float, ratio: float, gb_s: float) -> bool:
        match self.kind:
            case "ratio":
                return ratio >= self.value
            case "share":
                return share >= self.value
            case "gb_s":
                return gb_s >= self.value
        return ms <= self.value


BARS = [
    Bar("bf16", "numpy", 1, "gb_s", 4),
    Bar("int8", "numpy", 1, "gb_s", 4),
    Bar("topk 1%", "numpy", 1, "ratio", 5, "argpartition"),
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
