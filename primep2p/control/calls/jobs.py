"""Calls of those who train in a loop of their own: docs/jobs.md has a whole round of them."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from primep2p.control.calls.call import Access, Call
from primep2p.control.calls.runs import RunName
from primep2p.model.records import Examples, Name
from primep2p.model.views.jobs import JobAccepted, JobChunk, JobOpen, JobRefused, JobRejected, JobTaken
from primep2p.plugin.frames import MAX_METRICS

__all__ = ["MAX_WAIT_S", "PIECE_BYTES", "JobNext", "JobParams", "JobReport", "JobSubmit", "JobUpload"]

PIECE_BYTES = 2**19
"""Of a file that goes over the socket: two thirds of a line, as base64."""

MAX_WAIT_S = 60.0
"""A longer wait is several calls."""

JobName = Annotated[str, Meta(max_length=64, description="The job's id: job next has it.")]

Metrics = Annotated[dict[Name, float], Meta(max_length=MAX_METRICS)]


class JobNext(Call[JobAccepted | JobRejected], frozen=True):
    """Take the training of the round under way, in a run where this node's owner trains in a loop of their own."""

    name: ClassVar[str] = "job.next"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "job next"
    waits: ClassVar[bool] = True
    deadline_s: ClassVar[float] = MAX_WAIT_S + 60.0  # a large file of params is hashed first

    run: RunName
    wait_s: Annotated[
        float, Meta(ge=0, le=MAX_WAIT_S, description="How long to wait for a job where there is none now.")
    ] = 0.0
    worker: Annotated[
        str,
        Meta(
            max_length=64,
            description="A name, where several loops share this node's jobs: who asks by the same name gets the same "
            "job again, and another one only when that worker has been silent for trainer.silent_s.",
        ),
    ] = ""


class JobReport(Call[JobOpen | JobRefused], frozen=True):
    """Report how far the training is. It shows the worker alive, and its owner the progress; nothing waits for it."""

    name: ClassVar[str] = "job.report"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "job report"

    job: JobName
    step: Annotated[int, Meta(ge=0, le=2**53, description="How many steps are done.")]
    steps: Annotated[int, Meta(ge=0, le=2**53, description="How many there will be; 0: not known.")] = 0
    loss: Annotated[float | None, Meta(description="Of the last step.")] = None


class JobParams(Call[JobChunk | JobRefused], frozen=True):
    """Read the round's params piece by piece, where the file that job next names cannot be opened."""

    name: ClassVar[str] = "job.params"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "job params"
    deadline_s: ClassVar[float] = 60.0

    job: JobName
    offset: Annotated[int, Meta(ge=0, le=2**53, description="Where in the file the piece begins.")] = 0
    length: Annotated[int, Meta(ge=1, le=PIECE_BYTES, description="The most bytes to answer with.")] = PIECE_BYTES


class JobUpload(Call[JobOpen | JobRefused], frozen=True):
    """Send the file of an update piece by piece, where the daemon cannot open it. It is kept until the job is over."""

    name: ClassVar[str] = "job.upload"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "job submit"
    deadline_s: ClassVar[float] = 60.0

    job: JobName
    offset: Annotated[
        int, Meta(ge=0, le=2**53, description="Where in the file the piece begins: no gaps; 0 begins anew.")
    ]
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES, description="The piece, as base64.")]


class JobSubmit(Call[JobTaken | JobRefused], frozen=True):
    """Submit the update of a job: params after training, or what to add to those before."""

    name: ClassVar[str] = "job.submit"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "job submit"
    deadline_s: ClassVar[float] = 600.0  # a large file is read and checked

    job: JobName
    examples: Annotated[Examples, Meta(description="How many examples it was trained on.")]
    path: Annotated[
        str,
        Meta(description="The absolute path of a safetensors file with the run's tensors; empty: what was uploaded."),
    ] = ""
    kind: Annotated[
        Literal["params", "delta"],
        Meta(description="What the file has: the params after training, or these minus the round's."),
    ] = "params"
    metrics: Annotated[Metrics, Meta(description="Of the training, told to the group.")] = field(default_factory=dict)
    evaluated: Annotated[
        Metrics, Meta(description="Of the round's params before training, on this node's own data: told to its owner.")
    ] = field(default_factory=dict)
