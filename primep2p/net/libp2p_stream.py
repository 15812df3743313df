"""One libp2p stream behind the seam: it can be cancelled, it waits for a slow reader, and its loss never looks like
its end.

py-libp2p 0.8.1 has none of the three. A write or a window update that is cancelled breaks the connection; a writer
gives up after 5 s in which its reader took nothing; and a stream whose connection broke reads as if it had been closed.
So here every wait is done outside, on the state that Yamux shows, and what touches the wire is short and runs in a task
of the host's own (see `Calls`).
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import trio
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, MAX_MESSAGE_SIZE

from primep2p.model.errors import Unavailable
from primep2p.model.ids import PeerId
from primep2p.net.libp2p_calls import Calls, Outcome

__all__ = ["LibP2PStream"]

_MAX_WRITE_BYTES = MAX_MESSAGE_SIZE - HEADER_SIZE
"""One Yamux frame: the fastest write there is."""

_STALL_S = 30.0
"""A connection that has not taken one frame for this long is dead: 64 KiB at 2 KiB/s."""

_LINGER_S = 30.0
"""How long a closed stream waits for the other side to close too, so that it can still read what was sent."""

_FIRST_POLL_S = 0.001
_LAST_POLL_S = 0.016
"""Yamux tells nobody that the window has opened again: it is looked at, ever more rarely."""


class LibP2PStream:
    """See `Stream`."""

    def __init__(self, peer: PeerId, stream: Any, calls: Calls, sever: Callable[[], object]) -> None:
        """`stream` is libp2p's NetStream; `sever` cuts its connection at once."""
        self._peer = peer
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._connection = stream.muxed_stream.conn
        self._calls = calls
        self._sever = sever
        self._writing = trio.Lock()
        self._fetching: Outcome[bytes] | None = None  # outlives a read that was cancelled
        self._fetched = b""
        self._torn = False
        self._closed = False

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def read(self, max_bytes: int) -> bytes:
        if self._gone or self._closed:
            raise self._lost()
        if not self._fetched:
            if self._fetching is None:
                if not await self._arrived():
                    return b""
                self._fetching = self._calls.begin(partial(self._stream.read, max_bytes), _STALL_S)
            await self._fetching.ready.wait()
            outcome, self._fetching = self._fetching, None
            self._fetched = bytes(self._result(outcome))
        piece, self._fetched = self._fetched[:max_bytes], self._fetched[max_bytes:]
        return piece

    async def write(self, data: bytes) -> None:
        async with self._writing:
            if self._torn:
                raise Unavailable(f"an earlier write to {self._peer} was cancelled half-way")
            self._torn = True
            view = memoryview(data)
            at = 0
            while at < len(view):
                piece = bytes(view[at : at + min(await self._room(), _MAX_WRITE_BYTES)])
                outcome = self._calls.begin(partial(self._stream.write, piece), _STALL_S)
                await outcome.ready.wait()
                self._result(outcome)
                at += len(piece)
            self._torn = False

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._farewell(self._stream.close)
        if not self._muxed.closed:
            self._calls.start(self._linger)

    async def reset(self) -> None:
        self._closed = True
        await self._farewell(self._stream.reset)

    async def _farewell(self, operation: Callable[[], Awaitable[object]]) -> None:
        """Never raises: a stream that is gone already is all that was wanted."""
        with suppress(Unavailable):
            outcome = self._calls.begin(operation, _STALL_S)
            await outcome.ready.wait()

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

    def _result(self, outcome: Outcome[Any]) -> Any:
        try:
            return outcome.get()
        except trio.TooSlowError as error:
            self._sever()
            raise Unavailable(f"the connection to {self._peer} stalled") from error
        except Unavailable as error:
            raise self._lost() from error

    def _lost(self) -> Unavailable:
        return Unavailable(f"the stream to {self._peer} was reset or lost")
