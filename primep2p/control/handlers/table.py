"""Which function answers which call. Handlers enter themselves here; a test holds the table to the calls."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from primep2p.control.calls.call import Call
from primep2p.model.views.events import AnyEvent

__all__ = ["ANSWERS", "STREAMS", "answers", "streams"]

N = TypeVar("N")
C = TypeVar("C", bound=Call[Any])

Answering = Callable[[N, C], Awaitable[object]]
Streaming = Callable[[N, C], AsyncIterator[AnyEvent]]

ANSWERS: dict[type[Call[Any]], Answering[Any, Any]] = {}
STREAMS: dict[type[Call[Any]], Streaming[Any, Any]] = {}


def answers(call: type[C]) -> Callable[[Answering[N, C]], Answering[N, C]]:
    """Enters the function that answers `call`."""

    def enter(function: Answering[N, C]) -> Answering[N, C]:
        ANSWERS[call] = function
        return function

    return enter


def streams(call: type[C]) -> Callable[[Streaming[N, C]], Streaming[N, C]]:
    """Enters the function that opens the stream of `call`."""

    def enter(function: Streaming[N, C]) -> Streaming[N, C]:
        STREAMS[call] = function
        return function

    return enter
