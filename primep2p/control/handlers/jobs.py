"""Answers about jobs."""

from collections.abc import Mapping
from typing import Literal, Protocol

from primep2p.control.calls.jobs import JobNext, JobParams, JobReport, JobSubmit, JobUpload
from primep2p.control.handlers.table import answers
from primep2p.model.views.jobs import JobAccepted, JobChunk, JobOpen, JobRefused, JobRejected, JobTaken

__all__ = ["JobNode", "JobVerbs"]


class JobVerbs(Protocol):
    """What a node does for those who train in a loop of their own. Raises PrimeError."""

    async def next(self, prefix: str, worker: str, wait_s: float) -> JobAccepted | JobRejected: ...
    def report(self, job_id: str, step: int, steps: int, loss: float | None) -> JobOpen | JobRefused: ...
    async def params(self, job_id: str, offset: int, length: int) -> JobChunk | JobRefused: ...
    async def upload(self, job_id: str, offset: int, piece: bytes) -> JobOpen | JobRefused: ...
    async def submit(
        self,
        job_id: str,
        *,
        path: str,
        kind: Literal["params", "delta"],
        examples: int,
        metrics: Mapping[str, float],
        evaluated: Mapping[str, float],
    ) -> JobTaken | JobRefused: ...


class JobNode(Protocol):
    """A node that has jobs."""

    @property
    def jobs(self) -> JobVerbs: ...


@answers(JobNext)
async def next_(node: JobNode, call: JobNext) -> JobAccepted | JobRejected:
    return await node.jobs.next(call.run, call.worker, call.wait_s)


@answers(JobReport)
async def report(node: JobNode, call: JobReport) -> JobOpen | JobRefused:
    return node.jobs.report(call.job, call.step, call.steps, call.loss)


@answers(JobParams)
async def params(node: JobNode, call: JobParams) -> JobChunk | JobRefused:
    return await node.jobs.params(call.job, call.offset, call.length)


@answers(JobUpload)
async def upload(node: JobNode, call: JobUpload) -> JobOpen | JobRefused:
    return await node.jobs.upload(call.job, call.offset, call.data)


@answers(JobSubmit)
async def submit(node: JobNode, call: JobSubmit) -> JobTaken | JobRefused:
    return await node.jobs.submit(
        call.job,
        path=call.path,
        kind=call.kind,
        examples=call.examples,
        metrics=call.metrics,
        evaluated=call.evaluated,
    )
