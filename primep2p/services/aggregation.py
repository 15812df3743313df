"""Deltas in files to the next params in a file: blocking work for a worker thread, in constant memory.

All members that aggregate the same deltas in the same order write the same bytes, or give the same reason.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from primep2p.kernels.average import Array, Each, all_finite, apply, one_after_another, weighted_mean, weights
from primep2p.model.errors import PeerError
from primep2p.model.records import TensorSpec
from primep2p.store.tensors import map_tensors, writing

__all__ = ["aggregate", "check_delta"]

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
    each: Each = one_after_another,
) -> str:
    """Write base + weighted mean of `deltas` (at least one, in this order) to a new canonical file `out`.

    Returns "" or, where the result is of no use, the reason, the same for all members; then there is no `out`.
    Raises PeerError where a file is not what `tensors` say, StoreError where the disk fails. Memory: 4 MiB and what
    the kernel keeps of the mapped files.
    """
    base_tensors = map_tensors(base, tensors)
    rows_by_tensor = list(zip(*(map_tensors(delta, tensors) for delta in deltas), strict=True))
    shares = weights(counts, weighting)
    result = np.empty(_PIECE, np.float32)
    try:
        with writing(out, tensors) as writer:
            for base_tensor, rows in zip(base_tensors, rows_by_tensor, strict=True):
                flat_base, flat_rows = base_tensor.reshape(-1), [row.reshape(-1) for row in rows]
                for start in range(0, flat_base.size, _PIECE):
                    piece = slice(start, min(start + _PIECE, flat_base.size))
                    block = result[: piece.stop - start]
                    _next_params(flat_base[piece], [row[piece] for row in flat_rows], shares, block, each)
                    writer.write(block)
    except _NotFinite as reason:
        return str(reason)
    return ""


def check_delta(path: Path, tensors: Sequence[TensorSpec]) -> None:
    """Raises PeerError unless the file has exactly `tensors`, every element a finite number."""
    for tensor, array in zip(tensors, map_tensors(path, tensors), strict=True):
        if not all_finite(array.reshape(-1)):
            raise PeerError(f"tensor {tensor.name!r} has a value that is not finite")


class _NotFinite(Exception):
    """The result is of no use to anybody."""


def _next_params(base: Array, rows: Sequence[Array], shares: Sequence[np.float32], out: Array, each: Each) -> None:
    weighted_mean(rows, shares, out, each=each)
    apply(base, out, out)
    if not all_finite(out):  # nor are they where the mean is not
        raise _NotFinite("the params are not finite")
