"""The names of things: peers, blobs, hashes."""

from typing import Annotated

from msgspec import Meta

__all__ = ["NIL", "Cid", "Hash", "PeerId", "RunId", "Signature"]

PeerId = Annotated[str, Meta(min_length=52, max_length=52, pattern="^12D3KooW[1-9A-HJ-NP-Za-km-z]+\\Z")]
"""libp2p's peer id of an Ed25519 key, in base58: the public key itself can be read from it."""

Cid = Annotated[str, Meta(min_length=59, max_length=59, pattern="^bafkrei[a-z2-7]+\\Z")]
"""CIDv1, raw, sha2-256 of a manifest, in base32."""

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""sha-256."""

RunId = Hash
"""The hash of the RunSpec as its creator signed it. People see it in hex."""

Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""Ed25519."""

NIL: bytes = b""
"""What a vote names when it names no header."""
