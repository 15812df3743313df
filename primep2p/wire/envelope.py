"""Signing and opening: the one place that knows what a signature covers.

A signature covers, each but the last behind its length as two bytes: the domain, the network's name, the kind,
the signer; then the payload's exact bytes. The sha-256 of the same bytes is the record's hash [E1, E2].
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar, cast

import msgspec

from primep2p import keys
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.plans import Plan
from primep2p.model.records import (
    Acceptance,
    Ban,
    Collected,
    Envelope,
    Invite,
    Join,
    Leave,
    Proposal,
    RunSpec,
    Update,
    Vote,
)
from primep2p.model.shelf import ModelRecord, ShelfRecord
from primep2p.wire.codec import decode, encode

__all__ = ["KINDS", "Envelopes", "Opened", "Peeked"]

_DOMAIN = b"primep2p/envelope/1"

KINDS: dict[str, type[msgspec.Struct]] = {
    "spec": RunSpec,
    "join": Join,
    "invite": Invite,
    "acceptance": Acceptance,
    "ban": Ban,
    "leave": Leave,
    "update": Update,
    "collected": Collected,
    "proposal": Proposal,
    "vote": Vote,
    "model": ModelRecord,
    "shelf": ShelfRecord,
    "plan": Plan,
}
_KIND_OF = {type_: kind for kind, type_ in KINDS.items()}

R = TypeVar("R", bound=msgspec.Struct)
R_co = TypeVar("R_co", bound=msgspec.Struct, covariant=True)


@dataclass(frozen=True, slots=True)
class Opened(Generic[R_co]):
    """A record whose signature holds: the record, who signed it, its hash, and the envelope's exact bytes."""

    record: R_co
    signer: PeerId
    hash: Hash
    raw: bytes

    def of(self, type_: type[R]) -> "Opened[R]":
        """The same, known to be a `type_`. Raises PeerError where it is another record."""
        if not isinstance(self.record, type_):
            raise PeerError(f"a {type(self.record).__name__} where a {type_.__name__} was due")
        return cast("Opened[R]", self)


@dataclass(frozen=True, slots=True)
class Peeked:
    """An envelope before its signature is checked: enough to know it already, or to refuse it for nothing."""

    kind: str
    signer: PeerId
    hash: Hash
    raw: bytes
    envelope: Envelope
    covered: bytes


class Envelopes:
    """Seals and opens envelopes on one network. `signer` is who seals."""

    def __init__(self, network: str, signer: keys.Signer) -> None:
        self.network = network
        self._signer = signer

    @property
    def peer_id(self) -> PeerId:
        """Who seals."""
        return self._signer.peer_id

    def secret(self, purpose: str) -> bytes:
        """32 bytes that only the holder of this key can compute, the same each time: the hash of a signature of its
        own, which Ed25519 makes deterministic, over a domain that nothing else is signed in."""
        covered = self._covered("secret", self._signer.peer_id, purpose.encode())
        return sha256(self._signer.sign(covered)).digest()

    def seal(self, record: R) -> Opened[R]:
        """`record` as this node signs it."""
        kind, payload, signer = _KIND_OF[type(record)], encode(record), self._signer.peer_id
        covered = self._covered(kind, signer, payload)
        envelope = Envelope(kind, signer, payload, self._signer.sign(covered))
        return Opened(record, signer, sha256(covered).digest(), encode(envelope))

    def peek(self, raw: bytes) -> Peeked:
        """The envelope in `raw`, unverified. Raises PeerError."""
        envelope = decode(Envelope, raw)
        if envelope.kind not in KINDS:
            raise PeerError(f"a record of unknown kind {envelope.kind!r}")
        covered = self._covered(envelope.kind, envelope.signer, envelope.payload)
        return Peeked(envelope.kind, envelope.signer, sha256(covered).digest(), raw, envelope, covered)

    def read(self, peeked: Peeked) -> msgspec.Struct:
        """What the payload claims, its signature unchecked: only good to refuse it sooner. Raises PeerError."""
        return decode(KINDS[peeked.kind], peeked.envelope.payload)

    def verify(self, peeked: Peeked) -> Opened[msgspec.Struct]:
        """The record inside, once the signature holds and the payload is what its kind says. Raises PeerError."""
        keys.verify(peeked.signer, peeked.covered, peeked.envelope.signature)
        return Opened(self.read(peeked), peeked.signer, peeked.hash, peeked.raw)

    def open_any(self, raw: bytes) -> Opened[msgspec.Struct]:
        """The verified record in `raw`. Raises PeerError."""
        return self.verify(self.peek(raw))

    def open(self, type_: type[R], raw: bytes) -> Opened[R]:
        """The verified record of type `type_` in `raw`. Raises PeerError."""
        return self.open_any(raw).of(type_)

    def _covered(self, kind: str, signer: PeerId, payload: bytes) -> bytes:
        parts = (_DOMAIN, self.network.encode(), kind.encode(), signer.encode())
        return b"".join(len(part).to_bytes(2, "big") + part for part in parts) + payload
