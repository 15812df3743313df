"""The control socket: accepts connections, finds out what each may do, and lets it ask.

At a Unix socket of the owner's own the kernel tells who is at the other end; at a TCP port of the loopback interface,
where the owner asks for one, clients show that they know a token.
"""

import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from primep2p.control.calls.call import Access, Handlers
from primep2p.control.connection import Connection
from primep2p.control.jsonrpc import (
    INVALID_REQUEST,
    LineBuffer,
    Refusal,
    TooLong,
    answer_line,
    decode_params,
    decode_request,
    error_line,
    failure,
    notice_line,
)
from primep2p.control.place import peer_uid, prepare_directory
from primep2p.control.tokens import NONCE_BYTES, Challenge, Proof, Tokens, accepts
from primep2p.model.errors import CallError, ConfigError, Unavailable
from primep2p.tasks import TaskStatus

__all__ = ["MAX_CONNECTIONS", "MAX_KNOCKS", "ControlServer", "TcpDoor"]

MAX_CONNECTIONS = 128
"""Of each kind. Descriptors are few, and peers need them too."""

KNOCK_S = 10.0
MAX_KNOCKS = 64
"""Who has not proved anything yet: anybody on this machine, and as many as they like. For one more the oldest goes, as
who knows a token is done in a moment."""

MAX_KNOCK_BYTES = 1024
"""For and of the one line by which a client shows that it knows a token."""

log = structlog.get_logger("primep2p.control")


@dataclass(frozen=True)
class TcpDoor:
    """A port of the loopback interface, and the tokens that open it."""

    host: str
    port: int
    tokens: Tokens
    knock_s: float = KNOCK_S


class ControlServer:
    """Serves `handlers` at `path`, with a symlink at `link`, and behind `door`. Listens from the start of `run` until
    it is cancelled. `uid_of` is the seam to the kernel: the user at the other end of a connection.
    """

    def __init__(
        self,
        path: Path,
        handlers: Handlers,
        *,
        link: Path | None = None,
        uid_of: Callable[[trio.socket.SocketType], int] = peer_uid,
        door: TcpDoor | None = None,
    ) -> None:
        self.port = 0
        """Of the TCP door, once it listens."""
        self._path = path
        self._link = link if link != path else None
        self._handlers = handlers
        self._uid_of = uid_of
        self._door = door
        self._connections: set[Connection] = set()
        self._knocks: dict[trio.CancelScope, None] = {}  # the oldest first
        self._settled = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Raises ConfigError where a socket cannot be made."""
        with self._unix_listener() as unix:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._accept, unix, self._owner)
                if self._door is not None:
                    with _tcp_listener(self._door) as tcp:
                        self.port = tcp.getsockname()[1]
                        await nursery.start(self._accept, tcp, partial(self._bearer, self._door))
                        task_status.started()
                        await trio.sleep_forever()
                task_status.started()

    async def idle(self) -> None:
        """Returns when every call so far has its answer on the way: what `stop` waits for before it cancels `run`."""
        while any(connection.owed for connection in self._connections):
            await self._settled.park()

    async def _accept(
        self,
        listening: socket.socket,
        admit: Callable[[trio.socket.SocketType], Awaitable[Access | None]],
        *,
        task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        listener = trio.socket.from_stdlib_socket(listening)
        places = trio.Semaphore(MAX_CONNECTIONS)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await places.acquire()  # whoever comes then waits in the kernel's queue
                try:
                    connection, _ = await listener.accept()
                except OSError as error:  # out of descriptors: those who are connected go on
                    places.release()
                    log.warning("no connection accepted", reason=error.strerror)
                    await trio.sleep(0.1)
                    continue
                nursery.start_soon(self._serve, connection, admit, places)

    async def _serve(
        self,
        accepted: trio.socket.SocketType,
        admit: Callable[[trio.socket.SocketType], Awaitable[Access | None]],
        places: trio.Semaphore,
    ) -> None:
        try:
            with accepted:
                if (access := await admit(accepted)) is None:
                    return
                connection = Connection(trio.SocketStream(accepted), self._handlers, self._settled, access)
                self._connections.add(connection)
                try:
                    await connection.run()
                finally:
                    self._connections.discard(connection)
                    self._settled.unpark_all()
        finally:
            places.release()

    async def _owner(self, accepted: trio.socket.SocketType) -> Access | None:
        """Of a Unix socket: this user, or the one who may everything anyway."""
        try:
            uid = self._uid_of(accepted)
        except OSError:  # on macOS nobody is known of a connection whose other end has gone
            return None
        if uid in (os.getuid(), 0):
            return "write"
        log.warning("connection of another user refused", uid=uid)
        return None

    async def _bearer(self, door: TcpDoor, accepted: trio.socket.SocketType) -> Access | None:
        """Of the TCP door: whoever proves to know a token, with the first line and in time."""
        stream = trio.SocketStream(accepted)
        challenge = Challenge(secrets.token_hex(NONCE_BYTES))
        if len(self._knocks) >= MAX_KNOCKS:
            oldest = next(iter(self._knocks))
            del self._knocks[oldest]
            oldest.cancel()
        with trio.move_on_after(door.knock_s) as scope:
            self._knocks[scope] = None
            try:
                await stream.send_all(notice_line("challenge", challenge))
                return await self._knock(stream, door.tokens, challenge)
            except trio.BrokenResourceError:
                return None
            finally:
                self._knocks.pop(scope, None)
        return None

    async def _knock(self, stream: trio.SocketStream, tokens: Tokens, challenge: Challenge) -> Access | None:
        line = await _first_line(stream)
        request = Refusal(None, INVALID_REQUEST, "this is no proof") if line is None else decode_request(line)
        if isinstance(request, Refusal):
            await stream.send_all(error_line(request.id, failure(request)))
            return None
        proof = decode_params(Proof, request) if request.method == "authenticate" else None
        proven = accepts(tokens, challenge, proof, self.port) if proof is not None else None
        if proven is None:
            log.warning("a client on the TCP door knows no token")
            refusal = CallError("this proves no token", hint="see docs/control.md: the TCP door")
            await stream.send_all(error_line(request.id, failure(refusal)))
            return None
        await stream.send_all(answer_line(request.id, proven))
        return proven.access

    @contextmanager
    def _unix_listener(self) -> Iterator[socket.socket]:
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


async def _first_line(stream: trio.SocketStream) -> bytes | None:
    """None where it is too long, or the other end has gone. A client sends no more before it has the answer."""
    lines = LineBuffer(MAX_KNOCK_BYTES)
    while received := await stream.receive_some(MAX_KNOCK_BYTES):
        try:
            if found := lines.feed(bytes(received)):
                return found[0] if len(found) == 1 and not lines.pending else None
        except TooLong:
            return None
    return None


@contextmanager
def _tcp_listener(door: TcpDoor) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((door.host, door.port))
            listening.listen(64)
        except OSError as error:
            said = f"control.tcp: cannot listen on {door.host} port {door.port}: {error.strerror}"
            raise ConfigError(said, hint="choose another port, or end what listens there") from error
        yield listening


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
