"""wire/codec: any record or message, of any type that travels [E3]."""

from primep2p.model.errors import PeerError
from primep2p.wire.codec import decode, encode
from tests.fuzz.kit import of_types, records
from tests.fuzz.surface import Surface
from tests.wire.samples import EVERY_TYPE, MESSAGES, RECORDS


def fuzz(data: bytes) -> None:
    """What decodes is encoded in one way, and that way decodes to it."""
    for type_ in EVERY_TYPE:
        try:
            record = decode(type_, data)
        except PeerError:
            continue
        raw = encode(record)
        assert encode(decode(type_, raw)) == raw, type_


def corpus() -> list[bytes]:
    return records() + of_types((*RECORDS, *MESSAGES))


SURFACE = Surface(fuzz, corpus, examples_per_test=150)
