"""How people say which model they mean: of a run, or of a shelf.

    RUN            the newest certified params of a run here; RUN is its id or the beginning of it
    RUN@ROUND      those of a round; RUN@ROUND:HASH too, where the header must be that one
    NAME           a model of one's own shelf; NAME@VERSION, NAME@latest
    OWNER/NAME     one of somebody's shelf, by its owner's peer id; OWNER/NAME@VERSION, OWNER/NAME@latest

A name is never made of hex digits alone, so no text can be read in two ways.
"""

import re
from dataclasses import dataclass

from primep2p.core.shelf import check_label, check_name
from primep2p.keys import public_key_of
from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.shelf import LATEST

__all__ = ["ModelRef", "Ref", "RunRef", "check_owner", "own_name", "parse", "parse_run"]

_RUN = re.compile(r"[0-9a-fA-F]{1,64}")
_ROUND = re.compile(r"[0-9]{1,16}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class RunRef:
    """Certified params of a run of this node."""

    run: str
    """Its id in hex, or the beginning of it."""
    round: int | None = None
    """None: the newest."""
    hash: Hash | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model on a shelf."""

    owner: PeerId
    """Empty: this node's own."""
    name: str
    version: str = ""
    """Empty: the one that its owner offers."""

    def __str__(self) -> str:
        owner = f"{self.owner}/" if self.owner else ""
        return f"{owner}{self.name}" + (f"@{self.version}" if self.version else "")


Ref = RunRef | ModelRef


def parse(text: str) -> Ref:
    """Which model `text` means. Raises CallError."""
    whole, _, version = text.partition("@")
    if "/" not in whole and _RUN.fullmatch(whole):
        return parse_run(text)
    owner, slash, name = whole.rpartition("/")
    if slash:
        check_owner(owner)
    if "@" in text and version != LATEST:
        check_label(version)
    return ModelRef(owner, check_name(name), "" if version == LATEST else version)


def parse_run(text: str) -> RunRef:
    """A model of a run: ID, ID@ROUND or ID@ROUND:HASH. Raises CallError."""
    run, at, rest = text.partition("@")
    if not _RUN.fullmatch(run):
        raise CallError(f"{run!r} is no run's id", hint="see: primep2p run list")
    if not at or rest == LATEST:
        return RunRef(run.lower())
    round_, colon, hash_ = rest.partition(":")
    if not _ROUND.fullmatch(round_) or (colon and not _HASH.fullmatch(hash_)):
        raise CallError(f"{text!r} names no checkpoint of a run", hint="write ID, ID@ROUND or ID@ROUND:HASH")
    return RunRef(run.lower(), int(round_), bytes.fromhex(hash_) if colon else None)


def own_name(text: str, me: PeerId) -> str:
    """The name of a model of one's own, without a version. Raises CallError."""
    match parse(text):
        case ModelRef(owner=owner, name=name, version="") if owner in ("", me):
            return name
        case ModelRef(owner=owner) if owner not in ("", me):
            raise CallError(f"{text} is on the shelf of somebody else", hint="only its owner can change it")
    raise CallError(f"{text!r} is no name of a model of yours", hint="see: primep2p model list")


def check_owner(owner: str) -> PeerId:
    """Raises CallError where `owner` is no peer id."""
    try:
        public_key_of(owner)
    except PeerError as error:
        raise CallError(error.sentence, hint="a shelf has the peer id of its owner: OWNER/NAME") from None
    return owner
