"""Keys of a world, real or cheap, and envelopes that many machines in one process open once.

Both rings count, and both are held to one contract in test_keys.py.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec

from primep2p import keys
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.wire.envelope import Envelopes, Opened, Peeked

__all__ = ["RINGS", "FakeRing", "RealRing", "Ring", "Shelf", "SimEnvelopes"]

R = TypeVar("R", bound=msgspec.Struct)


class Ring(Protocol):
    """Makes signers and verifies what they signed; counts both."""

    signed: int
    verified: int
    shares: bool
    """Whether what one machine verified need not be verified by the next."""

    def make(self, seed: bytes) -> keys.Signer: ...
    def verify(self, peer: PeerId, message: bytes, signature: bytes) -> None: ...


class Signer:
    """Signs and has it counted."""

    def __init__(self, ring: Ring, peer_id: PeerId, sign: Callable[[bytes], bytes]) -> None:
        self.peer_id = peer_id
        self._ring = ring
        self._sign = sign

    def sign(self, message: bytes) -> bytes:
        self._ring.signed += 1
        return self._sign(message)


class RealRing:
    """Ed25519, as nodes use it; every machine verifies for itself."""

    shares = False

    def __init__(self) -> None:
        self.signed = 0
        self.verified = 0

    def make(self, seed: bytes) -> keys.Signer:
        identity = keys.Identity(seed)
        return Signer(self, identity.peer_id, identity.sign)

    def verify(self, peer: PeerId, message: bytes, signature: bytes) -> None:
        self.verified += 1
        keys.verify(peer, message, signature)


class FakeRing:
    """Keyed hashes whose secrets stay in this ring: a hundred times cheaper, and nobody signs for somebody else."""

    shares = True

    def __init__(self) -> None:
        self.signed = 0
        self.verified = 0
        self._secrets: dict[PeerId, bytes] = {}

    def make(self, seed: bytes) -> keys.Signer:
        peer = keys.peer_id_of(blake2b(seed, digest_size=32, person=b"public").digest())
        self._secrets[peer] = secret = blake2b(seed, digest_size=32, person=b"secret").digest()
        return Signer(self, peer, lambda message: self._mac(secret, message))

    def verify(self, peer: PeerId, message: bytes, signature: bytes) -> None:
        self.verified += 1
        secret = self._secrets.get(peer)
        if secret is None or self._mac(secret, message) != signature:
            raise PeerError(f"bad signature in the name of {peer}")

    @staticmethod
    def _mac(secret: bytes, message: bytes) -> bytes:
        return blake2b(message, key=secret, digest_size=64).digest()


RINGS: dict[str, Callable[[], Ring]] = {"real": RealRing, "fake": FakeRing}


class Shelf:
    """What was opened before, by its exact bytes. Bytes know their own hash, so a look costs next to nothing."""

    def __init__(self) -> None:
        self.peeked: dict[bytes, Peeked] = {}
        self.opened: dict[bytes, Opened[msgspec.Struct]] = {}


class SimEnvelopes(Envelopes):
    """Of one machine. With a ring that shares, records pass as objects: one machine opens for all."""

    def __init__(
        self,
        network: str,
        signer: keys.Signer,
        ring: Ring,
        shelf: Shelf,
        on_sealed: Callable[[Opened[msgspec.Struct]], None],
    ) -> None:
        super().__init__(network, signer)
        self._ring = ring
        self._shelf = shelf
        self._on_sealed = on_sealed

    def seal(self, record: R) -> Opened[R]:
        opened = super().seal(record)
        if self._ring.shares:
            self._shelf.opened[opened.raw] = opened  # type: ignore[assignment]
        self._on_sealed(opened)  # type: ignore[arg-type]
        return opened

    def peek(self, raw: bytes) -> Peeked:
        peeked = self._shelf.peeked.get(raw)
        if peeked is None:
            peeked = self._shelf.peeked[raw] = super().peek(raw)
        return peeked

    def read(self, peeked: Peeked) -> msgspec.Struct:
        opened = self._shelf.opened.get(peeked.raw)
        return super().read(peeked) if opened is None else opened.record

    def verify(self, peeked: Peeked) -> Opened[msgspec.Struct]:
        opened = self._shelf.opened.get(peeked.raw)
        if opened is None:
            self._ring.verify(peeked.signer, peeked.covered, peeked.envelope.signature)
            opened = Opened(super().read(peeked), peeked.signer, peeked.hash, peeked.raw)
            if self._ring.shares:
                self._shelf.opened[peeked.raw] = opened
        return opened
