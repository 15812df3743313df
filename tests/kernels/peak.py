"""The most memory that each rule takes beside its inputs and its result, a line of JSON for each: run as a process of
its own, whose high-water mark counts what BLAS and threads take too."""

import json
import sys
from pathlib import Path

import numpy as np

from primep2p.kernels.arrays import Separate, Span
from primep2p.kernels.pipeline import aggregate
from primep2p.model.pipeline import (
    Arc,
    Bucketing,
    Bulyan,
    CenteredClip,
    FedAvg,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighbours,
    Pipeline,
    TrimmedMean,
)
from tests.kernels.samples import threaded

MANY = [Pipeline(rule) for rule in (FedAvg(), Median(), TrimmedMean(), Bulyan(5))]
WIDE = 2**18 + 1000
"""More than what is handed to a thread at a time: beyond that nothing grows."""
OTHERS = [
    *(Pipeline(rule) for rule in (Krum(5), MultiKrum(5), GeometricMedian(), CenteredClip())),
    Pipeline(FedAvg(), (Arc(5), NearestNeighbours(5))),
    Pipeline(Median(), (Bucketing(2),)),
]


def high_water() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def measure(pipelines: list[Pipeline], count: int, columns: int) -> None:
    values = np.random.default_rng(1).normal(size=columns + 64 * count).astype(np.float32)
    rows = Separate([Span(values[64 * row : 64 * row + columns]) for row in range(count)])  # they share their memory
    out = np.zeros(columns, np.float32)
    out.fill(1)  # pages that exist
    for pipeline in pipelines:
        Path("/proc/self/clear_refs").write_text("5")  # forget the mark
        before = high_water()
        aggregate(pipeline, rows, [1] * count, out=out, each=threaded)
        print(json.dumps([str(pipeline), count, columns, high_water() - before]), flush=True)


if __name__ == "__main__":
    size = sys.argv[1]
    if size == "long":
        measure(MANY, 100, 10**6)
        measure(OTHERS, 100, WIDE)
    else:
        measure(
            [*MANY[:3], Pipeline(Krum(5)), Pipeline(GeometricMedian()), Pipeline(FedAvg(), (Bucketing(2),))], 900, 600
        )
