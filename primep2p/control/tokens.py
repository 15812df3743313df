"""Who may come in over TCP: whoever shows to know a token, without saying it.

The kernel tells whose process is at the other end of a Unix socket, and of a TCP connection it does not. So both ends
prove that they know a secret of the home: the daemon asks with a nonce, the client answers with an HMAC-SHA256 under
the token and a nonce of its own, and the daemon answers that. A process that took the port while no daemon ran learns
nothing, and is found out; the port is part of what is proved, so that it cannot pass questions on to another port.
"""

import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from primep2p.control.calls.call import Access
from primep2p.model.errors import ConfigError, Unavailable

__all__ = ["NAMES", "NONCE_BYTES", "Challenge", "Proof", "Proven", "Tokens", "accepts", "prove", "read_token"]

NONCE_BYTES = 32
TOKEN_BYTES = 32

NAMES: dict[Access, str] = {"write": "control.token", "read": "control.read.token"}
"""The files in the home, by what their tokens allow."""


class Challenge(Struct, frozen=True):
    """What the daemon says first, as params of the notification `challenge`. Hexadecimal."""

    nonce: str


class Proof(Struct, frozen=True, forbid_unknown_fields=True):
    """Params of the first request, `authenticate`. Hexadecimal."""

    proof: str
    nonce: str


class Proven(Struct, frozen=True):
    """Its answer: the daemon knows the token too, and what it allows."""

    proof: str
    access: Access


@dataclass(frozen=True)
class Tokens:
    """The secrets of a home. From `Tokens.of`."""

    by_access: dict[Access, bytes]

    @classmethod
    def of(cls, home: Path) -> "Tokens":
        """Those in the home's files, which are made with mode 0600 where they are not there. Raises ConfigError."""
        return cls({access: _made(home / name) for access, name in NAMES.items()})

    def __repr__(self) -> str:
        return "Tokens(…)"


def prove(token: bytes, end: Literal["client", "daemon"], nonce: str, port: int) -> str:
    """That this end knows the token, to the end that made the nonce."""
    return hmac.digest(token, f"primep2p control {end} {port} {nonce}".encode(), "sha256").hex()


def accepts(tokens: Tokens, challenge: Challenge, proof: Proof, port: int) -> Proven | None:
    """What the daemon answers to a client's proof; None where it proves nothing."""
    for access, token in tokens.by_access.items():
        if hmac.compare_digest(prove(token, "client", challenge.nonce, port).encode(), proof.proof.encode()):
            return Proven(prove(token, "daemon", proof.nonce, port), access)
    return None


def read_token(path: Path) -> bytes:
    """The token in a file. Raises Unavailable."""
    try:
        token = bytes.fromhex(path.read_text("ascii").strip())
    except OSError as error:
        hint = "its owner copies it for you from the daemon's home, with mode 0600"
        raise Unavailable(f"cannot read the token {path}: {error.strerror}", hint=hint) from error
    except ValueError:
        token = b""
    if len(token) != TOKEN_BYTES:
        raise Unavailable(f"{path} holds no token", hint=f"a token is {2 * TOKEN_BYTES} hexadecimal digits")
    return token


def _made(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _kept(path)
    except OSError as error:
        raise ConfigError(f"cannot make the token {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES) + "\n")
    return read_token(path)


def _kept(path: Path) -> bytes:
    """Raises ConfigError where it is not this user's alone."""
    found = path.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"the token {path} is open to others", hint=f"chmod 600 {path}, or remove it: a new one is made"
        )
    try:
        return read_token(path)
    except Unavailable as error:
        raise ConfigError(error.sentence, hint=f"remove {path}: a new one is made") from error
