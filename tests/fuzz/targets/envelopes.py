"""wire/envelope: what is peeked at, read and verified [E1, E2]."""

from hashlib import sha256

from primep2p.model.errors import PeerError
from primep2p.wire.codec import encode
from primep2p.wire.envelope import KINDS
from tests.fuzz.kit import of_types, sealed
from tests.fuzz.surface import Surface
from tests.wire.samples import envelopes

READER = envelopes(number=9)
SIGNERS = {sealer.peer_id: sealer for sealer in (envelopes(number=number) for number in range(4))}


def fuzz(data: bytes) -> None:
    """What is verified is what was signed: sealed anew by its signer, it opens to the same record."""
    try:
        peeked = READER.peek(data)
    except PeerError:
        return
    assert peeked.kind in KINDS
    assert peeked.hash == sha256(peeked.covered).digest()
    try:
        claimed = READER.read(peeked)
    except PeerError:
        claimed = None
    try:
        opened = READER.verify(peeked)
    except PeerError:
        return
    assert isinstance(opened.record, KINDS[peeked.kind])
    assert claimed is not None
    assert encode(claimed) == encode(opened.record)
    assert opened.signer in SIGNERS, "a signature in the name of somebody whose key nobody has here"
    again = READER.open_any(SIGNERS[opened.signer].seal(opened.record).raw)
    assert encode(again.record) == encode(opened.record)


def corpus() -> list[bytes]:
    return sealed() + [SIGNERS[peer].seal(_decoded(kind, raw)).raw for peer in SIGNERS for kind, raw in _payloads()]


def _payloads() -> list[tuple[str, bytes]]:
    return [(kind, raw) for kind, type_ in KINDS.items() for raw in of_types((type_,))]


def _decoded(kind: str, raw: bytes):  # type: ignore[no-untyped-def]
    from primep2p.wire.codec import decode

    return decode(KINDS[kind], raw)


SURFACE = Surface(fuzz, corpus, signers=SIGNERS, examples_per_test=150)
