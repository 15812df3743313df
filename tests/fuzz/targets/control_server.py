"""control/jsonrpc and server: lines from whoever may open the socket."""

from collections import Counter
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from primep2p.control.calls import CALLS
from primep2p.control.connection import Connection
from primep2p.control.handlers import NodeHandlers
from primep2p.control.jsonrpc import INTERNAL, Refusal, Request, decode_message, decode_request, request_line
from tests.control.fake_node import RUN, FakeNode
from tests.fuzz.kit import virtual
from tests.fuzz.surface import Shape, Surface


def fuzz(data: bytes) -> None:
    """Each line has one answer, which a client can read, and none is a bug's."""
    if b"slow" in data or b'"bug"' in data:
        return  # the stand-in for a node waits or fails on purpose for these
    requests = [decode_request(line) for line in data.split(b"\n")[:-1] if line.strip()]
    answered = virtual(_said, data)
    messages = [decode_message(line) for line in answered.splitlines()]
    answers = [message for message in messages if not message.method]
    assert not any(getattr(message.error, "code", 0) == INTERNAL for message in answers)
    assert Counter(message.id for message in answers) == Counter(request.id for request in requests)
    for request in requests:
        assert isinstance(request, Request | Refusal)


async def _said(data: bytes) -> bytes:
    here, there = memory_stream_pair()
    answered = bytearray()
    stream: Any = here
    connection = Connection(stream, NodeHandlers(FakeNode(Path("/home"))), trio.lowlevel.ParkingLot(), "write")

    async def listen() -> None:
        async for piece in there:
            answered.extend(piece)

    async def serve() -> None:
        await connection.run()
        await here.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        nursery.start_soon(serve)
        await there.send_all(data)
        await trio.sleep(1)
        await there.send_stream.aclose()
    assert connection.owed == 0
    return bytes(answered)


def corpus() -> list[bytes]:
    """Every call there is, with params that fit some of them."""
    pin = f"{RUN}@2:{'cd' * 32}"
    config = {"name": "digits", "trainer": "mlp", "trainer_config": {"epochs": 2, "layers": [1, 2]}}
    params: tuple[dict[str, Any], ...] = ({}, {"run": RUN}, {"run": pin}, {"run": RUN, "round": 2}, {"config": config})
    lines = [request_line(number, name, each) for number, each in enumerate(params) for name in CALLS]
    return [*lines, b"".join(lines[:60]), b'{"jsonrpc":"2.0","method":"x","id":"y"}\n\n[]\n']


SURFACE = Surface(fuzz, corpus, Shape(json=True), examples_per_test=50)
