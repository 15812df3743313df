"""Deltas in files to the next params in a file: blocking work for a worker thread, in constant memory.

All members that aggregate the same deltas in the same order write the same bytes, or give the same reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primep2p.kernels.arrays import Array, Each, Pieces, Separate, all_finite, one_after_another, ranges_of
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.outer import step
from primep2p.kernels.pipeline import Combination, combine
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import TensorSpec
from primep2p.store.deltas import map_delta
from primep2p.store.tensors import map_tensors, writing

__all__ = ["Job", "Result", "aggregate"]

_PIECE = 2**20
"""Columns computed and written at a time: 4 MiB, a piece for each of a few threads, and a write that the disk likes."""


@dataclass(frozen=True)
class Job:
    """What a round's aggregation takes: files, and where to put what comes of them."""

    pipeline: Pipeline
    tensors: Sequence[TensorSpec]
    base: Path
    optimiser: Path | None
    """The state that the head names; None before the first step, and where there is none."""
    deltas: Sequence[Path]
    """At least as many as the pipeline needs, in the order of inclusions; each claims so many examples, or counts as
    one."""
    counts: Sequence[int]
    seed: bytes
    """The head's beacon."""
    params_out: Path
    optimiser_out: Path
    """New canonical files."""


@dataclass(frozen=True)
class Result:
    """Files that are whole, or why there are none."""

    params: Path | None = None
    optimiser: Path | None = None
    """None where the pipeline has no state."""
    reason: str = ""


def aggregate(job: Job, *, backend: Backend | None = None, each: Each = one_after_another) -> Result:
    """Carry out a job. Where the result is of no use there is a reason, the same for all members, and no file.

    Raises PeerError where a file is not what the tensors say, StoreError where the disk fails. Memory: 4 MiB and what
    the kernel keeps of the mapped files.
    """
    if job.pipeline.outer is not None:
        raise NotImplementedError(f"the outer optimiser {job.pipeline.outer}")
    before = Pieces(map_tensors(job.base, job.tensors))
    rows = Separate([map_delta(delta, job.pipeline.wire, job.tensors) for delta in job.deltas])
    combination = combine(job.pipeline, rows, job.counts, job.seed, backend=backend, each=each)
    result = np.empty(min(_PIECE, len(before)), np.float32)
    try:
        with writing(job.params_out, job.tensors) as writer:
            for start in range(0, len(before), _PIECE):
                block = result[: min(_PIECE, len(before) - start)]
                _next_params(combination, rows, before, start, block, each)
                writer.write(block)
    except _NotFinite as reason:
        return Result(reason=str(reason))
    return Result(params=job.params_out)


class _NotFinite(Exception):
    """The result is of no use to anybody."""


def _next_params(combination: Combination, rows: Separate, before: Pieces, start: int, out: Array, each: Each) -> None:
    def compute(low: int, high: int) -> None:
        piece = out[low - start : high - start]
        combination.columns(rows, low, high, piece)
        step(None, before.read(low, high), piece, (), piece, ())

    for _ in each(ranges_of(start, start + len(out)), compute):
        pass
    if not all_finite(out):  # nor are they where the mean is not
        raise _NotFinite("the params are not finite")
