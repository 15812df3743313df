"""One libp2p stream behind the seam: it can be cancelled, it waits for a slow reader, and its loss never looks like
its end.

py-libp2p 0.8.1 has none of the three. A write or a window update that is cancelled leaves half a Noise message on the
wire, and with it every stream of that connection is gone; a writer gives up after 5 s in which its reader took
nothing; and a stream whose connection broke reads as if it had been closed. So here every wait is done outside, where
it may be cancelled, on the state that Yamux shows, and what touches the wire is short and shielded.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, MAX_MESSAGE_SIZE

from primep2p.model.errors import Unavailable
from primep2p.model.ids import PeerId

__all__ = ["LibP2PStream"]

_MAX_WRITE_BYTES = MAX_MESSAGE_SIZE - HEADER_SIZE
"""One Yamux frame: the fastest write there is, and the unit that cannot be cancelled."""

_STALL_S = 30.0
"""A connection that has not taken one frame for this long is dead: 64 KiB at 2 KiB/s."""

_GOODBYE_S = 2.0
"""For a FIN or RST: 12 bytes that wait for the frame before them."""

_LINGER_S = 30.0
"""How long a closed stream waits for the other side to close too, so that it can still read what was sent."""

_FIRST_POLL_S = 0.001
_LAST_POLL_S = 0.016
"""Yamux tells nobody that the window has opened again: it is looked at, ever more rarely."""


class LibP2PStream:
    """See `Stream`. One task reads at a time; writers queue.

    A write that is cancelled half-way leaves a stream that can only be closed or reset; a cancelled read loses
    nothing.
    """

    def __init__(
        self,
        peer: PeerId,
        stream: Any,
        sever: Callable[[], object],
        later: Callable[[Callable[[], Awaitable[object]]], object],
    ) -> None:
        """`stream` is libp2p's NetStream; `sever` cuts its connection at once; `later` runs a task in its own time."""
        self._peer = peer
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._connection = stream.muxed_stream.conn
        self._sever = sever
        self._later = later
        self._writing = trio.Lock()
        self._torn = False
        self._closed = False

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def read(self, max_bytes: int) -> bytes:
        if not await self._arrived():
            return b""
        return bytes(await self._act(self._stream.read, max_bytes))

    async def write(self, data: bytes) -> None:
        async with self._writing:
            if self._torn:
                raise Unavailable(f"an earlier write to {self._peer} was cancelled half-way")
            self._torn = True
            for piece in _pieces(data):
                await self._write_piece(piece)
            self._torn = False

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with trio.CancelScope(shield=True), trio.move_on_after(_GOODBYE_S):
            await _quietly(self._stream.close)
        if not self._muxed.closed:
            self._later(self._linger)

    async def reset(self) -> None:
        self._closed = True
        with trio.CancelScope(shield=True), trio.move_on_after(_GOODBYE_S):
            await _quietly(self._stream.reset)

    async def _linger(self) -> None:
        """After `close`: until the other side has closed too, or for some time; nothing of the stream is left then."""
        with trio.move_on_after(_LINGER_S), suppress(Unavailable):
            while not (self._muxed.recv_closed or self._gone):
                await self._news()
        if not self._muxed.closed:
            await self.reset()

    @property
    def _gone(self) -> bool:
        return bool(self._muxed.reset_received or self._connection.event_shutting_down.is_set())

    async def _arrived(self) -> bool:
        """Waits for bytes, which are left where they are. False at the other side's close."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._gone or self._closed:
                raise self._lost()
            if self._connection.stream_buffers.get(self._muxed.stream_id):
                return True
            if self._muxed.recv_closed:
                return False
            await self._news()

    async def _news(self) -> None:
        """Until Yamux has something to tell about this stream."""
        events, key = self._connection.stream_events, self._muxed.stream_id
        event = events.get(key)
        if event is None:
            raise self._lost()
        await event.wait()
        if events.get(key) is event:
            events[key] = trio.Event()  # as Yamux's own reader does

    async def _write_piece(self, piece: memoryview) -> None:
        at = 0
        while at < len(piece):
            room = await self._room()
            part = bytes(piece[at : at + room])
            await self._act(self._stream.write, part)
            at += len(part)

    async def _room(self) -> int:
        """How many bytes the other side has room for, at least one: so the write itself never waits for its reader."""
        pause = _FIRST_POLL_S
        while True:
            # Closing is both ways at this seam: whoever has closed no longer reads, and its window may never open.
            if self._gone or self._closed or self._muxed.closed or self._muxed.recv_closed:
                raise self._lost()
            if self._muxed.send_window > 0:
                return int(self._muxed.send_window)
            await trio.sleep(pause)
            pause = min(2 * pause, _LAST_POLL_S)

    async def _act(self, operation: Callable[[Any], Any], argument: object) -> Any:
        """What touches the wire: not to be cancelled, and not to hang."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _STALL_S) as scope:
            try:
                return await operation(argument)
            except Exception as error:  # a dozen unrelated classes, none of which says more
                raise self._lost() from error
        assert scope.cancelled_caught
        self._sever()
        raise Unavailable(f"the connection to {self._peer} stalled")

    def _lost(self) -> Unavailable:
        return Unavailable(f"the stream to {self._peer} was reset or lost")


def _pieces(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + _MAX_WRITE_BYTES] for at in range(0, len(view), _MAX_WRITE_BYTES)]


async def _quietly(operation: Callable[[], Any]) -> None:
    try:
        await operation()
    except Exception:  # the stream was gone already, which is all that was wanted
        return
