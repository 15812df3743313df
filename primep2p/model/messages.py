"""What travels on streams around the signed records: frames of the overlay, and questions of sync with their answers.

Nothing here is signed: each message is as good as the records in it, or a question, or a hint.
"""

from typing import Annotated

from msgspec import Meta, Struct

from primep2p.model.ids import PeerId, RunId
from primep2p.model.records import MAX_COMMITTEE, Checkpoint, Evidence

__all__ = [
    "MAX_CHAIN",
    "Abstained",
    "Addresses",
    "AskChain",
    "AskHead",
    "AskSpec",
    "AskVotes",
    "Certified",
    "Chain",
    "Digest",
    "Head",
    "Introduce",
    "NotBegun",
    "Nothing",
    "OverlayMessage",
    "Proposed",
    "Proven",
    "Records",
    "Spec",
    "SyncAnswer",
    "SyncQuestion",
    "Votes",
]

MAX_CHAIN = 64
"""Checkpoints in one answer: about 400 kB at 16 members."""


class Message(Struct, frozen=True, array_like=True, tag=True):
    """One frame."""


# ---- the committee's overlay: /primep2p/votes/1


class Records(Message, frozen=True, tag="records"):
    """Signed envelopes of one run."""

    run: RunId
    items: Annotated[tuple[bytes, ...], Meta(max_length=1024)]


class Proposed(Message, frozen=True, tag="proposed"):
    """A proposal with what it needs to be checked; the prevotes prove its valid view, if it has one."""

    run: RunId
    proposal: bytes
    header: bytes
    bundle: bytes
    prevotes: Annotated[tuple[bytes, ...], Meta(max_length=MAX_COMMITTEE)] = ()


class Digest(Message, frozen=True, tag="digest"):
    """The records of the round that the sender holds, by the first 8 bytes of their hashes: send me the others."""

    run: RunId
    round: int
    have: Annotated[tuple[bytes, ...], Meta(max_length=4096)]


class Certified(Message, frozen=True, tag="certified"):
    """A certified header, for whoever is behind or has not seen it."""

    run: RunId
    checkpoint: Checkpoint


class Proven(Message, frozen=True, tag="proven"):
    """Evidence against a member."""

    run: RunId
    evidence: Evidence


class Abstained(Message, frozen=True, tag="abstained"):
    """The sender trains nothing in this round: do not wait for its update. A hint: it moves nothing but the waiting."""

    run: RunId
    round: Annotated[int, Meta(ge=0, le=2**53)]


OverlayMessage = Records | Proposed | Digest | Certified | Proven | Abstained


# ---- questions and answers: /primep2p/sync/1


class AskSpec(Message, frozen=True, tag="ask-spec"):
    """The signed RunSpec, please."""

    run: RunId


class AskHead(Message, frozen=True, tag="ask-head"):
    """The newest certified checkpoint, please."""

    run: RunId


class AskChain(Message, frozen=True, tag="ask-chain"):
    """The checkpoints from round `first` on, at most MAX_CHAIN of them, please."""

    run: RunId
    first: Annotated[int, Meta(ge=0, le=2**53)]


class AskVotes(Message, frozen=True, tag="ask-votes"):
    """The records that you hold of the asker's own, of the current round, please: it has just started."""

    run: RunId


class Introduce(Message, frozen=True, tag="introduce"):
    """Here is a Join; pass it on."""

    run: RunId
    join: bytes


SyncQuestion = AskSpec | AskHead | AskChain | AskVotes | Introduce


class Spec(Message, frozen=True, tag="spec"):
    """The RunSpec's envelope."""

    spec: bytes


class Addresses(Struct, frozen=True, array_like=True):
    """Where a member was last heard of: a hint."""

    peer: PeerId
    addresses: Annotated[tuple[str, ...], Meta(max_length=16)]


class Head(Message, frozen=True, tag="head"):
    """The newest certified checkpoint with the state after it; members' addresses as hints."""

    checkpoint: Checkpoint
    state: bytes
    members: Annotated[tuple[Addresses, ...], Meta(max_length=256)] = ()


class Chain(Message, frozen=True, tag="chain"):
    """Checkpoints in a row; `state` is the state after the first of them."""

    checkpoints: Annotated[tuple[Checkpoint, ...], Meta(max_length=MAX_CHAIN)]
    state: bytes


class Votes(Message, frozen=True, tag="votes"):
    """The asker's own records that the answerer holds, and the answerer's round."""

    round: int
    items: Annotated[tuple[bytes, ...], Meta(max_length=1024)]


class NotBegun(Message, frozen=True, tag="not-begun"):
    """The run has no checkpoint 0 yet."""


class Nothing(Message, frozen=True, tag="nothing"):
    """Not held here; a hint where to ask; or, after Introduce, thanks."""

    reason: Annotated[str, Meta(max_length=200)] = ""


SyncAnswer = Spec | Head | Chain | Votes | NotBegun | Nothing
