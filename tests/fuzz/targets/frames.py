"""net/frames: a stream cut into frames, however it arrives [N2]."""

from collections.abc import Iterator

from primep2p.model.errors import PeerError, Unavailable
from primep2p.net.frames import Frames
from primep2p.net.host import Stream
from tests.fuzz.kit import converse, framed, records, virtual
from tests.fuzz.surface import Shape, Surface

LIMIT_BYTES = 1000


def fuzz(data: bytes) -> None:
    """What arrives is what a reading of the rule by hand gives, and no more."""
    expected, got = list(_by_hand(data)), virtual(_receive, data)
    assert got == expected


async def _receive(data: bytes) -> list[bytes | str]:
    got: list[bytes | str] = []

    async def read(stream: Stream) -> None:
        frames = Frames(stream, LIMIT_BYTES)
        try:
            while (payload := await frames.receive()) is not None:
                got.append(payload)
        except PeerError:
            got.append("too large")
        except Unavailable:
            got.append("cut short")
        await stream.reset()

    await converse(read, data)
    return got


def _by_hand(data: bytes) -> Iterator[bytes | str]:
    while data:
        size = int.from_bytes(data[:4], "big")
        if len(data) >= 4 and size > LIMIT_BYTES:
            yield "too large"
            return
        if len(data) < 4 + size:
            yield "cut short"
            return
        yield data[4 : 4 + size]
        data = data[4 + size :]


def corpus() -> list[bytes]:
    return [framed(), framed(b""), framed(*records()), framed(bytes(LIMIT_BYTES), b"x"), framed(bytes(LIMIT_BYTES + 1))]


SURFACE = Surface(fuzz, corpus, Shape(framed=True))
