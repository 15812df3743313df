"""The control socket: calls come in as lines, go to the handlers, and answers and events go out.

Requests of a connection run at the same time. When its other end closes, its streams are cancelled; calls under way
are carried out. A reader too slow for its events is dropped; garbage is answered with an error; neither hurts others.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import trio

from primep2p.control.calls import CALLS, decode_call
from primep2p.control.calls.call import Call, Handlers
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
from primep2p.control.place import peer_uid, prepare_directory
from primep2p.model.errors import CallError, ConfigError, Unavailable
from primep2p.tasks import TaskStatus

__all__ = ["MAX_CALLS", "QUEUE_LINES", "ControlServer"]

QUEUE_LINES = 1024
"""Lines that wait for a reader: a minute's pause of a terminal at 16 events a second."""

MAX_CALLS = 64
"""Calls and streams under way on one connection."""

READ_BYTES = 65_536

log = structlog.get_logger("primep2p.control")


class ControlServer:
    """Serves `handlers` at `path`, with a symlink at `link`. Listens from the start of `run` until it is cancelled.

    `uid_of` is the seam to the kernel: the user at the other end of a connection.
    """

    def __init__(
        self,
        path: Path,
        handlers: Handlers,
        *,
        link: Path | None = None,
        uid_of: Callable[[trio.socket.SocketType], int] = peer_uid,
    ) -> None:
        self._path = path
        self._link = link if link != path else None
        self._handlers = handlers
        self._uid_of = uid_of
        self._connections: set[_Connection] = set()
        self._settled = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Raises ConfigError where the socket cannot be made."""
        with self._listener() as listening:
            listener = trio.socket.from_stdlib_socket(listening)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        connection, _ = await listener.accept()
                    except OSError as error:  # out of descriptors: those who are connected go on
                        log.warning("no connection accepted", reason=error.strerror)
                        await trio.sleep(0.1)
                        continue
                    nursery.start_soon(self._serve, connection)

    async def idle(self) -> None:
        """Returns when every call so far has its answer on the way: what `stop` waits for before it cancels `run`."""
        while any(connection.owed for connection in self._connections):
            await self._settled.park()

    async def _serve(self, accepted: trio.socket.SocketType) -> None:
        with accepted:
            uid = self._uid_of(accepted)
            if uid not in (os.getuid(), 0):
                log.warning("connection of another user refused", uid=uid)
                return
            connection = _Connection(trio.SocketStream(accepted), self._handlers, self._settled)
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
                self._settled.unpark_all()

    @contextmanager
    def _listener(self) -> Iterator[socket.socket]:
        prepare_directory(self._path.parent)
        _remove_stale(self._path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            try:
                listening.bind(str(self._path))
                self._path.chmod(0o600)
                listening.listen(64)
                if self._link is not None:
                    _point(self._link, self._path)
            except OSError as error:
                raise ConfigError(f"cannot make the control socket {self._path}: {error.strerror}") from error
            try:
                yield listening
            finally:
                self._path.unlink(missing_ok=True)
                if self._link is not None:
                    self._link.unlink(missing_ok=True)


class _Connection:
    """One client: a reader, a writer, and a task for each call."""

    def __init__(self, stream: trio.SocketStream, handlers: Handlers, settled: trio.lowlevel.ParkingLot) -> None:
        self.owed = 0
        """Answers not yet written."""
        self._stream = stream
        self._handlers = handlers
        self._settled = settled
        self._queue, self._queued = trio.open_memory_channel[tuple[bytes, bool]](QUEUE_LINES)
        self._scope = trio.CancelScope()
        self._streams: set[trio.CancelScope] = set()

    async def run(self) -> None:
        """Until the other end closes and its calls are answered, or it is dropped."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                async with trio.open_nursery() as calls:
                    await self._read(calls)
                    for scope in self._streams:
                        scope.cancel()
                self._queue.close()

    async def _read(self, calls: trio.Nursery) -> None:
        lines = LineBuffer(MAX_LINE_BYTES)
        while received := await self._receive():
            try:
                for line in lines.feed(received):
                    await self._begin(decode_request(line), calls)
            except TooLong:
                sentence = f"a line of more than {MAX_LINE_BYTES} bytes: the connection is closed"
                await self._owe(error_line(None, failure(CallError(sentence))))
                return

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except trio.BrokenResourceError:
            return b""

    async def _begin(self, request: Request | Refusal, calls: trio.Nursery) -> None:
        if isinstance(request, Refusal):
            await self._owe(error_line(request.id, failure(request)))
            return
        if len(calls.child_tasks) >= MAX_CALLS:
            busy = Unavailable(f"{MAX_CALLS} calls are under way on this connection")
            await self._owe(error_line(request.id, failure(busy)))
            return
        self.owed += 1
        calls.start_soon(self._perform, request)

    async def _perform(self, request: Request) -> None:
        try:
            call = decode_call(request.method, bytes(request.params))
        except CallError as error:
            number = INVALID_PARAMS if request.method in CALLS else METHOD_NOT_FOUND
            await self._queue.send((error_line(request.id, failure(error, number)), True))
            return
        if call.stream:
            await self._events(request.id, call)
            return
        try:
            line = answer_line(request.id, await self._handlers.answer(call))
        except Exception as error:  # the boundary: a bug is answered and logged, and the daemon lives
            line = error_line(request.id, _failure(error, call))
        await self._queue.send((line, True))

    async def _events(self, id_: RequestId, call: Call[Any]) -> None:
        begun = False
        last = end_line(id_)
        with trio.CancelScope() as scope:
            self._streams.add(scope)
            try:
                async with self._handlers.watch(call) as events:
                    await self._queue.send((answer_line(id_, None), True))
                    begun = True
                    async for event in events:
                        self._offer(event_line(id_, event))
            except Exception as error:  # the boundary, as above
                reason = _failure(error, call)
                last = end_line(id_, reason) if begun else error_line(id_, reason)
            finally:
                self._streams.discard(scope)
        if not scope.cancelled_caught:
            await self._queue.send((last, not begun))
        elif not begun:
            self.owed -= 1

    def _offer(self, line: bytes) -> None:
        try:
            self._queue.send_nowait((line, False))
        except trio.WouldBlock:
            log.warning("a reader too slow for its events is dropped", waiting=QUEUE_LINES)
            self._scope.cancel()

    async def _owe(self, line: bytes) -> None:
        self.owed += 1
        await self._queue.send((line, True))

    async def _write(self) -> None:
        with suppress(trio.BrokenResourceError):
            async for line, is_answer in self._queued:
                await self._stream.send_all(line)
                self.owed -= is_answer
                self._settled.unpark_all()
            return
        self._scope.cancel()  # nobody reads any more


def _failure(error: Exception, call: Call[Any]) -> Any:
    if (known := blamed(error)) is not None:
        return failure(known)
    log.error("a call failed", call=call.name, exc_info=error)
    return bug(error)


def _remove_stale(path: Path) -> None:
    """Removes what a dead daemon left. Raises Unavailable where somebody answers."""
    if not path.is_socket():
        return  # nothing there; or a file, which bind refuses to replace
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise Unavailable(f"another daemon answers at {path}", hint="stop it first: primep2p daemon stop")


def _point(link: Path, target: Path) -> None:
    """Replaced whole: a client sees the old target or the new one."""
    link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
