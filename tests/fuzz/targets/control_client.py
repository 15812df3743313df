"""control/async_client and client: what a socket's other end answers, daemon or not."""

import socket
import threading
from pathlib import Path
from typing import Any

import anyio
import trio
import trio.testing
from anyio.abc import ByteStream
from trio.testing import memory_stream_pair

from primep2p.control.async_client import Client
from primep2p.control.calls import CALLS
from primep2p.control.calls.call import Call
from primep2p.control.calls.events import EventsWatch
from primep2p.control.client import BlockingClient
from primep2p.control.jsonrpc import ErrorObject, answer_line, end_line, error_line, event_line
from primep2p.control.place import link_path
from primep2p.model.errors import PrimeError
from primep2p.model.views.events import StepChanged
from tests.control.fake_node import RUN, FakeNode
from tests.fuzz.kit import home, virtual
from tests.fuzz.surface import Shape, Surface

ASKED: tuple[type[Call[Any]], ...] = tuple(call for call in CALLS.values() if not call.__struct_fields__)
"""Calls without params, as many as there are."""


def fuzz(data: bytes) -> None:
    """Answers of the declared type, or an error for people; from the async client and the blocking one."""
    virtual(_all_at_once, data)
    _one_by_one(data)


class Near(ByteStream):
    """The client's end of a pair in memory."""

    def __init__(self, stream: trio.StapledStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        received = await self._stream.receive_some(max_bytes)
        if not received:
            raise anyio.EndOfStream
        return bytes(received)

    async def send(self, item: bytes) -> None:
        try:
            await self._stream.send_all(item)
        except trio.BrokenResourceError as error:
            raise anyio.BrokenResourceError from error

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _all_at_once(data: bytes) -> None:
    here, there = memory_stream_pair()
    client = Client(Near(here))

    async def ask(call: Call[Any]) -> None:
        try:
            await client.call(call)
        except PrimeError:
            return

    async def watch() -> None:
        try:
            async with client.stream(EventsWatch()) as events:
                async for _ in events:
                    pass
        except PrimeError:
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        nursery.start_soon(watch)
        for call in ASKED:  # each asks before the next, so that an input always gives the same
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, call())
        await trio.testing.wait_all_tasks_blocked()
        await there.send_all(data)
        await there.aclose()


def _one_by_one(data: bytes) -> None:
    """Over a real socket, since it has no other seam."""
    path = link_path(home())
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)
        daemon = threading.Thread(target=_answer, args=(listening, data))
        daemon.start()
        try:
            with BlockingClient(home()) as client:
                for _ in client.stream(EventsWatch()):
                    pass
        except PrimeError:
            pass
        finally:
            daemon.join()


def _answer(listening: socket.socket, data: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(2**16)
        try:
            connection.sendall(data)
        except OSError:
            return  # it has heard enough


def corpus() -> list[bytes]:
    node = FakeNode(Path("/home"))
    event = StepChanged(run=RUN, round=1, view=0, step="collect")
    numbers = range(1, len(ASKED) + 2)
    results = (node.status(), node.runs(), node.peers(), None, {"pid": 1})
    answers = [b"".join(answer_line(number, result) for number in numbers) for result in results]
    stream = answer_line(1, None) + event_line(1, event) + end_line(1)
    failed = error_line(1, ErrorObject(-32000, "no")) + error_line(None, ErrorObject(-32700, "no JSON"))
    return [*answers, stream, failed, answer_line(1, None) + end_line(1, ErrorObject(-32603, "bug"))]


EXAMPLES = (
    b"".join(
        b'{"jsonrpc":"2.0","id":%d,"result":{"peer_id":"\xea"}}\n' % number for number in range(1, len(ASKED) + 2)
    ),
)
"""Text that is no UTF-8, in what is read only once its call is known."""

SURFACE = Surface(fuzz, corpus, Shape(json=True), examples=EXAMPLES, examples_per_test=40)
