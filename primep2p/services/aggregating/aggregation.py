"""Deltas in files to the next params in a file: blocking work for a worker thread, in constant memory.

All members that aggregate the same deltas in the same order write the same bytes, or give the same reason.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from primep2p.kernels.arrays import Array, Each, Pieces, Separate, all_finite, finish, one_after_another, ranges_of
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.outer import first_state, state_names, step
from primep2p.kernels.pipeline import combine
from primep2p.model.pipeline import Float32, Outer, Pipeline
from primep2p.model.records import TensorSpec
from primep2p.store.deltas import delta_bytes, map_delta
from primep2p.store.tensors import map_tensors, writing

__all__ = ["Job", "Result", "aggregate", "check_files", "state_tensors"]

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

    Raises PeerError where a file is not what the tensors say, StoreError where the disk fails. Memory: 4 MiB of params,
    as much for each array of the optimiser's state, and what the kernels need; mapped files are not counted.
    """
    coming = _Next(job, backend, each)
    try:
        with ExitStack() as stack:
            params = stack.enter_context(writing(job.params_out, job.tensors))
            state = (
                stack.enter_context(writing(job.optimiser_out, coming.state_tensors)) if coming.state_tensors else None
            )
            for start in range(0, coming.columns, _PIECE):
                coming.take(start, min(start + _PIECE, coming.columns))
                params.write(coming.params)
                for number, values in enumerate(coming.state):
                    assert state is not None
                    state.write_at(number * coming.columns + start, values)
    except _NotFinite as reason:
        return Result(reason=str(reason))
    return Result(job.params_out, job.optimiser_out if coming.state_tensors else None)


def check_files(pipeline: Pipeline, tensors: Sequence[TensorSpec]) -> None:
    """Raises PeerError where a run of these would have to write a file that there cannot be: names take room in it."""
    delta_bytes(pipeline.wire, tensors)
    delta_bytes(Float32(), tensors)
    delta_bytes(Float32(), state_tensors(pipeline.outer, tensors))


def state_tensors(outer: Outer | None, tensors: Sequence[TensorSpec]) -> list[TensorSpec]:
    """What the file of an optimiser's state has [A8]; nothing where there is none."""
    return [
        TensorSpec(f"{name}/{tensor.name}", tensor.dtype, tensor.shape)
        for name in state_names(outer)
        for tensor in tensors
    ]


class _NotFinite(Exception):
    """The result is of no use to anybody."""


class _Next:
    """The next params and the optimiser's next state, some columns at a time."""

    def __init__(self, job: Job, backend: Backend | None, each: Each) -> None:
        names = state_names(job.pipeline.outer)
        self.state_tensors = state_tensors(job.pipeline.outer, job.tensors)
        self._base = Pieces(map_tensors(job.base, job.tensors))
        self._before = Pieces(map_tensors(job.optimiser, self.state_tensors)) if job.optimiser else None
        self._rows = Separate([map_delta(delta, job.pipeline.wire, job.tensors) for delta in job.deltas])
        self._outer = job.pipeline.outer
        self._each = each
        self._combination = combine(job.pipeline, self._rows, job.counts, job.seed, backend=backend, each=each)
        self.columns = len(self._base)
        self._scratch = np.empty((1 + len(names), min(_PIECE, self.columns)), np.float32)
        self.params: Array = self._scratch[0]
        """In the columns taken last."""
        self.state: Array = self._scratch[1:]

    def take(self, start: int, end: int) -> None:
        """These columns. Raises _NotFinite."""
        made = self._scratch[:, : end - start]
        self.params, self.state = made[0], made[1:]
        ranges = ranges_of(start, end)
        finish(self._each(ranges, lambda low, high: self._compute(made[:, low - start :], low, high)))
        if not all(all_finite(values) for values in made):  # nor are they where the rule's result is not
            raise _NotFinite("the params are not finite")

    def _compute(self, made: Array, start: int, end: int) -> None:
        params, state = made[0, : end - start], made[1:, : end - start]
        self._combination.columns(self._rows, start, end, params)
        before = self._state_before(state, start, end)
        step(self._outer, self._base.read(start, end), params, before, params, list(state))

    def _state_before(self, state: Array, start: int, end: int) -> Sequence[Array]:
        """What the last round left, or what there is before the first step: in the memory of what follows."""
        if self._before is not None:
            places = [number * self.columns for number in range(len(state))]
            return [self._before.read(place + start, place + end) for place in places]
        for values, first in zip(state, first_state(self._outer), strict=True):
            values[:] = first
        return list(state)
