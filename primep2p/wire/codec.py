"""Records to bytes and back: msgpack arrays, strict types, a limit before any decoding."""

from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar, cast

import msgspec

from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash

__all__ = ["MAX_RECORD_BYTES", "decode", "digest", "encode"]

MAX_RECORD_BYTES = 4 * 2**20
"""Larger than a bundle of 16 lists of 4,096 updates ever needs to be; tensors never travel in records."""

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """The bytes of a record. One value has one encoding: two nodes that compute a record agree on its hash."""
    return _encoder.encode(record)


def decode(type_: type[T], raw: bytes, *, limit: int = MAX_RECORD_BYTES) -> T:
    """The record in `raw`. Raises PeerError where it is malformed, of another type or larger than `limit`."""
    if len(raw) > limit:
        raise PeerError(f"a record of {len(raw)} bytes, more than the {limit} allowed")
    try:
        return cast(T, _decoder(cast(Any, type_)).decode(raw))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PeerError(f"malformed {getattr(type_, '__name__', 'record')}: {error}") from error


def digest(domain: str, raw: bytes) -> Hash:
    """sha-256 of `raw` in a domain: hashes of different things never collide [E2]."""
    return sha256(b"primep2p/" + domain.encode() + b"\0" + raw).digest()


@lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_, strict=True)
