"""Deltas in files to the next params in a file: blocking work for a worker thread, in constant memory.

All members that aggregate the same deltas in the same order write the same bytes, or give the same reason.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from primep2p.kernels.arrays import Array, Each, Pieces, Separate, all_finite, one_after_another, ranges_of
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.outer import step
from primep2p.kernels.pipeline import Combination, combine
from primep2p.model.pipeline import FedAvg, Float32, Pipeline, Wire
from primep2p.model.records import TensorSpec
from primep2p.store.deltas import map_delta
from primep2p.store.tensors import map_tensors, writing

__all__ = ["aggregate"]

_PLAIN = Float32()

_PIECE = 2**20
"""Columns computed and written at a time: 4 MiB, a piece for each of a few threads, and a write that the disk likes."""


def aggregate(
    base: Path,
    deltas: Sequence[Path],
    counts: Sequence[int],
    weighting: Literal["examples", "uniform"],
    tensors: Sequence[TensorSpec],
    out: Path,
    *,
    wire: Wire = _PLAIN,
    each: Each = one_after_another,
) -> str:
    """Write base + weighted mean of `deltas` (at least one, in this order) to a new canonical file `out`.

    Returns "" or, where the result is of no use, the reason, the same for all members; then there is no `out`.
    Raises PeerError where a file is not what `tensors` say, StoreError where the disk fails. Memory: 4 MiB and what
    the kernel keeps of the mapped files.
    """
    before = Pieces(map_tensors(base, tensors))
    rows = Separate([map_delta(delta, wire, tensors) for delta in deltas])
    backend = Plain()
    combination = combine(Pipeline(FedAvg(weighting)), rows, counts, backend=backend, each=each)
    result = np.empty(min(_PIECE, len(before)), np.float32)
    try:
        with writing(out, tensors) as writer:
            for start in range(0, len(before), _PIECE):
                block = result[: min(_PIECE, len(before) - start)]
                _next_params(combination, rows, before, start, block, each)
                writer.write(block)
    except _NotFinite as reason:
        return str(reason)
    return ""


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
