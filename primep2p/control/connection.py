"""One client of the control socket: a reader, a writer, and a task for each call under way.

What one client does costs the others little: it may have so many calls under way, so many bytes unread, and so much of
the daemon's time at a stretch.
"""

from collections import deque
from contextlib import suppress
from typing import Any

import structlog
import trio

from primep2p.control.calls import CALLS, decode_call
from primep2p.control.calls.call import Access, Call, Handlers
from primep2p.control.jsonrpc import (
    INVALID_PARAMS,
    MAX_LINE_BYTES,
    METHOD_NOT_FOUND,
    LineBuffer,
    Refusal,
    Request,
    RequestId,
    TooLong,
    answer_line,
    blamed,
    bug,
    decode_request,
    end_line,
    error_line,
    event_line,
    failure,
)
from primep2p.model.errors import CallError, Unavailable

__all__ = ["MAX_CALLS", "MAX_STREAMS", "MAX_UNREAD_BYTES", "QUEUE_LINES", "Connection"]

QUEUE_LINES = 1024
"""Lines that wait for a reader: a minute's pause of a terminal at 16 events a second. Events wait for room as answers
do, and a stream is asked for the next when there is some."""

MAX_CALLS = 64
"""Calls under way on one connection; the next is read when one of them has its answer."""

MAX_STREAMS = 64
"""Streams of one connection; more are refused, as nobody knows when one ends."""

MAX_UNREAD_BYTES = 2**20
"""Answers that wait for a reader; calls beside these are not begun before it reads. One answer may be larger."""

READ_BYTES = 65_536

BURST = 8
"""Calls that one connection begins before the others have their turn."""

log = structlog.get_logger("primep2p.control")


class Outgoing:
    """Lines on their way to a reader; the writer takes all that wait at once."""

    def __init__(self) -> None:
        self.owed = 0
        """Answers promised and not yet written."""
        self._lines: deque[tuple[bytes, bool]] = deque()
        self._bytes = 0
        self._closed = False
        self._more = trio.lowlevel.ParkingLot()
        self._less = trio.lowlevel.ParkingLot()

    @property
    def is_full(self) -> bool:
        """The reader has enough to read."""
        return self._bytes >= MAX_UNREAD_BYTES or len(self._lines) >= QUEUE_LINES

    async def room(self) -> None:
        """Returns when the reader has read enough for more."""
        while self.is_full:
            await self._less.park()

    def add(self, line: bytes, *, is_answer: bool) -> None:
        """Never waits: who adds has waited for room."""
        self._lines.append((line, is_answer))
        self._bytes += len(line)
        self._more.unpark()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._more.unpark()

    async def take(self) -> tuple[bytes, int]:
        """All that waits, and how many answers that is; nothing after the last of it."""
        while not self._lines and not self._closed:
            await self._more.park()
        taken = b"".join(line for line, _ in self._lines)
        answers = sum(is_answer for _, is_answer in self._lines)
        self._lines.clear()
        return taken, answers

    def written(self, size_bytes: int, answers: int) -> None:
        """The reader has them, or its kernel."""
        self._bytes -= size_bytes
        self.owed -= answers
        self._less.unpark_all()


class Connection:
    """`access` is what this client may do. `settled` is woken when answers went out."""

    def __init__(
        self, stream: trio.SocketStream, handlers: Handlers, settled: trio.lowlevel.ParkingLot, access: Access
    ) -> None:
        self._stream = stream
        self._handlers = handlers
        self._settled = settled
        self._access = access
        self._out = Outgoing()
        self._scope = trio.CancelScope()
        self._free = trio.Semaphore(MAX_CALLS)
        self._streams: set[trio.CancelScope] = set()

    @property
    def owed(self) -> int:
        """Answers not yet written."""
        return self._out.owed

    async def run(self) -> None:
        """Until the other end closes and its calls are answered, or it is dropped."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                async with trio.open_nursery() as calls:
                    await self._read(calls)
                    for scope in self._streams:
                        scope.cancel()
                self._out.close()

    async def _read(self, calls: trio.Nursery) -> None:
        lines = LineBuffer(MAX_LINE_BYTES)
        while received := await self._receive():
            try:
                found = lines.feed(received)
            except TooLong:
                sentence = f"a line of more than {MAX_LINE_BYTES} bytes: the connection is closed"
                self._answer(error_line(None, failure(CallError(sentence))), owed=False)
                return
            for number, line in enumerate(found, 1):
                await self._begin(decode_request(line), calls)
                if number % BURST == 0:
                    await trio.lowlevel.checkpoint()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError:
            return b""

    async def _begin(self, request: Request | Refusal, calls: trio.Nursery) -> None:
        await self._out.room()
        if isinstance(request, Refusal):
            self._answer(error_line(request.id, failure(request)), owed=False)
            return
        await self._free.acquire()
        self._out.owed += 1
        calls.start_soon(self._perform, request)

    async def _perform(self, request: Request) -> None:
        try:
            call = self._allowed(decode_call(request.method, bytes(request.params)))
        except CallError as error:
            self._free.release()
            number = INVALID_PARAMS if request.method in CALLS else METHOD_NOT_FOUND
            self._answer(error_line(request.id, failure(error, number)))
            return
        if call.stream:
            self._free.release()
            await self._events(request.id, call)
            return
        if call.waits:
            self._free.release()
            await self._wait(request.id, call)
            return
        line = await self._carried_out(request.id, call)
        self._free.release()
        self._answer(line)

    async def _carried_out(self, id_: RequestId, call: Call[Any]) -> bytes:
        try:
            return answer_line(id_, await self._handlers.answer(call))
        except Exception as error:  # the boundary: a bug is answered and logged, and the daemon lives
            return error_line(id_, _failure(error, call))

    async def _wait(self, id_: RequestId, call: Call[Any]) -> None:
        """What a stream with one event would be: nobody waits for its answer but its caller."""
        self._out.owed -= 1
        self._settled.unpark_all()
        if len(self._streams) >= MAX_STREAMS:
            self._answer(error_line(id_, failure(self._busy())), owed=False)
            return
        with trio.CancelScope() as scope:
            self._streams.add(scope)
            try:
                line = await self._carried_out(id_, call)
            finally:
                self._streams.discard(scope)
        if not scope.cancelled_caught:
            self._answer(line, owed=False)

    def _busy(self) -> Unavailable:
        sentence = f"{MAX_STREAMS} streams are open on this connection"
        return Unavailable(sentence, hint="close one, or connect again")

    def _allowed(self, call: Call[Any]) -> Call[Any]:
        if call.access == "write" and self._access == "read":
            raise CallError(f"{call.name} changes something, and this token only lets its bearer read")
        return call

    async def _events(self, id_: RequestId, call: Call[Any]) -> None:
        if len(self._streams) >= MAX_STREAMS:
            self._answer(error_line(id_, failure(self._busy())))
            return
        begun = False
        last = end_line(id_)
        with trio.CancelScope() as scope:
            self._streams.add(scope)
            try:
                events = self._handlers.watch(call)
                self._answer(answer_line(id_, None))
                begun = True
                async for event in events:
                    await self._out.room()  # what a slow reader misses meanwhile is counted
                    self._out.add(event_line(id_, event), is_answer=False)
            except Exception as error:  # the boundary, as above
                reason = _failure(error, call)
                last = end_line(id_, reason) if begun else error_line(id_, reason)
            finally:
                self._streams.discard(scope)
        if not scope.cancelled_caught:
            self._out.add(last, is_answer=not begun)
        elif not begun:
            self._out.owed -= 1

    def _answer(self, line: bytes, *, owed: bool = True) -> None:
        self._out.owed += not owed
        self._out.add(line, is_answer=True)

    async def _write(self) -> None:
        with suppress(trio.BrokenResourceError):
            while (taken := await self._out.take())[0]:
                lines, answers = taken
                await self._stream.send_all(lines)
                self._out.written(len(lines), answers)
                self._settled.unpark_all()
            return
        self._scope.cancel()  # nobody reads any more


def _failure(error: Exception, call: Call[Any]) -> Any:
    if (known := blamed(error)) is not None:
        return failure(known)
    log.error("a call failed", call=call.name, exc_info=error)
    return bug(error)
