import tracemalloc

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
