"""Runs library code where nobody who waits for it can tear it.

A write to a connection that is cancelled half-way leaves half a Noise message on the wire, and with it every stream of
that connection is gone. So whatever may write runs in a task of the host's own; who waits for it can leave at once.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from primep2p.model.errors import Unavailable

__all__ = ["Calls", "Outcome"]

T = TypeVar("T")


class Outcome(Generic[T]):
    """What a call will have come to when it is `ready`."""

    _value: T

    def __init__(self) -> None:
        self.ready = trio.Event()
        self._error: Exception | None = Unavailable("the host has stopped")

    def get(self) -> T:
        """Raises TooSlowError for a missed deadline, Unavailable for all that the library may raise."""
        if self._error is not None:
            raise self._error
        return self._value

    async def fill(self, operation: Callable[[], Awaitable[T]], deadline_s: float) -> None:
        try:
            with trio.fail_after(deadline_s):
                self._value = await operation()
            self._error = None
        except trio.TooSlowError as error:
            self._error = error
        except Exception as error:  # dozens of unrelated classes, none of which says who is at fault
            self._error = Unavailable(str(error) or type(error).__name__)
            self._error.__cause__ = error
        finally:
            self.ready.set()

    @property
    def has_value(self) -> bool:
        return self._error is None


class Calls:
    """The tasks of one host's own. Whoever runs the host opens and closes it."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def close(self) -> None:
        self._nursery = None

    @property
    def is_open(self) -> bool:
        return self._nursery is not None

    def start(self, task: Callable[..., Awaitable[object]], *arguments: object) -> bool:
        """Whether the host runs; where it has stopped, there is nothing left to do for a task."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(task, *arguments)
        return True

    def begin(self, operation: Callable[[], Awaitable[T]], deadline_s: float) -> Outcome[T]:
        """The call goes on whoever waits. Raises Unavailable when the host does not run."""
        outcome = Outcome[T]()
        if not self.start(outcome.fill, operation, deadline_s):
            raise Unavailable("the host does not run")
        return outcome

    async def call(
        self,
        operation: Callable[[], Awaitable[T]],
        deadline_s: float,
        abandoned: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """What the call comes to; where nobody waits for it any more, that goes to `abandoned`.

        Raises TooSlowError after `deadline_s`, Unavailable for whatever the library raises.
        """
        outcome = self.begin(operation, deadline_s)
        try:
            await outcome.ready.wait()
        except trio.Cancelled:
            if abandoned is not None:
                self.start(self._dispose, outcome, abandoned)
            raise
        return outcome.get()

    async def _dispose(self, outcome: Outcome[T], abandoned: Callable[[T], Awaitable[object]]) -> None:
        await outcome.ready.wait()
        if outcome.has_value:
            await abandoned(outcome.get())
