"""Keys of a node: an Ed25519 identity, and the peer id that is the public key."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import base58
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from primep2p.model.errors import PeerError, StoreError
from primep2p.model.ids import PeerId

__all__ = [
    "PEER_ID_BYTES",
    "Identity",
    "Signer",
    "backup_path",
    "former_peers",
    "load_identity",
    "peer_id_of",
    "public_key_of",
    "read_identity",
    "rotate_identity",
    "verify",
]

# An Ed25519 public key as libp2p's protobuf, behind an identity multihash of its 36 bytes.
_PEER_ID_PREFIX = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])

PEER_ID_BYTES = len(_PEER_ID_PREFIX) + 32
"""Of a peer id before it is text: base58 takes time with the square of the length, so that others are not made text."""


FORMER = "former"
"""A directory of the home, with the keys that it had before."""


class Signer(Protocol):
    """Whoever can sign as one peer."""

    @property
    def peer_id(self) -> PeerId: ...
    def sign(self, message: bytes) -> bytes: ...


class Identity:
    """A node's Ed25519 key pair, from its 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.peer_id: PeerId = peer_id_of(bytes(self._key.verify_key))

    @property
    def seed(self) -> bytes:
        """32 secret bytes."""
        return bytes(self._key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""
        return bytes(self._key.sign(message).signature)

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a 32-byte Ed25519 public key."""
    return str(base58.b58encode(_PEER_ID_PREFIX + public_key).decode())


@lru_cache(maxsize=4096)
def public_key_of(peer: PeerId) -> bytes:
    """The 32-byte public key inside a peer id. Raises PeerError where there is none."""
    try:
        raw = bytes(base58.b58decode(peer))
    except ValueError as error:
        raise PeerError(f"{peer!r} is not a peer id") from error
    if len(raw) != 38 or not raw.startswith(_PEER_ID_PREFIX):
        raise PeerError(f"{peer!r} is not the peer id of an Ed25519 key")
    return bytes(raw[len(_PEER_ID_PREFIX) :])


def verify(peer: PeerId, message: bytes, signature: bytes) -> None:
    """Raises PeerError unless `peer` signed exactly `message`."""
    try:
        VerifyKey(public_key_of(peer)).verify(message, signature)
    except (BadSignatureError, ValueError) as error:
        raise PeerError(f"bad signature in the name of {peer}") from error


def load_identity(path: Path) -> Identity:
    """The identity in the file at `path`, created once with mode 0600. Raises StoreError."""
    try:
        return Identity(_read_seed(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"cannot read the identity {path}: {error.strerror}") from error
    try:
        _write_seed(path, os.urandom(32))
        return Identity(_read_seed(path))
    except OSError as error:
        raise StoreError(f"cannot create the identity {path}: {error.strerror}") from error


def read_identity(path: Path) -> Identity | None:
    """The identity in the file at `path`; None where there is none. Raises StoreError."""
    try:
        return Identity(_read_seed(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read the identity {path}: {error.strerror}") from error


def rotate_identity(path: Path) -> Identity:
    """A new identity in place of the one in the file at `path`, which is kept as `backup_path` says, mode 0600 too. A
    crash leaves the one or the other. Raises StoreError."""
    try:
        old = Identity(_read_seed(path))
        _write_seed(backup_path(path, old.peer_id), old.seed)
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)  # of a rotation that did not get further
        _write_seed(fresh, os.urandom(32))
        new = Identity(_read_seed(fresh))
        os.replace(fresh, path)
        _sync(path.parent)
    except OSError as error:
        raise StoreError(f"cannot rotate the identity {path}: {error.strerror}") from error
    return new


def backup_path(path: Path, peer: PeerId) -> Path:
    """Where the key of `peer` is kept once the identity at `path` is another one."""
    return path.parent / FORMER / f"{peer}.key"


def former_peers(home: Path) -> frozenset[PeerId]:
    """Whom this home was before its identity was rotated."""
    return frozenset(backup.stem for backup in (home / FORMER).glob("*.key"))


def _read_seed(path: Path) -> bytes:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise StoreError(
            f"the identity {path} can be read by others (mode {mode:04o})",
            hint=f"chmod 600 {path}",
        )
    seed = path.read_bytes()
    if len(seed) != 32:
        raise StoreError(
            f"the identity {path} is damaged: it has {len(seed)} bytes, not 32",
            hint="restore it from a backup, or move it away to become a new peer",
        )
    return seed


def _write_seed(path: Path, seed: bytes) -> None:
    """Linked into place whole: a crash leaves no half key, and two starts agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
        _sync(path.parent)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
