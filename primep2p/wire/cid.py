"""Content ids: CIDv1, raw, sha2-256 of a manifest's bytes, in base32 [B1]."""

from base64 import b32decode, b32encode
from hashlib import sha256

from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, Hash

__all__ = ["cid_digest", "cid_of"]

# Version 1, the raw codec, then a multihash: sha2-256 and its length.
_PREFIX = bytes([0x01, 0x55, 0x12, 0x20])
_MULTIBASE = "b"
_PADDING = "======"  # 36 bytes are 58 digits; base32 fills up to 64


def cid_of(manifest: bytes) -> Cid:
    """The CID of the blob that `manifest` (a Manifest's exact bytes) describes."""
    return _MULTIBASE + b32encode(_PREFIX + sha256(manifest).digest()).decode().rstrip("=").lower()


def cid_digest(cid: Cid) -> Hash:
    """The sha-256 inside `cid`. Raises PeerError unless `cid` is the one way to write a CID of ours."""
    try:
        raw = b32decode(cid[1:].upper() + _PADDING)
    except ValueError as error:
        raise PeerError(f"{cid!r} is not a CID") from error
    # Spelled back: base32 leaves two spare bits at the end, and a blob must not have four names.
    spelled = _MULTIBASE + b32encode(raw).decode().rstrip("=").lower()
    if len(raw) != len(_PREFIX) + 32 or not raw.startswith(_PREFIX) or spelled != cid:
        raise PeerError(f"{cid!r} is not a CID of a manifest")
    return raw[len(_PREFIX) :]
