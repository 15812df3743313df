"""wire/manifest and wire/cid: a manifest under the CID of its own bytes, and any text as a CID [B1, E5]."""

from primep2p.model.errors import PeerError
from primep2p.model.records import Manifest
from primep2p.wire.cid import cid_digest, cid_of
from primep2p.wire.codec import encode
from primep2p.wire.manifest import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    check_chunk,
    chunk_size,
    manifest_of,
    manifest_room,
    open_manifest,
)
from tests.fuzz.kit import of_types
from tests.fuzz.surface import Surface
from tests.wire.golden import CID

CONTENTS = (b"", b"golden", bytes(CHUNK_BYTES), bytes(CHUNK_BYTES + 17))


def fuzz(data: bytes) -> None:
    """One content has one manifest, and one hash one CID."""
    _as_cid(data)
    cid = cid_of(data)
    try:
        manifest = open_manifest(cid, data)
    except PeerError:
        return
    assert encode(manifest) == data
    assert manifest.size_bytes <= MAX_BLOB_BYTES
    assert len(data) <= manifest_room(manifest.size_bytes)
    assert sum(chunk_size(manifest, index) for index in range(len(manifest.chunks))) == manifest.size_bytes
    for index in (-1, 0, len(manifest.chunks) - 1, len(manifest.chunks)):
        try:
            check_chunk(manifest, index, data)
        except PeerError:
            continue
        assert manifest_of([data]) == manifest


def _as_cid(data: bytes) -> None:
    text = data[:80].decode(errors="replace")
    try:
        found = cid_digest(text)
    except PeerError:
        return
    assert len(found) == 32
    assert text.startswith("bafkrei")
    assert len(text) == 59


def corpus() -> list[bytes]:
    manifests = [encode(manifest_of(_cut(content))) for content in CONTENTS]
    return [*manifests, *of_types((Manifest,)), CID.encode()]


def _cut(content: bytes) -> list[bytes]:
    return [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]


SURFACE = Surface(fuzz, corpus, examples_per_test=150)
