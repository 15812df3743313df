"""The newest events of a node, by number: what anybody can read again, and what is gone.

Pure books, bounded by events and by bytes. A cursor is `EPOCH-NUMBER`: the epoch stands for one start of the node, the
number for an event in it. A reader that asks for what is gone is told how much that was.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from primep2p.model.errors import CallError
from primep2p.model.views.events import AnyEvent, EventsMissed

__all__ = ["MOST_BYTES", "MOST_EVENTS", "OLDEST", "Place", "Recent"]

MOST_EVENTS = 8192
"""A round of sixteen members is some 100 events: minutes of what happens, for who comes back."""

MOST_BYTES = 8 * 2**20
"""As JSON. An event has some 200 bytes; those that list a large roster have thousands."""

OLDEST = "oldest"
"""In place of a cursor: all that is kept."""

_DIGITS = 15

E = TypeVar("E", bound=AnyEvent)


class Place:
    """Where a reader is: `seen` is the number of the last event that it had."""

    def __init__(self, seen: int, *, of_another_start: bool = False) -> None:
        self.seen = seen
        self.of_another_start = of_another_start
        """Its cursor was: what it missed since is not known."""


class Recent:
    """Events of one start of a node, in order. `epoch` is what no other start has."""

    def __init__(self, epoch: str, *, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self.newest = 0
        """The number of the newest event; the first one is 1."""
        self.size_bytes = 0
        """Of those that are kept."""
        self._epoch = epoch
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._kept: dict[int, tuple[AnyEvent, int]] = {}  # by number, with its size

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, event: E) -> E:
        """The event with its cursor. The oldest go where it is one too many; the newest is always kept."""
        self.newest += 1
        event = msgspec.structs.replace(event, cursor=self.cursor(self.newest))
        size_bytes = len(msgspec.json.encode(event))
        self._kept[self.newest] = event, size_bytes
        self.size_bytes += size_bytes
        while len(self._kept) > 1 and (len(self._kept) > self._most_events or self.size_bytes > self._most_bytes):
            self.size_bytes -= self._kept.pop(self._oldest)[1]
        return event

    def cursor(self, number: int) -> str:
        """The cursor of an event by its number; that of 0 is before all."""
        return f"{self._epoch}-{number}"

    def place(self, after: str) -> Place:
        """Where whoever has this cursor goes on; empty is after the newest. Raises CallError where it is none."""
        if not after:
            return Place(self.newest)
        if after == OLDEST:
            return Place(self._oldest - 1)
        epoch, dash, digits = after.partition("-")
        if not (epoch and dash and digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
            raise CallError(f"{after!r} is no cursor", hint=f"give the cursor of an event that you had, or {OLDEST}")
        if epoch != self._epoch:
            return Place(0, of_another_start=True)
        if int(digits) > self.newest:
            raise CallError(f"no event had the cursor {after!r}", hint=f"the newest has {self.cursor(self.newest)}")
        return Place(int(digits))

    def next(self, place: Place, wanted: Callable[[AnyEvent], bool]) -> AnyEvent | None:
        """The next event that is wanted, or what was missed before it; None where there is none yet. Moves `place`."""
        oldest = self._oldest
        if place.of_another_start or place.seen < oldest - 1:
            count = None if place.of_another_start else oldest - 1 - place.seen
            place.seen, place.of_another_start = oldest - 1, False
            return EventsMissed(count=count, cursor=self.cursor(place.seen))
        while place.seen < self.newest:
            place.seen += 1
            event, _ = self._kept[place.seen]
            if wanted(event):
                return event
        return None

    @property
    def _oldest(self) -> int:
        """The number of the oldest that is kept; where none is, that of the first to come."""
        return self.newest - len(self._kept) + 1
