import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from primep2p.kernels.arrays import Matrix
from primep2p.kernels.pipeline import aggregate
from primep2p.model.pipeline import FedAvg, Median, Pipeline, TrimmedMean

SCRATCH_BYTES = 64 * 10**6


@pytest.mark.parametrize("rule", [FedAvg(), Median(), TrimmedMean()], ids=str)
def test_many_short_rows_take_no_square_of_their_number(rule: FedAvg | Median | TrimmedMean) -> None:
    rows, out = Matrix(np.ones((10_000, 8), np.float32)), np.empty(8, np.float32)
    tracemalloc.start()  # numpy tells it of its arrays
    try:
        aggregate(Pipeline(rule), rows, [1] * 10_000, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < SCRATCH_BYTES
    assert out == pytest.approx(np.ones(8), rel=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its high-water mark, and lets it forget it")
@pytest.mark.parametrize("shape", ["long", "many"])
def test_no_rule_takes_more_than_its_scratch_whatever_the_shape(shape: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.kernels.peak", shape],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
    )
    taken = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(taken) >= 6
    assert all(extra < SCRATCH_BYTES for *_, extra in taken), taken
