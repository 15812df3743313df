"""The two ends of a stream in memory, and who brings what is on its way to a host."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

import trio

from primep2p.model.errors import Unavailable
from primep2p.model.ids import PeerId

__all__ = ["MemoryStream", "Postman", "Way", "stream_pair"]

_WINDOW_BYTES = 256 * 1024
"""What a stream holds before its writer waits: Yamux's window."""


@dataclass(frozen=True, slots=True)
class Way:
    """From one end of a stream to the other: when what is written now arrives, and who then says so."""

    arrival_s: Callable[[], float]
    call_at: Callable[[float, Callable[[], object]], None]


class Postman:
    """Calls back when things arrive at one host: a single task, and one wake-up for all that arrives at once."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = count()
        self._nap = trio.CancelScope()
        self._waiting: set[trio.lowlevel.ParkingLot] = set()
        self._has_ended = False

    def call_at(self, time_s: float, call: Callable[[], object]) -> None:
        """`call` at that time of trio's clock, after all that is due before it; never if `run` has ended."""
        heappush(self._due, (time_s, next(self._serial), call))
        if time_s < self._nap.deadline:
            self._nap.deadline = time_s

    async def until(self, time_s: float) -> None:
        """Returns at that time, or when `run` ends."""
        if self._has_ended:
            await trio.lowlevel.checkpoint()
            return
        place = trio.lowlevel.ParkingLot()
        self._waiting.add(place)
        self.call_at(time_s, place.unpark_all)
        try:
            await place.park()
        finally:
            self._waiting.discard(place)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                while self._due and self._due[0][0] <= trio.current_time():
                    heappop(self._due)[2]()
                self._nap = trio.CancelScope(deadline=self._due[0][0] if self._due else float("inf"))
                with self._nap:
                    await trio.sleep_forever()
        finally:
            self._has_ended = True
            for place in self._waiting:
                place.unpark_all()


class MemoryStream:
    """See `Stream`: bytes arrive in order, a latency after they were written, until the link or the stream breaks."""

    def __init__(self, peer: PeerId, way: Way, siblings: "set[MemoryStream]") -> None:
        """`way` is that of what this end writes."""
        self._peer = peer
        self._way = way
        self._siblings = siblings
        self._other = self
        self._incoming: deque[tuple[float, bytes]] = deque()  # when it arrives, and what; b"" is the end
        self._held = 0
        self._last_arrival_s = 0.0
        self._is_broken = False
        self._is_closed = False
        self._is_torn = False
        self._changed = trio.lowlevel.ParkingLot()
        self._writing = trio.Lock()
        siblings.add(self)

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def read(self, max_bytes: int) -> bytes:
        if self._is_settled:
            await trio.lowlevel.checkpoint()  # as every read; one that waits has it in waiting
        while not self._is_settled:
            await self._changed.park()
        if self._is_broken or self._is_closed:
            raise self._lost()
        return self._take(max_bytes)

    @property
    def _is_settled(self) -> bool:
        """A read has its answer: something is here, or nothing will be."""
        is_here = bool(self._incoming) and self._incoming[0][0] <= trio.current_time()
        return is_here or self._is_broken or self._is_closed

    def _take(self, max_bytes: int) -> bytes:
        arrival_s, piece = self._incoming[0]
        if not piece:
            return b""  # and again b"" for who reads on
        self._incoming.popleft()
        if len(piece) > max_bytes:
            self._incoming.appendleft((arrival_s, piece[max_bytes:]))
            piece = piece[:max_bytes]
        self._held -= len(piece)
        self._other._changed.unpark_all()
        return piece

    async def write(self, data: bytes) -> None:
        async with self._writing:
            if self._is_torn:
                raise Unavailable(f"an earlier write to {self._peer} was cancelled half-way")
            self._is_torn = True
            at = 0
            while at < len(data):
                room = await self._room()
                self._other._put(data[at : at + room])
                at += room
            self._is_torn = False

    async def _room(self) -> int:
        while True:
            if self._is_broken or self._is_closed or self._other._is_closed:
                raise self._lost()
            if (room := _WINDOW_BYTES - self._other._held) > 0:
                return room
            await self._changed.park()

    def _put(self, piece: bytes) -> None:
        way = self._other._way
        self._last_arrival_s = max(self._last_arrival_s, way.arrival_s())  # later bytes do not overtake
        self._incoming.append((self._last_arrival_s, piece))
        self._held += len(piece)
        way.call_at(self._last_arrival_s, self._changed.unpark_all)

    async def close(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self._is_closed or self._is_broken:
            return
        self._is_closed = True
        self._other._put(b"")
        self._changed.unpark_all()
        self._other._changed.unpark_all()
        if self._other._is_closed:
            self._siblings -= {self, self._other}

    async def reset(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.sever()

    def sever(self) -> None:
        """What `reset` does, and what a lost connection does to it."""
        for end in (self, self._other):
            end._is_broken = True
            end._incoming.clear()
            end._changed.unpark_all()
            end._siblings.discard(end)

    def _lost(self) -> Unavailable:
        return Unavailable(f"the stream to {self._peer} was reset or lost")


def stream_pair(
    peers: tuple[PeerId, PeerId], ways: tuple[Way, Way], siblings: set[MemoryStream]
) -> tuple[MemoryStream, MemoryStream]:
    """The end of the first peer, and that of the second, with the way there and the way back; `siblings` holds them
    until they are done."""
    near = MemoryStream(peers[1], ways[0], siblings)
    far = MemoryStream(peers[0], ways[1], siblings)
    near._other, far._other = far, near
    return near, far
