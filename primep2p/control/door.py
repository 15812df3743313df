"""The TCP door from outside: which one, and the two lines by which both ends show that they know its token."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from primep2p.config import loopback_port
from primep2p.control.jsonrpc import Message, failure_error, request_line
from primep2p.control.tokens import NONCE_BYTES, Challenge, Proof, Proven, prove, read_token
from primep2p.model.errors import ConfigError, Unavailable

__all__ = ["ADDRESS", "KNOCK_S", "TOKEN_FILE", "Door"]

ADDRESS = "PRIMEP2P_CONTROL"
TOKEN_FILE = "PRIMEP2P_TOKEN_FILE"
"""Variables of the environment: where the daemon listens, and the file with the token."""

KNOCK_S = 10.0


@dataclass(frozen=True)
class Door:
    """Where a daemon listens, and what it wants to hear."""

    host: str
    port: int
    token: bytes
    nonce: str

    @classmethod
    def named(cls, env: Mapping[str, str]) -> "Door | None":
        """The one that the environment names; None where it names none. Raises ConfigError, Unavailable."""
        text = env.get(ADDRESS, "")
        if not text:
            return None
        place = loopback_port(text)
        if place is None:
            hint = "a daemon on another machine is reached through a tunnel, such as ssh -L"
            raise ConfigError(f"{ADDRESS}: {text!r} is no port of this machine, such as 127.0.0.1:4651", hint=hint)
        if not env.get(TOKEN_FILE):
            raise ConfigError(f"{ADDRESS} is set and {TOKEN_FILE} is not: the file with the daemon's token")
        return cls(*place, read_token(Path(env[TOKEN_FILE])), secrets.token_hex(NONCE_BYTES))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Door({self})"

    def knock(self, message: Message) -> bytes:
        """The line that answers the daemon's first. Raises Unavailable where that is no daemon's."""
        try:
            challenge = msgspec.json.decode(bytes(message.params), type=Challenge)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._stranger() from error
        proof = Proof(prove(self.token, "client", challenge.nonce, self.port), self.nonce)
        return request_line(0, "authenticate", proof)

    def check(self, message: Message) -> None:
        """Raises what the daemon refuses with, and Unavailable where what answers does not know the token."""
        if not isinstance(message.error, msgspec.UnsetType):
            raise failure_error(message.error)
        try:
            proven = msgspec.json.decode(b"" if message.result is msgspec.UNSET else message.result, type=Proven)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise self._stranger() from error
        if not secrets.compare_digest(
            proven.proof.encode(), prove(self.token, "daemon", self.nonce, self.port).encode()
        ):
            raise self._stranger()

    def closed(self) -> Unavailable:
        """What a client says when nobody answers."""
        return Unavailable(f"no daemon answers at {self}", hint=f"is control.tcp set in its node.toml, as {self}?")

    def _stranger(self) -> Unavailable:
        return Unavailable(f"what answers at {self} is not the daemon whose token this is")
