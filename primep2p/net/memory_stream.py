"""The two ends of a stream in memory."""

from collections import deque
from collections.abc import Callable

import trio

from primep2p.model.errors import Unavailable
from primep2p.model.ids import PeerId

__all__ = ["MemoryStream", "stream_pair"]

_WINDOW_BYTES = 256 * 1024
"""What a stream holds before its writer waits: Yamux's window."""


class MemoryStream:
    """See `Stream`: bytes arrive in order, a latency after they were written, until the link or the stream breaks."""

    def __init__(self, peer: PeerId, delay_s: Callable[[], float], siblings: "set[MemoryStream]") -> None:
        """`delay_s` is that of what this end writes."""
        self._peer = peer
        self._delay_s = delay_s
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
        await trio.lowlevel.checkpoint()
        while True:
            if self._is_broken or self._is_closed:
                raise self._lost()
            if not self._incoming:
                await self._changed.park()
                continue
            wait_s = self._incoming[0][0] - trio.current_time()
            if wait_s <= 0:
                return self._take(max_bytes)
            with trio.move_on_after(wait_s):
                await self._changed.park()

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
        arrival_s = trio.current_time() + self._other._delay_s()
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)  # later bytes do not overtake
        self._incoming.append((self._last_arrival_s, piece))
        self._held += len(piece)
        self._changed.unpark_all()

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        if self._is_closed or self._is_broken:
            return
        self._is_closed = True
        self._other._put(b"")
        self._changed.unpark_all()
        self._other._changed.unpark_all()
        if self._other._is_closed:
            self._siblings -= {self, self._other}

    async def reset(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
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
    peers: tuple[PeerId, PeerId], delays_s: tuple[Callable[[], float], Callable[[], float]], siblings: set[MemoryStream]
) -> tuple[MemoryStream, MemoryStream]:
    """The end of the first peer, and that of the second; `siblings` holds them until they are done."""
    near = MemoryStream(peers[1], delays_s[0], siblings)
    far = MemoryStream(peers[0], delays_s[1], siblings)
    near._other, far._other = far, near
    return near, far
