"""What travels to measure how fast two peers' network is: /primep2p/speedtest/1 [T4]."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = ["MAX_TEST_BYTES", "PIECE_BYTES", "Heard", "Measure", "NotNow", "Piece", "SpeedMessage"]

MAX_TEST_BYTES = 8 * 2**20
"""Each way: a second at 67 Mbit/s, and little enough to give to whoever asks."""

PIECE_BYTES = 65_536


class Message(Struct, frozen=True, array_like=True, tag=True):
    """One frame."""


class Measure(Message, frozen=True, tag="measure"):
    """What comes next is for measuring: so many bytes to the asker, then so many from it."""

    down: Annotated[int, Meta(ge=1, le=MAX_TEST_BYTES)]
    up: Annotated[int, Meta(ge=1, le=MAX_TEST_BYTES)]


class Piece(Message, frozen=True, tag="piece"):
    """Bytes that mean nothing; the last piece of a direction says so."""

    content: Annotated[bytes, Meta(max_length=PIECE_BYTES)]
    last: bool


class Heard(Message, frozen=True, tag="heard"):
    """How many bytes of pieces have come from the asker, and in how many seconds by the answerer's clock."""

    bytes: Annotated[int, Meta(ge=0, le=MAX_TEST_BYTES)]
    seconds: Annotated[float, Meta(ge=0)]


class NotNow(Message, frozen=True, tag="not-now"):
    """Measured lately, with this peer or another one."""

    reason: Literal["busy"]


SpeedMessage = Measure | Piece | Heard | NotNow
