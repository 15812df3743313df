"""Events for whoever watches: nothing waits for a watcher, and a slow one keeps nothing from the others.

All watchers share one list of them, and each is a place in it: one that falls behind by more than is kept is told how
much it missed, and goes on.
"""

import time
from collections.abc import Collection
from typing import Self, TypeVar

import msgspec
import trio

from primep2p.model.errors import CallError
from primep2p.model.views.events import KINDS, AnyEvent, EventsMissed, Left, RunFinished
from primep2p.services.watching.recent import Place, Recent

__all__ = ["Hub", "Watch"]

E = TypeVar("E", bound=AnyEvent)


class Hub:
    """Keeps the newest events, and hands each on to whoever watches. `epoch` is what no other start of the node has."""

    def __init__(self, epoch: str) -> None:
        self._recent = Recent(epoch)
        self._grown = trio.lowlevel.ParkingLot()

    def tell(self, event: E) -> E:
        """Stamp, keep and hand on; never waits."""
        told = self._recent.add(msgspec.structs.replace(event, at_s=event.at_s or time.time()))
        self._grown.unpark_all()
        return told

    @property
    def cursor(self) -> str:
        """Of the newest event: whoever asks for those after it misses none."""
        return self._recent.cursor(self._recent.newest)

    def watch(self, *, kinds: Collection[str] = (), run: str = "", after: str = "") -> "Watch":
        """Events from now on, or after a cursor: those of these kinds, or of all; with `run` (in full hex) those of
        that run and of the node itself, until the run is finished or this node has left it. Raises CallError."""
        if unknown := sorted(set(kinds).difference(KINDS.values())):
            raise CallError(
                f"there is no kind of event {unknown[0]!r}", hint=f"the kinds are {', '.join(KINDS.values())}"
            )
        return Watch(self._recent, self._grown, self._recent.place(after), frozenset(kinds), run)


class Watch:
    """An iterator of events. It costs nothing while nobody asks it, and need not be closed."""

    def __init__(
        self, recent: Recent, grown: trio.lowlevel.ParkingLot, place: Place, kinds: frozenset[str], run: str
    ) -> None:
        self._recent = recent
        self._grown = grown
        self._place = place
        self._kinds = kinds
        self._run = run
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyEvent:
        await trio.lowlevel.checkpoint()
        while not self._is_over:
            event = self._recent.next(self._place, self._is_looked_at)
            if event is None:
                await self._grown.park()
                continue
            self._is_over = self._ends(event)
            if self._is_kind(event):
                return event
        raise StopAsyncIteration

    def _is_looked_at(self, event: AnyEvent) -> bool:
        return event.run in ("", self._run or event.run) and (self._is_kind(event) or self._ends(event))

    def _is_kind(self, event: AnyEvent) -> bool:
        return not self._kinds or KINDS[type(event)] in self._kinds or isinstance(event, EventsMissed)

    def _ends(self, event: AnyEvent) -> bool:
        return bool(self._run) and isinstance(event, RunFinished | Left)
