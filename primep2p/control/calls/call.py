"""What a call is: a frozen type whose fields are its params, with its answer, its access and the command that sends it.

Server, clients, OpenRPC schema, commands and docs derive from these types; a field's help is its `Meta(description=…)`.
"""

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

from msgspec import Struct

from primep2p.model.views.events import AnyEvent

__all__ = ["Access", "Call", "Handlers", "answer_type"]

A = TypeVar("A")

Access = Literal["read", "write"]
"""Whether a call can change anything: on this node, or by it among its peers."""


class Call(Struct, Generic[A], frozen=True, kw_only=True):
    """A request; `A` is its answer, or what a stream consists of."""

    name: ClassVar[str]
    access: ClassVar[Access]
    command: ClassVar[str]
    """The words of the command that sends it."""
    stream: ClassVar[bool] = False
    """Answered by null once the subscription is in place; then events come until `end`."""
    waits: ClassVar[bool] = False
    """It may wait long for something to happen, and is given up when its caller leaves or the daemon stops."""
    deadline_s: ClassVar[float] = 10.0
    """After this a client stops waiting for the answer."""

    def check(self) -> None:
        """Raises strict.Fault where single fields are fine and do not fit each other."""


class Handlers(Protocol):
    """Whoever answers the calls."""

    async def answer(self, call: Call[Any]) -> object:
        """The answer to a call that is no stream. Raises PrimeError."""
        ...

    def watch(self, call: Call[Any]) -> AsyncIterator[AnyEvent]:
        """The events of a stream, from now on; it is asked for the next when that can be sent. Raises PrimeError."""
        ...


def answer_type(call: type[Call[A]]) -> Any:
    """The type of a call's answer, or of the events of a stream."""
    (base,) = call.__orig_bases__  # type: ignore[attr-defined]  # set by Generic
    return get_args(base)[0]
