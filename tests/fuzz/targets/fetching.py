"""services/blobs/transfer: what a provider answers, for a CID that a liar may have made up too [T1, T3]."""

from typing import get_args

import trio

from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.ids import Cid
from primep2p.model.transfer import BlobAnswer, Chunk, Has, Refused
from primep2p.net.host import Stream
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.blobs.transfer import PROTOCOL, Transfer
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import decode, encode
from primep2p.wire.manifest import manifest_of
from tests.fuzz.kit import ME, STRANGER, framed, inline, of_types, store, virtual
from tests.fuzz.mutation import parts
from tests.fuzz.surface import Shape, Surface

CONTENT = b"what was asked for"
MANIFEST = encode(manifest_of([CONTENT]))
MAX_BYTES = 2**22
SHAPE = Shape(framed=True)


def fuzz(data: bytes) -> None:
    """What comes of it is the blob or Unavailable, and nobody but the provider is blamed."""
    cid = _named(data)
    try:
        virtual(_fetch, cid, data)
    except Unavailable:
        assert not store("fetching").blobs.has(cid)
    else:
        assert store("fetching").blobs.verify(cid)
        assert store("fetching").blobs.path(cid).stat().st_size <= MAX_BYTES
    finally:
        store("fetching").blobs.remove(cid)


def _named(data: bytes) -> Cid:
    """The provider may have told the run of a CID of its own making: that of the first manifest it gives."""
    for raw in parts(data, SHAPE)[:1]:
        try:
            return cid_of(decode(Has, raw).manifest)
        except PeerError:
            break
    return cid_of(MANIFEST)


async def _fetch(cid: Cid, data: bytes) -> None:
    network = MemoryNetwork()
    here, there = network.host(ME), network.host(STRANGER)
    blamed: list[str] = []
    transfer = Transfer(here, store("fetching").blobs, blame=lambda peer, reason: blamed.append(peer), offload=inline)

    async def answer(stream: Stream) -> None:
        await stream.read(2**16)  # the first question, whatever it is
        await stream.write(data)

    there.handle(PROTOCOL, answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(here.run)
        await nursery.start(there.run)
        await nursery.start(transfer.run)
        await here.connect(STRANGER)
        outcome: Unavailable | None = None
        try:
            await transfer.fetch(cid, [STRANGER], max_bytes=MAX_BYTES)
        except Unavailable as error:
            outcome = error
        nursery.cancel_scope.cancel()
    assert set(blamed) <= {STRANGER}
    if outcome is not None:
        raise outcome


def corpus() -> list[bytes]:
    honest = (encode(Has(MANIFEST)), encode(Chunk(0, CONTENT)))
    empty = encode(Has(encode(manifest_of([]))))
    far = encode(Has(encode(manifest_of([bytes(2**20), b"rest"]))))
    answers = of_types(get_args(BlobAnswer))
    refused = encode(Refused("absent"))
    return [
        framed(*honest),
        framed(empty),
        framed(far, honest[1]),
        framed(refused),
        framed(honest[0], refused),
        framed(*answers),
    ]


SURFACE = Surface(fuzz, corpus, SHAPE, examples_per_test=40)
