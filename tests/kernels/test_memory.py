import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from primep2p.kernels.arrays import Matrix, Separate, Span
from primep2p.kernels.compress import Int8Row, scales_for
from primep2p.kernels.pipeline import aggregate
from primep2p.model.pipeline import (
    Bucketing,
    Bulyan,
    CenteredClip,
    Clip,
    FedAvg,
    Median,
    NearestNeighbours,
    Pipeline,
    TrimmedMean,
)
from tests.kernels.samples import result_of, same_bits

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


def int8_rows(count: int, columns: int) -> list[Int8Row]:
    random = np.random.default_rng(1)
    values = random.integers(-127, 128, (count, columns)).astype(np.int8)
    scales = random.uniform(1e-3, 1, (count, scales_for(columns))).astype(np.float32)
    return [Int8Row(row, of_row) for row, of_row in zip(values, scales, strict=True)]


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(FedAvg()),
        Pipeline(Median()),
        Pipeline(TrimmedMean(), (Clip(),)),
        Pipeline(CenteredClip(), (Bucketing(64), Bucketing(64))),
    ],
    ids=str,
)
def test_rows_that_are_decoded_are_never_all_there_in_a_thread_s_whole_range(pipeline: Pipeline) -> None:
    rows, out = Separate(int8_rows(100, 2**18)), np.empty(2**18, np.float32)
    tracemalloc.start()
    try:
        aggregate(pipeline, rows, [1] * 100, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < SCRATCH_BYTES / 4  # each of four threads may take as much


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(FedAvg()),
        Pipeline(Bulyan(2)),
        Pipeline(Median(), (Clip(), NearestNeighbours(2))),
        Pipeline(TrimmedMean(), (Bucketing(2),)),
    ],
    ids=str,
)
def test_rows_that_are_decoded_give_the_bytes_of_rows_that_are_not(pipeline: Pipeline) -> None:
    rows = int8_rows(64, 20_000)
    assert Separate(rows).width < 20_000  # so it takes more than one block
    plain = Separate([Span(row.read(0, 20_000)) for row in rows])
    assert same_bits(result_of(pipeline, Separate(rows)), result_of(pipeline, plain))


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
