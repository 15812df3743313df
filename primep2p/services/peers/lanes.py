"""Streams to peers that are used again: opening one costs milliseconds, a question on an open one does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from primep2p.model.ids import PeerId
from primep2p.net.frames import Frames
from primep2p.net.host import Host, Stream

__all__ = ["MAX_LANES", "Lane", "Lanes"]

MAX_LANES = 4
"""Streams to one peer at a time; who needs another one waits. The serving side allows twice as many, since it may
hear of a new stream before it hears that an old one was closed."""

MAX_IDLE = 2
"""Streams to one peer kept open for the next question."""


@dataclass(slots=True)
class Lane:
    """One stream, for one conversation. `is_clean` is for its user to set: nothing of an answer is under way on it."""

    stream: Stream
    frames: Frames
    is_fresh: bool
    is_clean: bool = False


@dataclass(slots=True)
class _PeerLanes:
    turns: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(MAX_LANES))
    users: int = 0
    idle: list[Lane] = field(default_factory=list)


class Lanes:
    """The streams of one protocol. Whoever makes it calls `close` in the end."""

    def __init__(self, host: Host, protocol: str, max_frame_bytes: int) -> None:
        self._host = host
        self._protocol = protocol
        self._max_frame_bytes = max_frame_bytes
        self._peers: dict[PeerId, _PeerLanes] = {}

    @asynccontextmanager
    async def lane(self, peer: PeerId, *, fresh: bool = False) -> AsyncIterator[Lane]:
        """A stream to `peer`, connecting first where need be; `fresh` one if an idle one may be dead.

        A lane that is left clean is kept for the next one, any other is reset. Raises Unavailable.
        """
        lanes = self._peers.setdefault(peer, _PeerLanes())
        lanes.users += 1
        try:
            async with lanes.turns:
                if fresh:
                    await _reset(lanes.idle)
                lane = lanes.idle.pop() if lanes.idle else await self._open(peer)
                try:
                    yield lane
                finally:
                    if lane.is_clean and len(lanes.idle) < MAX_IDLE:
                        lane.is_fresh = lane.is_clean = False
                        lanes.idle.append(lane)
                    else:
                        await _reset([lane])
        finally:
            lanes.users -= 1
            await self._tidy()

    async def close(self) -> None:
        """Resets what is idle."""
        for lanes in self._peers.values():
            await _reset(lanes.idle)

    async def _open(self, peer: PeerId) -> Lane:
        if peer not in self._host.connected:
            await self._host.connect(peer)
        stream = await self._host.open_stream(peer, self._protocol)
        return Lane(stream, Frames(stream, self._max_frame_bytes), is_fresh=True)

    async def _tidy(self) -> None:
        """Forget peers that are gone: their idle streams are dead."""
        for peer, lanes in list(self._peers.items()):
            if peer not in self._host.connected:
                await _reset(lanes.idle)
            if not lanes.idle and not lanes.users and self._peers.get(peer) is lanes:
                del self._peers[peer]


async def _reset(lanes: list[Lane]) -> None:
    while lanes:
        await lanes.pop().stream.reset()
