"""What a record of a round must be, whoever relays it."""

from collections.abc import Sequence
from itertools import accumulate
from math import isfinite

import msgspec

from primep2p.core.beacons import check_reveal
from primep2p.core.chain import Head
from primep2p.core.votes import MAX_VOTE_BYTES, Committee
from primep2p.model.errors import PeerError
from primep2p.model.records import Ban, Collected, Leave, Metric, Proposal, Update, Vote
from primep2p.wire.cid import cid_digest
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Opened

__all__ = [
    "check",
    "check_ban",
    "check_leave",
    "check_list",
    "check_size",
    "check_update",
    "fitting",
    "is_leaving",
    "max_accused",
    "max_list_bytes",
    "max_listed_notices",
    "max_update_bytes",
]

UPDATES_IN_BUNDLE_BYTES = 2**20
"""A quarter of the largest record: the rest is for all else that a bundle carries [E6]."""

FEWEST_UPDATES = 64
"""A smaller cohort's updates have no more room than those of one of so many."""

UPDATE_BYTES = 512
"""What an update takes without its metrics."""

NOTICES_IN_BUNDLE = 256
"""What a Bundle has room for."""

ACCUSED_IN_BUNDLE = 16


def max_listed_notices(committee: Committee) -> int:
    """What k lists name must have room in a bundle, whatever strangers and liars bring up: n lists of so many notices
    name at most 256 of them k times [C1]."""
    return NOTICES_IN_BUNDLE * committee.k // len(committee.members)


def max_accused(committee: Committee) -> int:
    """The same for evidence, of which two lists of 1,024 updates make a large piece: 16, or one a member [C1]."""
    return max(1, ACCUSED_IN_BUNDLE * committee.k // len(committee.members))


def max_update_bytes(head: Head) -> int:
    """Of an envelope: the whole cohort's have room in a bundle [E6]. One that may enter a later round than the one that
    it is for must have room in that too, whoever has joined since."""
    policy = head.spec.policy
    most = policy.max_cohort if policy.is_buffered else len(head.cohort)
    return UPDATES_IN_BUNDLE_BYTES // max(FEWEST_UPDATES, most)


def fitting(metrics: Sequence[Metric], head: Head) -> tuple[Metric, ...]:
    """As many of a trainer's metrics, from the first on, as its update has room for."""
    sizes = accumulate(len(encode(metric)) for metric in metrics)
    most = max_update_bytes(head) - UPDATE_BYTES
    return tuple(metric for metric, end in zip(metrics, sizes, strict=True) if end <= most)


def max_list_bytes(head: Head) -> int:
    """Of an envelope: what the longest list takes, and some more [E6]."""
    notices, accused = max_listed_notices(head.committee), max_accused(head.committee)
    return 1024 + 90 * len(head.cohort) + 36 * notices + 56 * accused


def check_size(kind: str, raw: bytes, head: Head) -> None:
    """Whether the envelope of a record of the round after `head` has a size that all others may count on. Raises
    PeerError: not its signer's fault, since no signature covers what is around the record [E1, E6]."""
    most = {"update": max_update_bytes(head), "collected": max_list_bytes(head)}.get(kind, MAX_VOTE_BYTES)
    if len(raw) > most:
        raise PeerError(f"an envelope of {len(raw)} bytes around a record of kind {kind}, which has {most} at most")


def check(opened: Opened[msgspec.Struct], head: Head) -> None:
    """Whether a record may count in the round after `head`. Raises PeerError: its signer's fault."""
    match opened.record:
        case Update():
            check_update(opened.of(Update), head)
        case Collected():
            check_list(opened.of(Collected), head)
        case Vote():
            _check_vote(opened.of(Vote), head)
        case Proposal():
            _check_proposal(opened.of(Proposal), head)
        case other:
            raise PeerError(f"a {type(other).__name__} where a record of a round was due")


def check_update(update: Opened[Update], head: Head) -> None:
    """Whether an update may enter the round after `head`. Raises PeerError."""
    check_size("update", update.raw, head)
    record = update.record
    if record.run != head.run or record.base != head.bases.get(record.round):
        raise PeerError("an update of another round or base")
    if update.signer not in head.cohort:
        raise PeerError("an update of somebody who does not train in this round")
    if not head.may_enter(update.signer, record.round):
        raise PeerError("an update that a checkpoint has used up")
    cid_digest(record.delta)
    if not all(isfinite(metric.value) for metric in record.metrics):
        raise PeerError("an update with a metric that is no number")


def check_list(entry: Opened[Collected], head: Head) -> None:
    """Whether a list may be part of a bundle after `head`: each trainer and each notice once, or one liar could make k
    out of one list. Raises PeerError [C1]."""
    check_size("collected", entry.raw, head)
    record = entry.record
    if entry.signer not in head.committee:
        raise PeerError("a list of somebody who has no vote")
    if (record.run, record.round) != (head.run, head.round + 1):
        raise PeerError("a list of another round")
    trainers, notices = [ref.trainer for ref in record.updates], list(record.notices)
    if trainers != sorted(set(trainers)) or not head.cohort.issuperset(trainers):
        raise PeerError("a list out of order, or of trainers that are not in the cohort")
    if notices != sorted(set(notices)) or len(notices) > max_listed_notices(head.committee):
        raise PeerError("a list with notices out of order, or with too many")
    accused = list(record.accused)
    if accused != sorted(set(accused)) or len(accused) > max_accused(head.committee):
        raise PeerError("a list that accuses out of order, or too many")
    if not head.members.keys() >= set(accused):
        raise PeerError("a list that accuses somebody who is no member")
    if record.reveal and entry.signer != head.revealer:
        raise PeerError("a list that reveals out of turn")
    if record.reveal:
        check_reveal(head.members[entry.signer], record.reveal, record.round)


def check_ban(ban: Opened[Ban], head: Head) -> None:
    """Whether a ban is the creator's. Raises PeerError [M7]."""
    check_size("ban", ban.raw, head)
    if ban.record.run != head.run or ban.signer != head.spec.creator or ban.record.peer == head.spec.creator:
        raise PeerError("a ban of another run, or by somebody who may not, or of the creator itself")


def check_leave(leave: Opened[Leave], head: Head) -> None:
    """Whether a Leave may be in a bundle; whether it takes anybody out is another question. Raises PeerError [M8]."""
    check_size("leave", leave.raw, head)
    if leave.record.run != head.run:
        raise PeerError("a Leave of another run")


def is_leaving(leave: Opened[Leave], head: Head) -> bool:
    """Whether a Leave takes its signer out in the next checkpoint: it has been a member since the round that the Leave
    names or longer, and that is not one to come. One of round 0 took back a Join, and its signer may have joined since:
    it takes out nobody [M8]."""
    member = head.members.get(leave.signer)
    return member is not None and max(1, member.since) <= leave.record.round <= head.round + 1


def _check_vote(vote: Opened[Vote], head: Head) -> None:
    if vote.signer not in head.committee:
        raise PeerError("a vote of somebody who has none")
    if vote.record.phase != 0 or len(vote.record.header) not in (0, 32):
        raise PeerError("a vote of no known phase, or for no header")


def _check_proposal(proposal: Opened[Proposal], head: Head) -> None:
    record = proposal.record
    if proposal.signer != head.committee.proposer(record.view) or record.phase != 0:
        raise PeerError("a proposal out of turn")
    if record.valid_view >= record.view:
        raise PeerError("a proposal whose valid view is not before its own")
