"""What names a run, a checkpoint or an invite in a call: text in, parts out."""

from primep2p.model.errors import CallError
from primep2p.services.runs.origins import Start
from primep2p.wire.token import PREFIX, Token, read_token

__all__ = ["parse_join", "parse_pin", "parse_start"]

HASH_DIGITS = 64
ROUND_DIGITS = 15

JOIN = "`primep2p run join --help` has what it takes"


def parse_join(run: str, pin: str = "", invite: str = "") -> tuple[str, tuple[int, bytes] | None, Token | None]:
    """What to join: the invite may stand in place of the id. Raises CallError."""
    token = None
    if run.startswith(PREFIX):
        text, at, inline = run.partition("@")
        if invite and invite != text:
            raise CallError("two different invites are given", hint=JOIN)
        token = read_token(text)
        run = token.run.hex() + at + inline
    elif invite:
        token = read_token(invite)
    id_, pinned = parse_pin(run, pin)
    if token is not None and token.run.hex() != id_:
        raise CallError(f"the invite is for run {token.run.hex()[:12]}, and not for {id_[:12]}", hint=JOIN)
    return id_, pinned, token


def parse_pin(run: str, pin: str = "") -> tuple[str, tuple[int, bytes] | None]:
    """The id and the pinned header of ID or ID@round:hash; a `pin` of its own is round:hash. Raises CallError."""
    id_, _, inline = run.partition("@")
    if inline and pin and inline != pin:
        raise CallError("two different pins are given", hint=JOIN)
    if len(id_) != HASH_DIGITS or _bytes(id_) is None:
        shown = id_ if len(id_) <= HASH_DIGITS else f"{id_[:12]}…"  # what is longer may be most of an invite
        raise CallError(f"{shown!r} is not the id of a run: that has {HASH_DIGITS} hexadecimal digits", hint=JOIN)
    pin = inline or pin
    if not pin and not run.endswith("@"):
        return id_.lower(), None
    round_, _, digits = pin.partition(":")
    header = _bytes(digits)
    if not _is_round(round_) or header is None or len(header) != 32:
        raise CallError(f"{pin!r} is not a pin", hint="run show prints one: ID@round:hash, with the whole hash")
    return id_.lower(), (int(round_), header)


def parse_start(origin: str) -> Start:
    """Where a new run starts: ID, ID@round, or a pin. Raises CallError."""
    run, at, rest = origin.partition("@")
    if not at:
        return Start(run)
    round_, colon, digits = rest.partition(":")
    header = _bytes(digits)
    if not _is_round(round_) or (colon and (header is None or len(header) != 32)):
        raise CallError(f"{origin!r} is not a checkpoint", hint="write ID, or ID@round, or what run show prints as pin")
    return Start(run, int(round_), header or None)


def _is_round(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= ROUND_DIGITS


def _bytes(digits: str) -> bytes | None:
    try:
        return bytes.fromhex(digits) if digits.isalnum() else None
    except ValueError:
        return None
