"""The async client of the control socket, under asyncio and trio: many calls and streams at a time over one
connection."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import anyio
import msgspec
from anyio.abc import ByteStream, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from primep2p.control.calls.call import Call, answer_type
from primep2p.control.client import decode_answer
from primep2p.control.door import KNOCK_S, Door
from primep2p.control.jsonrpc import (
    MAX_ANSWER_BYTES,
    End,
    EventNotice,
    LineBuffer,
    Message,
    RequestId,
    TooLong,
    decode_message,
    failure_error,
    request_line,
)
from primep2p.control.place import find_socket, no_daemon
from primep2p.model.errors import PrimeError, Unavailable
from primep2p.strict import plain

__all__ = ["Client"]

A = TypeVar("A")

MOST_WAITING = 1024
"""Events of a stream that wait to be read: the daemon keeps many more, for who comes back."""

READ_BYTES = 65_536


class Client:
    """Calls over a connection that `run` reads and writes. From `open`."""

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path, env: Mapping[str, str] = os.environ) -> AsyncIterator[Self]:
        """A client of the daemon of `home` until the context is left. Raises Unavailable where no daemon runs, and
        whatever its body raises, as it is. Where `env` names a TCP door, that is used and `home` is not."""
        door = Door.named(env)
        stream = await _unix_stream(home) if door is None else await _tcp_stream(door)
        client, failure = cls(stream), None
        async with stream, anyio.create_task_group() as group:
            client._background = group
            group.start_soon(client.run)
            try:
                yield client
            except Exception as error:  # raised below: the group would wrap it
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._background: TaskGroup | None = None
        """For what a client does beside what it is asked; lives as long as `open`."""
        self._outgoing, self._lines = anyio.create_memory_object_stream[bytes](0)
        self._calls = 0
        self._inboxes: dict[RequestId, MemoryObjectSendStream[Message]] = {}
        self._gone = False

    async def call(self, call: Call[A]) -> A:
        """The daemon's answer. Raises what the daemon refuses with, and Unavailable where it does not answer."""
        async with self._asked(call) as (answer, _):
            return cast(A, decode_answer(answer_type(type(call)), answer))

    @asynccontextmanager
    async def stream(self, call: Call[A]) -> AsyncIterator[AsyncIterator[A]]:
        """Events from when the context is entered; leaving it forgets what still comes. Raises Unavailable where the
        daemon goes, and where its reader falls too far behind."""
        async with self._asked(call) as (_, inbox):
            yield self._events(inbox, answer_type(type(call)))

    async def run(self) -> None:
        """Hands what arrives to whoever asked, until the daemon closes."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._write)
                await self._read()
                group.cancel_scope.cancel()
        finally:
            self._gone = True
            self._lines.close()
            self._outgoing.close()
            for inbox in self._inboxes.values():
                inbox.close()

    async def _read(self) -> None:
        lines = LineBuffer(MAX_ANSWER_BYTES)
        try:
            while True:
                for line in lines.feed(await self._stream.receive(READ_BYTES)):
                    self._hand_over(decode_message(line))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, TooLong, Unavailable):
            return  # as good as closed: each who waits is told by `run`

    async def _write(self) -> None:
        """Whole lines only, even where those who ask are cancelled in the middle."""
        try:
            async for line in self._lines:
                await self._stream.send(line)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._lines.close()  # what the daemon said before it went can still be read

    @asynccontextmanager
    async def _asked(self, call: Call[Any]) -> "AsyncIterator[tuple[bytes, MemoryObjectReceiveStream[Message]]]":
        self._calls += 1
        id_ = self._calls
        outbox, inbox = anyio.create_memory_object_stream[Message](MOST_WAITING)
        self._inboxes[id_] = outbox
        with outbox, inbox:
            try:
                with anyio.move_on_after(call.deadline_s) as waiting:
                    answer = await self._answer(id_, call, inbox)
                if waiting.cancelled_caught:
                    raise Unavailable("the daemon does not answer in time")
                yield answer, inbox
            finally:
                self._inboxes.pop(id_, None)

    async def _answer(self, id_: int, call: Call[Any], inbox: MemoryObjectReceiveStream[Message]) -> bytes:
        if self._gone:
            raise _closed()
        try:
            await self._outgoing.send(request_line(id_, call.name, plain(call)))
            message = await inbox.receive()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream) as error:
            raise _closed() from error
        if not isinstance(message.error, msgspec.UnsetType):
            raise failure_error(message.error)
        return b"null" if isinstance(message.result, msgspec.UnsetType) else bytes(message.result)

    async def _events(self, inbox: MemoryObjectReceiveStream[Message], type_: Any) -> AsyncIterator[Any]:
        async for message in inbox:
            if message.method == "event":
                yield decode_answer(type_, bytes(decode_answer(EventNotice, bytes(message.params)).event))
                continue
            error: End = decode_answer(End, bytes(message.params))
            if error.error is not None:
                raise failure_error(error.error)
            return
        raise (
            _closed()
            if self._gone
            else Unavailable(
                f"more than {MOST_WAITING} events were not read",
                hint="watch again, after the cursor of the last that was",
            )
        )

    def _hand_over(self, message: Message) -> None:
        id_ = message.id
        if message.method:
            id_ = cast(RequestId, decode_answer(_Addressed, bytes(message.params)).id)
        if id_ is not None and id_ in self._inboxes:
            try:
                self._inboxes[id_].send_nowait(message)
            except anyio.WouldBlock:  # the others on this connection do not wait for it
                self._inboxes.pop(id_).close()


async def _unix_stream(home: Path) -> ByteStream:
    try:
        return await anyio.connect_unix(str(find_socket(home)))
    except OSError as error:
        raise no_daemon(home) from error


async def _tcp_stream(door: Door) -> ByteStream:
    lines, said = LineBuffer(MAX_ANSWER_BYTES), list[bytes]()
    try:
        with anyio.fail_after(KNOCK_S):
            stream = await anyio.connect_tcp(door.host, door.port)
            try:
                for answers in (1, 2):
                    while len(said) < answers:
                        said += lines.feed(await stream.receive(READ_BYTES))
                    if answers == 1:
                        await stream.send(door.knock(decode_message(said[0])))
                door.check(decode_message(said[1]))
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except (OSError, TimeoutError, TooLong, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise door.closed() from error
    return stream


class _Addressed(msgspec.Struct):
    """What events and ends have in common."""

    id: RequestId


def _closed() -> PrimeError:
    return Unavailable("the daemon closed the connection")
