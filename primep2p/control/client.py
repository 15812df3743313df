"""The blocking client of the control socket, for commands and scripts: plain sockets, quick to import."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import msgspec

from primep2p.control.calls.call import Call, answer_type
from primep2p.control.door import KNOCK_S, Door
from primep2p.control.jsonrpc import (
    MAX_ANSWER_BYTES,
    End,
    EventNotice,
    LineBuffer,
    Message,
    TooLong,
    decode_message,
    failure_error,
    request_line,
)
from primep2p.control.place import find_socket, no_daemon, peer_uid
from primep2p.model.errors import CallError, Unavailable
from primep2p.strict import plain

__all__ = ["BlockingClient", "decode_answer"]

A = TypeVar("A")


class BlockingClient:
    """A connection to the daemon of `home`. One call at a time; a stream takes the connection for itself."""

    def __init__(self, home: Path, options: str = "", env: Mapping[str, str] = os.environ) -> None:
        """Raises Unavailable where no daemon runs, with the `options` by which a command names this node. Where `env`
        names a TCP door, that is used and `home` is not."""
        self._lines = LineBuffer(MAX_ANSWER_BYTES)
        self._waiting: list[Message] = []
        self._calls = 0
        door = Door.named(env)
        self._whose = f"at {door}" if door else f"for {home}"
        self._socket = _unix_socket(home, options) if door is None else _tcp_socket(door)
        if door is not None:
            try:
                self._knock(door)
            except BaseException:
                self._socket.close()
                raise

    def _knock(self, door: Door) -> None:
        deadline = time.monotonic() + KNOCK_S
        self._send(door.knock(self._next(deadline)), KNOCK_S)
        door.check(self._next(deadline))

    def call(self, call: Call[A]) -> A:
        """The daemon's answer. Raises what the daemon refuses with, and Unavailable where it does not answer."""
        answer = self._ask(call)
        return cast(A, decode_answer(answer_type(type(call)), answer))

    def stream(self, call: Call[A]) -> Iterator[A]:
        """Events until the stream ends; subscribed when this returns. Raises Unavailable when the daemon goes."""
        self._ask(call)
        return self._events(self._calls, answer_type(type(call)))

    def close(self) -> None:
        """Ends what is under way."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[Any]) -> bytes:
        self._calls += 1
        deadline = time.monotonic() + call.deadline_s
        self._send(request_line(self._calls, call.name, plain(call)), call.deadline_s)
        while (message := self._next(deadline)).id != self._calls:
            if message.id is None and not isinstance(message.error, msgspec.UnsetType):
                raise failure_error(message.error)  # about a line that the daemon could not read
        if not isinstance(message.error, msgspec.UnsetType):
            raise failure_error(message.error)
        return b"null" if isinstance(message.result, msgspec.UnsetType) else bytes(message.result)

    def _send(self, line: bytes, deadline_s: float) -> None:
        try:
            self._socket.settimeout(deadline_s)
            self._socket.sendall(line)
        except OSError as error:
            raise self._gone() from error

    def _events(self, id_: int, type_: Any) -> Iterator[Any]:
        while True:
            message = self._next(None)
            if message.method == "event":
                notice = decode_answer(EventNotice, bytes(message.params))
                if notice.id == id_:
                    yield decode_answer(type_, bytes(notice.event))
            elif message.method == "end":
                end = decode_answer(End, bytes(message.params))
                if end.id == id_ and end.error is not None:
                    raise failure_error(end.error)
                if end.id == id_:
                    return

    def _next(self, deadline: float | None) -> Message:
        while not self._waiting:
            try:
                self._socket.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                received = self._socket.recv(65_536)
                self._waiting += [decode_message(line) for line in self._lines.feed(received)]
            except TimeoutError as error:
                raise Unavailable("the daemon does not answer in time", hint="see: primep2p daemon logs") from error
            except TooLong as error:
                raise CallError("the daemon's answer is too long") from error
            except OSError as error:
                raise self._gone() from error
            if not received:
                raise self._gone()
        return self._waiting.pop(0)

    def _gone(self) -> Unavailable:
        return Unavailable(f"the daemon {self._whose} closed the connection", hint="see: primep2p daemon logs")


def _unix_socket(home: Path, options: str) -> socket.socket:
    path = find_socket(home, options)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.connect(str(path))
        owner = peer_uid(connected)
    except OSError as error:
        connected.close()
        raise no_daemon(home, options) from error
    if owner not in (os.getuid(), home.stat().st_uid):
        connected.close()
        raise Unavailable(f"the socket {path} is served by another user (uid {owner})")
    return connected


def _tcp_socket(door: Door) -> socket.socket:
    try:
        return socket.create_connection((door.host, door.port), timeout=KNOCK_S)
    except OSError as error:
        raise door.closed() from error


def decode_answer(type_: Any, raw: bytes) -> Any:
    """The answer in `raw`. Raises Unavailable where the daemon speaks another version."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"the daemon's answer cannot be read: {error}",
            hint="it may be of another version: restart it with primep2p daemon stop and start",
        ) from error
