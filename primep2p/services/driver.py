"""The pump of a machine: events in, effects out, timers as sleeping tasks."""

from collections.abc import Awaitable, Callable

import trio

from primep2p.core.effects import Effect, Event, Expired, Timer
from primep2p.tasks import TaskStatus

__all__ = ["Driver"]

INBOX = 64
"""Events waiting. Whoever sends one more waits in line, each stream with one event: so every peer has its share of
this node's attention, and one that floods slows itself down."""

BATCH = 128
"""Events handled before their effects are performed: one write to the journal serves them all."""


class _Mark:
    """A place in the line of events."""

    def __init__(self) -> None:
        self.passed = trio.Event()


class Driver:
    """Feeds `handle` with events, one at a time, and gives what it wants done to `perform`, in order."""

    def __init__(
        self, handle: Callable[[Event], list[Effect]], perform: Callable[[list[Effect]], Awaitable[None]]
    ) -> None:
        self.inbox, self._events = trio.open_memory_channel[Event | _Mark](INBOX)
        self._handle = handle
        self._perform = perform
        self._nursery: trio.Nursery | None = None
        self._timers: set[trio.CancelScope] = set()

    async def run(self, first: list[Effect], *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Perform `first`, then pump until cancelled. What `perform` raises ends it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await self._perform(first)
            async for event in self._events:
                marks: list[_Mark] = []
                effects = self._take(event, marks)
                for _ in range(BATCH):
                    try:
                        effects += self._take(self._events.receive_nowait(), marks)
                    except trio.WouldBlock:
                        break
                await self._perform(effects)
                for mark in marks:
                    mark.passed.set()

    async def settled(self) -> None:
        """Returns when all that was sent before is handled, and its effects are performed."""
        mark = _Mark()
        await self.inbox.send(mark)
        await mark.passed.wait()

    def _take(self, event: "Event | _Mark", marks: "list[_Mark]") -> list[Effect]:
        if isinstance(event, _Mark):
            marks.append(event)
            return []
        return self._handle(event)

    def start_timer(self, timer: Timer, after_s: float) -> None:
        """Expired(timer) after so long, unless timers are forgotten before."""
        if self._nursery is not None:
            scope = trio.CancelScope()
            self._timers.add(scope)
            self._nursery.start_soon(self._sleep, timer, after_s, scope)

    def forget_timers(self) -> None:
        """Those started so far will not fire."""
        for scope in self._timers:
            scope.cancel()
        self._timers.clear()

    async def _sleep(self, timer: Timer, after_s: float, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(after_s)
            self._timers.discard(scope)
            await self.inbox.send(Expired(timer))
