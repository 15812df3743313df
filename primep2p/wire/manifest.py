"""Manifests: what the bytes of a blob must be, chunk by chunk. One content has exactly one manifest [B1].

Chunks are of 1 MiB, the last one of what remains; the empty blob has none.
"""

from collections.abc import Iterable
from hashlib import sha256

from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid
from primep2p.model.records import MAX_CHUNKS, Manifest
from primep2p.wire.cid import cid_digest
from primep2p.wire.codec import decode, encode

__all__ = [
    "CHUNK_BYTES",
    "MAX_BLOB_BYTES",
    "MAX_MANIFEST_BYTES",
    "check_chunk",
    "chunk_size",
    "manifest_of",
    "manifest_room",
    "open_manifest",
]

CHUNK_BYTES = 2**20
"""Large enough that a hash and a frame cost little beside the bytes, small enough that a bad one costs little too."""

MAX_BLOB_BYTES = MAX_CHUNKS * CHUNK_BYTES
"""64 GiB."""

_HASH_BYTES = 34  # a hash in msgpack: two bytes, then 32
_REST_BYTES = 32  # the array around it and the two sizes take less


MAX_MANIFEST_BYTES = _REST_BYTES + _HASH_BYTES * MAX_CHUNKS
"""No manifest is longer: 2.1 MiB."""


def manifest_room(size_bytes: int) -> int:
    """No manifest of a blob of up to `size_bytes` takes more bytes than this."""
    return _REST_BYTES + _HASH_BYTES * min(MAX_CHUNKS, _chunk_count(size_bytes))


def manifest_of(chunks: Iterable[bytes | memoryview]) -> Manifest:
    """The manifest of a content that arrives in chunks, each of CHUNK_BYTES but the last, none empty.

    Raises ValueError where they are cut otherwise or are too many.
    """
    hashes: list[bytes] = []
    size_bytes = 0
    for chunk in chunks:
        if size_bytes % CHUNK_BYTES or not 0 < len(chunk) <= CHUNK_BYTES:
            raise ValueError("a content is cut into chunks of 1 MiB and a last one of what remains")
        if len(hashes) == MAX_CHUNKS:
            raise ValueError(f"a blob has at most {MAX_CHUNKS} chunks")
        hashes.append(sha256(chunk).digest())
        size_bytes += len(chunk)
    return Manifest(size_bytes, CHUNK_BYTES, tuple(hashes))


def open_manifest(cid: Cid, raw: bytes) -> Manifest:
    """The manifest that `cid` names, from its exact bytes. Raises PeerError for any other bytes, and for a manifest
    that no content has."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise PeerError(f"a manifest of {len(raw)} bytes, more than any blob's")
    if sha256(raw).digest() != cid_digest(cid):
        raise PeerError(f"these are not the bytes of the manifest of {cid}")
    manifest = decode(Manifest, raw)
    if manifest.chunk_bytes != CHUNK_BYTES:
        raise PeerError(f"the manifest of {cid} has chunks of {manifest.chunk_bytes} bytes, not of {CHUNK_BYTES}")
    if len(manifest.chunks) != _chunk_count(manifest.size_bytes):
        raise PeerError(f"the manifest of {cid} has {len(manifest.chunks)} chunks for {manifest.size_bytes} bytes")
    if encode(manifest) != raw:
        raise PeerError(f"the manifest of {cid} is spelled in a way that no content's manifest is")
    return manifest


def chunk_size(manifest: Manifest, index: int) -> int:
    """How many bytes chunk `index` has."""
    return min(manifest.chunk_bytes, manifest.size_bytes - index * manifest.chunk_bytes)


def check_chunk(manifest: Manifest, index: int, chunk: bytes | memoryview) -> None:
    """Raises PeerError unless `chunk` is the one that the manifest names at `index`."""
    if not 0 <= index < len(manifest.chunks):
        raise PeerError(f"chunk {index} of a blob of {len(manifest.chunks)} chunks")
    if len(chunk) != chunk_size(manifest, index):
        raise PeerError(f"chunk {index} has {len(chunk)} bytes, not {chunk_size(manifest, index)}")
    if sha256(chunk).digest() != manifest.chunks[index]:
        raise PeerError(f"chunk {index} has other bytes than its manifest says")


def _chunk_count(size_bytes: int) -> int:
    return -(-size_bytes // CHUNK_BYTES)
