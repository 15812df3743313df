"""What a record of a round must be, whoever relays it."""

from math import isfinite

import msgspec

from primep2p.core.chain import Head
from primep2p.model.errors import PeerError
from primep2p.model.records import MAX_MEMBERS, Collected, Proposal, Update, Vote
from primep2p.wire.cid import cid_digest
from primep2p.wire.envelope import Opened

__all__ = ["MAX_LISTED_NOTICES", "check", "check_list", "check_update"]

MAX_LISTED_NOTICES = MAX_MEMBERS
"""No more could be admitted at once; and what k lists name must have room in a bundle, whatever a crowd of strangers
and liars bring up."""


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
    record = update.record
    if (record.run, record.round, record.base) != (head.run, head.round + 1, head.hash):
        raise PeerError("an update of another round or base")
    if update.signer not in head.cohort:
        raise PeerError("an update of somebody who does not train in this round")
    cid_digest(record.delta)
    if not all(isfinite(metric.value) for metric in record.metrics):
        raise PeerError("an update with a metric that is no number")


def check_list(entry: Opened[Collected], head: Head) -> None:
    """Whether a list may be part of a bundle after `head`: each trainer and each notice once, or one liar could make k
    out of one list. Raises PeerError [C1]."""
    record = entry.record
    if entry.signer not in head.committee:
        raise PeerError("a list of somebody who has no vote")
    if (record.run, record.round) != (head.run, head.round + 1):
        raise PeerError("a list of another round")
    trainers, notices = [ref.trainer for ref in record.updates], list(record.notices)
    if trainers != sorted(set(trainers)) or not head.cohort.issuperset(trainers):
        raise PeerError("a list out of order, or of trainers that are not in the cohort")
    if notices != sorted(set(notices)) or len(notices) > MAX_LISTED_NOTICES:
        raise PeerError("a list with notices out of order, or with too many")


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
