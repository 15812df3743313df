"""Who is connected, and everyone who wants to know: shared by the hosts, touches no network."""

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

from primep2p.model.ids import PeerId
from primep2p.net.host import PeerConnected, PeerEvent, PeerLost

__all__ = ["Mailbox", "PeerTable"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """What one reader has yet to read. Writing never waits: beyond `capacity` the oldest are dropped."""

    def __init__(self, capacity: int | None = None) -> None:
        self._waiting: deque[T] = deque(maxlen=capacity)
        self._readers = trio.lowlevel.ParkingLot()

    def put(self, item: T) -> None:
        self._waiting.append(item)
        self._readers.unpark()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._waiting:
            await trio.lowlevel.checkpoint()
        while not self._waiting:
            await self._readers.park()
        return self._waiting.popleft()


class PeerTable:
    """Counts the links to each peer: its first makes a PeerConnected, the end of its last a PeerLost."""

    def __init__(self) -> None:
        self._links: Counter[PeerId] = Counter()
        self.connected: frozenset[PeerId] = frozenset()
        """Made anew by each change: it is asked for far more often."""
        # Unbounded, for an event must not be missed: one small object for each change that its reader has not seen.
        self._mailboxes: set[Mailbox[PeerEvent]] = set()
        self._changed = trio.lowlevel.ParkingLot()

    def gained(self, peer: PeerId) -> bool:
        """One more link. Whether it is the first."""
        self._links[peer] += 1
        if self._links[peer] > 1:
            return False
        self.connected = frozenset(self._links)
        self._tell(PeerConnected(peer))
        return True

    def lost(self, peer: PeerId) -> bool:
        """One link less. Whether it was the last."""
        self._links[peer] -= 1
        if self._links[peer] > 0:
            return False
        del self._links[peer]
        self.connected = frozenset(self._links)
        self._tell(PeerLost(peer))
        return True

    async def until_connected(self, peer: PeerId) -> None:
        while peer not in self._links:
            await self._changed.park()

    async def until_lost(self, peer: PeerId) -> None:
        while peer in self._links:
            await self._changed.park()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[PeerEvent]]:
        """See `Host.peer_events`."""
        mailbox: Mailbox[PeerEvent] = Mailbox()
        for peer in sorted(self._links):
            mailbox.put(PeerConnected(peer))
        self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)

    def _tell(self, event: PeerEvent) -> None:
        for mailbox in self._mailboxes:
            mailbox.put(event)
        self._changed.unpark_all()
