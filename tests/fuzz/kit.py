"""What targets have in common: seeds, streams in memory with a stranger at the other end, a store, frames."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct
from trio.testing import MockClock

from primep2p.model.errors import Unavailable
from primep2p.net.host import Stream
from primep2p.net.memory_stream import MemoryStream, Way, stream_pair
from primep2p.store.db import Store, open_store
from primep2p.wire.codec import encode
from tests.fuzz.declared import samples
from tests.wire.golden import signed, unsigned
from tests.wire.samples import envelopes, identity

__all__ = [
    "ME",
    "STRANGER",
    "converse",
    "framed",
    "home",
    "inline",
    "of_types",
    "records",
    "sealed",
    "store",
    "virtual",
]

ME, STRANGER = identity(1).peer_id, identity(2).peer_id

PATIENCE_S = 1.0
"""Shorter than any deadline of the code."""

MEMORY = Path("/dev/shm")
"""Where a file costs no disk, if there is such a place."""


def records() -> list[bytes]:
    """Every golden record, as bytes."""
    return [encode(record) for record in (*signed().values(), *unsigned().values())]


def sealed() -> list[bytes]:
    """Every golden record that is signed, in its envelope."""
    return [envelopes().seal(record).raw for record in signed().values()]


def of_types(types: tuple[type[Struct], ...]) -> list[bytes]:
    """What is declared, as bytes."""
    return [encode(sample) for type_ in types for sample in samples(type_)]


def framed(*payloads: bytes) -> bytes:
    """What travels on a stream."""
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def virtual(main: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Runs `main` in virtual time: what waits for a deadline waits for nothing."""
    return trio.run(main, *arguments, clock=MockClock(autojump_threshold=0))


async def inline(function: Callable[..., Any], *arguments: Any) -> Any:
    """A worker thread's work done here: threads and virtual time do not go together."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


AT_ONCE = Way(trio.current_time, lambda _, call: call())


async def converse(handler: Callable[[Stream], Awaitable[None]], said: bytes) -> bytes:
    """What `handler` answers on a stream to a stranger who says that, waits and closes. In virtual time the wait ends
    when nothing else happens any more."""
    near, far = stream_pair((ME, STRANGER), (AT_ONCE, AT_ONCE), set())
    answered, at_end = bytearray(), trio.Event()

    async def listen() -> None:
        try:
            while piece := await far.read(2**16):
                answered.extend(piece)
        except Unavailable:
            pass  # it was reset
        at_end.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say, far, said)
        nursery.start_soon(listen)
        await handler(near)
        await near.close()
        await at_end.wait()
        nursery.cancel_scope.cancel()
    return bytes(answered)


async def _say(stream: MemoryStream, said: bytes) -> None:
    try:
        await stream.write(said)
        await trio.sleep(PATIENCE_S)
        await stream.close()
    except Unavailable:
        return


@cache
def home() -> Path:
    """A directory that is gone when the process ends."""
    where = tempfile.mkdtemp(prefix="primep2p-fuzz-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    atexit.register(shutil.rmtree, where, ignore_errors=True)
    return Path(where)


@cache
def store(of: str) -> Store:
    """A target's own, for all its inputs in a process: what an input puts in is taken out again."""
    opened = open_store(home() / of)
    atexit.register(opened.close)
    return opened
