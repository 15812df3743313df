"""An invite as a text to hand over: whoever has it can join, so it goes by a channel that both ends trust.

`primep2p-invite-`, then in URL-safe base64 without padding a msgpack array and the first four bytes of its hash, by
which a text that lost some of its digits is told from one that is wrong. Nodes never send it to each other.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated

from msgspec import Meta, Struct

from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import RunId
from primep2p.wire.codec import decode, digest, encode

__all__ = ["PREFIX", "Token", "read_token", "write_token"]

PREFIX = "primep2p-invite-"

CHECK_BYTES = 4
"""One paste in four thousand millions that lost something passes; its signature fails then."""

MAX_TOKEN_BYTES = 8192
"""Sixteen addresses of the longest kind and an envelope."""


class Token(Struct, frozen=True, array_like=True):
    """All that a joiner needs: the run, the Invite's envelope, the key of its bearer, and where the inviter is."""

    run: RunId
    invite: Annotated[bytes, Meta(max_length=1024)]
    seed: Annotated[bytes, Meta(min_length=32, max_length=32)]
    """Of the bearer's key: secret."""
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=16)]
    network: str

    def __repr__(self) -> str:
        return f"Token(of run {self.run.hex()[:12]})"  # whoever reads a log shall not join by it

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("run", self.run.hex())]


def write_token(token: Token) -> str:
    """The text of a token."""
    payload = encode(token)
    return PREFIX + urlsafe_b64encode(payload + _check(payload)).rstrip(b"=").decode()


def read_token(text: str) -> Token:
    """The token in a text; a mail may have broken it into lines. Raises CallError, which never shows the text."""
    digits = "".join(text.split()).removeprefix(PREFIX)
    try:
        raw = urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
        payload = raw[:-CHECK_BYTES]
        if len(raw) > MAX_TOKEN_BYTES or raw[-CHECK_BYTES:] != _check(payload):
            raise ValueError
        return decode(Token, payload)
    except (ValueError, PeerError):
        raise CallError(
            "the invite is not whole: a part of it was lost, or changed, on its way",
            hint=f"copy all of what `primep2p run invite` printed, from {PREFIX} on",
        ) from None


def _check(payload: bytes) -> bytes:
    return digest("token", payload)[:CHECK_BYTES]
