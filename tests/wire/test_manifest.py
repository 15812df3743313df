from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.model.errors import PeerError
from primep2p.model.records import MAX_CHUNKS, Manifest
from primep2p.wire.cid import cid_digest, cid_of
from primep2p.wire.codec import encode
from primep2p.wire.manifest import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    MAX_MANIFEST_BYTES,
    check_chunk,
    chunk_size,
    manifest_of,
    manifest_room,
    open_manifest,
)


def cut(content: bytes) -> list[bytes]:
    return [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]


def test_a_cid_is_spelled_digit_by_digit() -> None:
    bits = "".join(f"{byte:08b}" for byte in b"\x01\x55\x12\x20" + sha256(b"hello world").digest()) + "00"
    digits = [int(bits[start : start + 5], 2) for start in range(0, len(bits), 5)]
    assert cid_of(b"hello world") == "b" + "".join("abcdefghijklmnopqrstuvwxyz234567"[digit] for digit in digits)


@given(st.binary(max_size=64))
def test_a_cid_gives_back_the_digest(manifest: bytes) -> None:
    cid = cid_of(manifest)
    assert len(cid) == 59
    assert cid_digest(cid) == sha256(manifest).digest()


@pytest.mark.parametrize("spoil", [str.upper, lambda cid: cid[:-1], lambda cid: cid + "a", lambda cid: "z" + cid[1:]])
def test_a_cid_has_one_spelling(spoil) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PeerError):
        cid_digest(spoil(cid_of(b"x")))


def test_the_spare_bits_of_a_cid_are_zero() -> None:
    cid = cid_of(b"x")
    others = [cid[:-1] + last for last in "abcdefghijklmnopqrstuvwxyz234567" if last != cid[-1]]
    for other in others:
        with suppress(PeerError):
            assert cid_digest(other) != cid_digest(cid)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_manifest_describes_every_byte(size: int) -> None:
    content = bytes(size)
    raw = encode(manifest_of(cut(content)))
    manifest = open_manifest(cid_of(raw), raw)
    assert sum(chunk_size(manifest, index) for index in range(len(manifest.chunks))) == size
    for index, chunk in enumerate(cut(content)):
        check_chunk(manifest, index, chunk)
    assert len(raw) <= manifest_room(size)


def test_the_largest_manifest_fits_its_limit() -> None:
    raw = encode(Manifest(MAX_BLOB_BYTES, CHUNK_BYTES, (b"\xff" * 32,) * MAX_CHUNKS))
    assert len(raw) <= MAX_MANIFEST_BYTES == manifest_room(MAX_BLOB_BYTES)
    assert len(open_manifest(cid_of(raw), raw).chunks) == MAX_CHUNKS


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest(CHUNK_BYTES, CHUNK_BYTES, ()),
        Manifest(CHUNK_BYTES + 1, CHUNK_BYTES, (bytes(32),)),
        Manifest(0, CHUNK_BYTES, (bytes(32),)),
        Manifest(10, 4096, (bytes(32),)),
        Manifest(2**62, CHUNK_BYTES, (bytes(32),)),
    ],
)
def test_a_manifest_that_no_content_has_is_refused(manifest: Manifest) -> None:
    raw = encode(manifest)
    with pytest.raises(PeerError):
        open_manifest(cid_of(raw), raw)


def test_a_manifest_spelled_otherwise_is_refused() -> None:
    raw = encode(manifest_of([b"x"]))
    assert raw[0] == 0x93  # an array of three
    longer = b"\x94" + raw[1:] + b"\xc0"  # with a field more
    with pytest.raises(PeerError):
        open_manifest(cid_of(longer), longer)


def test_a_manifest_of_another_cid_is_refused() -> None:
    raw = encode(manifest_of([b"x"]))
    with pytest.raises(PeerError):
        open_manifest(cid_of(b"y"), raw)


def test_a_wrong_chunk_is_refused() -> None:
    manifest = manifest_of([b"ab"])
    for index, chunk in [(0, b"ac"), (0, b"a"), (0, b"abc"), (1, b"ab"), (-1, b"ab")]:
        with pytest.raises(PeerError):
            check_chunk(manifest, index, chunk)


def test_short_chunks_in_the_middle_are_a_mistake() -> None:
    for chunks in ([b"a", b"b"], [b""], [bytes(CHUNK_BYTES + 1)]):
        with pytest.raises(ValueError):
            manifest_of(chunks)
