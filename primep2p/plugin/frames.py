"""What the daemon and a trainer's process say to each other: frames of msgpack, each after its length in 4 bytes.

The daemon sends `Load` once and then one request at a time. The worker answers each request once, with any number of
`Reported` and `Saved` before; all carry the request's number, so that what a trainer's stray thread says late is told
apart.
Tensors are in files that the daemon names: no answer carries a path.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from primep2p.model.records import Examples, Name, Scalar, TensorSpec

__all__ = [
    "MAX_FRAME_BYTES",
    "MAX_METRICS",
    "UNPICKLED",
    "Answer",
    "Evaluate",
    "Evaluated",
    "Failed",
    "FrameReader",
    "Initialise",
    "Initialised",
    "Load",
    "Loaded",
    "Message",
    "Numbered",
    "Predict",
    "Predicted",
    "Reported",
    "Request",
    "Saved",
    "Train",
    "Trained",
    "decode_answer",
    "decode_request",
    "encode",
]

MAX_FRAME_BYTES = 64 * 2**20
"""100,000 tensors with names of 256 characters in one answer are 30 MB."""

MAX_METRICS = 32
"""As many as an update carries to the group."""

UNPICKLED = "primep2p: unpickled "
"""Begins a line of the log of a trainer that is watched."""

LENGTH_BYTES = 4


class Message(Struct, frozen=True, array_like=True, tag=True):
    """One frame."""


class Numbered(Message, frozen=True):
    """What belongs to the request of that number."""

    number: int


# ---- daemon to worker


class Load(Message, frozen=True, tag="load"):
    """Which class to make a trainer of, and what is the same for the whole run."""

    location: str
    """A path that ends in .py, or a dotted module."""
    attribute: str
    config: dict[str, Scalar | list[Scalar]]
    data: str
    """Empty where there is none."""
    scratch: str
    is_watched: bool
    """Print what is unpickled."""


class Initialise(Numbered, frozen=True, tag="initialise"):
    """The first params of a run, into the file `result`, please."""

    seed: int
    result: str


class Train(Numbered, frozen=True, tag="train"):
    """One local training from `params`; the delta into the file `result`, please."""

    round: int
    seed: int
    params: str
    result: str
    checkpoint: str
    """The file for what the trainer saves on the way."""


class Evaluate(Numbered, frozen=True, tag="evaluate"):
    """Metrics of `params`, please."""

    round: int
    seed: int
    params: str


class Predict(Numbered, frozen=True, tag="predict"):
    """What `params` say of the arrays in the file `inputs`, into the file `result`, please."""

    params: str
    inputs: str
    result: str


Request = Load | Initialise | Train | Evaluate | Predict


# ---- worker to daemon


class Loaded(Message, frozen=True, tag="loaded"):
    """The trainer is made."""

    abi_version: Annotated[int, Meta(ge=0, le=1000)]
    """Of the plugin API, that it is written for."""
    predicts: bool


class Reported(Numbered, frozen=True, tag="reported"):
    """How far the trainer is; also a sign of life."""

    step: int
    steps: int
    loss: float


class Saved(Numbered, frozen=True, tag="saved"):
    """The trainer has saved its state, from which this training could go on; also a sign of life."""

    step: int


class Initialised(Numbered, frozen=True, tag="initialised"):
    """The params are in the result file, in this order."""

    tensors: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=100_000)]


class Trained(Numbered, frozen=True, tag="trained"):
    """The delta is in the result file, in the order of the params."""

    examples: Examples
    metrics: Annotated[dict[Name, float], Meta(max_length=MAX_METRICS)]


class Evaluated(Numbered, frozen=True, tag="evaluated"):
    """What the trainer measured."""

    metrics: Annotated[dict[Name, float], Meta(max_length=MAX_METRICS)]


class Predicted(Numbered, frozen=True, tag="predicted"):
    """The arrays are in the result file."""


class Failed(Numbered, frozen=True, tag="failed"):
    """The trainer raised or returned what cannot be used; the traceback, if any, is on stderr. 0: while loading."""

    sentence: Annotated[str, Meta(max_length=2000)]


Answer = Loaded | Reported | Saved | Initialised | Trained | Evaluated | Predicted | Failed

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Message) -> bytes:
    """A whole frame."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_request(body: bytes) -> Request:
    """A frame's body. Raises msgspec.DecodeError."""
    return _requests.decode(body)


def decode_answer(body: bytes) -> Answer:
    """A frame's body, whose every bound is checked. Raises msgspec.DecodeError, RecursionError, UnicodeDecodeError."""
    return _answers.decode(body)


class FrameReader:
    """Bytes in, bodies of frames out; knows no pipe."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The bodies that `received` completes. Raises ValueError at a length above MAX_FRAME_BYTES."""
        self._buffer += received
        while len(self._buffer) >= LENGTH_BYTES:
            size_bytes = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if size_bytes > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size_bytes} bytes, more than the {MAX_FRAME_BYTES} allowed")
            end = LENGTH_BYTES + size_bytes
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            yield body
