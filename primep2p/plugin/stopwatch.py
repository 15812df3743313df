"""A clock for deadlines that can be paused: what a stopped trainer does not do, it is not blamed for."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import trio

__all__ = ["Stopwatch"]


class Stopwatch:
    """Trio's time without the pauses. Deadlines are told in this time; while it is paused none is reached."""

    def __init__(self) -> None:
        self._paused_s = 0.0
        self._paused_at: float | None = None
        self._scopes: dict[trio.CancelScope, float] = {}
        self._resumed = trio.Event()

    @property
    def is_paused(self) -> bool:
        """Whether time stands still."""
        return self._paused_at is not None

    def now(self) -> float:
        """Seconds since some fixed instant."""
        return (trio.current_time() if self._paused_at is None else self._paused_at) - self._paused_s

    def pause(self) -> None:
        """Until `resume`; once more changes nothing."""
        if self._paused_at is None:
            self._paused_at = trio.current_time()
            self._resumed = trio.Event()
            for scope in self._scopes:
                scope.deadline = inf

    def resume(self) -> None:
        """Goes on where it stood; changes nothing where it goes."""
        if self._paused_at is not None:
            self._paused_s += trio.current_time() - self._paused_at
            self._paused_at = None
            self._resumed.set()
            for scope, deadline in self._scopes.items():
                scope.deadline = deadline + self._paused_s

    async def running(self) -> None:
        """Returns when it is not paused."""
        while self._paused_at is not None:
            await self._resumed.wait()

    @contextmanager
    def move_on_at(self, deadline: float) -> Iterator[trio.CancelScope]:
        """As trio's, of this clock."""
        scope = trio.CancelScope(deadline=inf if self.is_paused else deadline + self._paused_s)
        self._scopes[scope] = deadline
        try:
            with scope:
                yield scope
        finally:
            del self._scopes[scope]
