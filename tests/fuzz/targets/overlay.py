"""services/peers/members: a stream of the overlay, from whoever opens one [N3]."""

from typing import get_args

import trio

from primep2p.core.effects import Event, Received
from primep2p.model.errors import PeerError
from primep2p.model.messages import Digest, OverlayMessage
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.peers.members import MAX_FRAME_BYTES, Overlay
from primep2p.wire.codec import decode, encode
from tests.fuzz.kit import ME, STRANGER, converse, framed, of_types, virtual
from tests.fuzz.mutation import parts
from tests.fuzz.surface import MAX_INPUT_BYTES, Shape, Surface

RUN = bytes(32)
SHAPE = Shape(framed=True)


def fuzz(data: bytes) -> None:
    """What is of this run reaches it, up to the first nonsense; then the stream is reset and its peer blamed, once."""
    got, blamed = virtual(_heard, data)
    expected: list[bytes] = []
    for payload in parts(data, SHAPE):
        try:
            message: OverlayMessage = decode(OverlayMessage, payload, limit=MAX_FRAME_BYTES)  # type: ignore[arg-type]
        except PeerError:
            assert blamed == [STRANGER]
            break
        if message.run == RUN:
            expected.append(encode(message))
    assert [encode(event.message) for event in got if isinstance(event, Received)] == expected
    assert all(event.sender == STRANGER for event in got if isinstance(event, Received))
    assert blamed in ([], [STRANGER])


async def _heard(data: bytes) -> tuple[list[Event], list[str]]:
    blamed: list[str] = []
    overlay = Overlay(
        MemoryNetwork().host(ME), blame=lambda peer, reason: blamed.append(peer), remember=lambda peer, addresses: None
    )
    inbox, events = trio.open_memory_channel[Event](MAX_INPUT_BYTES)
    await overlay.attach(RUN, inbox)
    assert await converse(overlay._listen, data) == b"", "nobody answers on the other's stream"
    assert not overlay._conversations
    inbox.close()
    return [event async for event in events], blamed


def corpus() -> list[bytes]:
    messages = of_types(get_args(OverlayMessage))
    own = encode(Digest(RUN, 1, (bytes(8),)))
    return [framed(*messages), *map(framed, messages), framed(own), framed(own, *messages, own)]


SURFACE = Surface(fuzz, corpus, SHAPE)
