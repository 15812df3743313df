"""Jobs for tests: one that is accepted, given from memory, and taken when its file is here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import trio

from primep2p.model.records import TensorSpec
from primep2p.model.views.jobs import (
    JobAccepted,
    JobChunk,
    JobOpen,
    JobRefused,
    JobRejected,
    JobTaken,
    TensorView,
)
from primep2p.wire.safetensors import header_bytes

RUN = "ab" * 32
JOB = f"{RUN[:16]}-4"
TENSORS = (TensorSpec("w", "float32", (500, 700)), TensorSpec("b", "float32", ()))
PARAMS = header_bytes(TENSORS) + np.arange(350_001, dtype="<f4").tobytes()
"""A safetensors file of more than two pieces."""


class FakeJobs:
    """`rejected` is answered in place of the job, `refused` in place of anything else; a worker named "patient" is not
    answered before `gate`."""

    def __init__(self) -> None:
        self.rejected: JobRejected | None = None
        self.refused: JobRefused | None = None
        self.then: list[Any] = []
        """So many jobs first, and what is rejected after them."""
        self.waiting = trio.Event()
        self.given_up = trio.Event()
        self.gate = trio.Event()
        self.asked: list[tuple[object, ...]] = []
        self.uploaded = bytearray()
        self.path = ""

    async def next(self, prefix: str, worker: str, wait_s: float) -> JobAccepted | JobRejected:
        self.asked.append((prefix, worker, wait_s))
        if worker == "patient":
            self.waiting.set()
            try:
                await self.gate.wait()
            finally:
                self.given_up.set()
        if self.then:
            left, after = self.then
            self.then[0] = left - 1
            self.rejected = None if left else after
        if self.rejected is not None:
            return self.rejected
        return JobAccepted(
            job=JOB,
            run=RUN,
            round=4,
            left_s=59.5,
            deadline=1.5e9,
            path=self.path,
            cid="bafkrei",
            sha256="cd" * 32,
            size_bytes=len(PARAMS),
            tensors=[TensorView(name=each.name, dtype=each.dtype, shape=list(each.shape)) for each in TENSORS],
            trainer="jobs",
            config={"epochs": 2},
            seed=7,
        )

    def report(self, job_id: str, step: int, steps: int, loss: float | None) -> JobOpen | JobRefused:
        self.asked.append((job_id, step, steps, loss))
        return self._refused(job_id) or JobOpen(job=JOB, left_s=30.25, uploaded_bytes=len(self.uploaded))

    async def params(self, job_id: str, offset: int, length: int) -> JobChunk | JobRefused:
        self.asked.append((job_id, offset, length))
        piece = PARAMS[offset : offset + length]
        return self._refused(job_id) or JobChunk(job=JOB, offset=offset, data=piece, size_bytes=len(PARAMS))

    async def upload(self, job_id: str, offset: int, piece: bytes) -> JobOpen | JobRefused:
        self.uploaded[offset:] = piece
        return self._refused(job_id) or JobOpen(job=JOB, left_s=30.25, uploaded_bytes=len(self.uploaded))

    async def submit(
        self,
        job_id: str,
        *,
        path: str,
        kind: str,
        examples: int,
        metrics: Mapping[str, float],
        evaluated: Mapping[str, float],
    ) -> JobTaken | JobRefused:
        if path:
            self.uploaded[:] = await trio.Path(path).read_bytes()
        self.asked.append((path, kind, examples, metrics, evaluated))
        return self._refused(job_id) or JobTaken(job=JOB, run=RUN, round=4, examples=examples, seconds=2.5)

    def _refused(self, job_id: str) -> JobRefused | None:
        sentence = "round 3 is not under way: ask for the next job"
        return self.refused if job_id == JOB else JobRefused(job=job_id, reason="stale", sentence=sentence)
