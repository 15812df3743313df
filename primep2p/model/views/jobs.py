"""Answers about jobs: a round's training, handed to a loop of the owner's own."""

from typing import Literal

from msgspec import Struct

from primep2p.model.records import Scalar

__all__ = [
    "JobAccepted",
    "JobChunk",
    "JobOpen",
    "JobRefused",
    "JobRejected",
    "JobTaken",
    "Refusal",
    "Rejection",
    "TensorView",
]

Rejection = Literal[
    "gathering",
    "joining",
    "waking",
    "preparing",
    "not-drawn",
    "done",
    "missed",
    "given",
    "resting",
    "left",
    "expelled",
    "finished",
]
"""Why there is no job: the run waits for members; it has not admitted this node; this node asks members where the run
is; it fetches the round's params; it is not drawn to train in this round; its update is on its way; the deadline passed
without one; another worker has the job; this node rests, as its owner wants; it has left the run; it is expelled; the
run is over."""

Refusal = Literal["unknown", "stale", "late", "twice", "malformed"]
"""Why a job cannot be worked on: there is none of that name; its round is over; its deadline has passed; its update is
taken already; what came is not what the run's tensors and bounds ask for."""


class Answer(Struct, frozen=True, kw_only=True, tag_field="answer"):
    """One of a few: `answer` says which."""


class TensorView(Struct, frozen=True, kw_only=True):
    """A tensor of the run: an update has each of them, and no other."""

    name: str
    dtype: str
    shape: list[int]


class JobAccepted(Answer, frozen=True, tag="accepted"):
    """Train from these params, and submit before the deadline."""

    job: str
    run: str
    round: int
    left_s: float
    """Seconds until the deadline. A round whose other members are faster may be over sooner."""
    deadline: float
    """The same as Unix time."""
    path: str
    """The round's params as a safetensors file, to be mapped: read it, never write to it."""
    cid: str
    """Their content id."""
    sha256: str
    """Of the file's bytes, in hex."""
    size_bytes: int
    tensors: list[TensorView]
    trainer: str
    """What the run names; "jobs" where every member trains in a loop of its own."""
    config: dict[str, Scalar | list[Scalar]]
    """trainer_config of the run: the same for every member."""
    seed: int
    """Of 53 bits: this node's own in this round, and the same whoever asks."""


class JobRejected(Answer, frozen=True, tag="rejected"):
    """There is no job now."""

    run: str
    reason: Rejection
    sentence: str
    retry_after_s: float | None
    """When asking again makes sense; null: never."""


class JobOpen(Answer, frozen=True, tag="open"):
    """The job is still to be done."""

    job: str
    left_s: float
    uploaded_bytes: int
    """So much of an update is here by job.upload, from its beginning."""


class JobChunk(Answer, frozen=True, tag="chunk"):
    """A piece of the params' file."""

    job: str
    offset: int
    data: bytes
    """Base64."""
    size_bytes: int
    """Of the whole file."""


class JobTaken(Answer, frozen=True, tag="taken"):
    """The update is checked, and on its way into the round."""

    job: str
    run: str
    round: int
    examples: int
    seconds: float
    """Since the round's params were here."""


class JobRefused(Answer, frozen=True, tag="refused"):
    """Nothing was changed. What is malformed can be mended and submitted again; otherwise ask for the next job."""

    job: str
    reason: Refusal
    sentence: str
