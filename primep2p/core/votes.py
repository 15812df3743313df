"""Counting: quorums, tallies of votes, certificates, and the slots that make equivocation provable."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import msgspec

from primep2p.model.errors import PeerError
from primep2p.model.ids import NIL, Hash, PeerId, RunId
from primep2p.model.records import Certificate, Collected, Evidence, Proposal, Step, Update, Vote
from primep2p.wire.envelope import Opened

__all__ = [
    "MAX_VOTE_BYTES",
    "Committee",
    "Open",
    "Slot",
    "Tally",
    "convict",
    "has_room",
    "open_certificate",
    "open_quorum",
    "open_votes",
    "slot_of",
]

Open = Callable[[bytes], Opened[msgspec.Struct]]
"""Opens an envelope, verified. Raises PeerError."""

Slot = tuple[str | int, ...]

MAX_VOTE_BYTES = 1024
"""Of an envelope: three times what a vote, a proposal or a ban takes today [E6]."""

MAX_EVIDENCE_BYTES = 65_536
"""Of both envelopes: sixteen pieces have room in a bundle [E6]."""


@dataclass(frozen=True, slots=True)
class Committee:
    """Who votes in a round, in rank order, and how many of them decide."""

    members: tuple[PeerId, ...]
    q: int

    @classmethod
    def of(cls, members: tuple[PeerId, ...], threshold: str) -> "Committee":
        """q = max(n // 2 + 1, ceil(threshold * n)), the threshold as an exact decimal fraction [V1]."""
        n = len(members)
        return cls(members, max(n // 2 + 1, ceil(Fraction(threshold) * n)))

    @property
    def k(self) -> int:
        """Among so many members is one that is neither silent nor a liar: n - q + 1."""
        return len(self.members) - self.q + 1

    @property
    def survives_silent(self) -> int:
        """So many may be silent without a stall: n - q."""
        return len(self.members) - self.q

    @property
    def survives_liars(self) -> int:
        """So many may lie without a fork: 2q - n - 1."""
        return 2 * self.q - len(self.members) - 1

    def proposer(self, view: int) -> PeerId:
        """Whose turn it is."""
        return self.members[view % len(self.members)]

    def __contains__(self, peer: object) -> bool:
        return peer in self.members


def slot_of(record: msgspec.Struct) -> Slot:
    """What an honest node signs at most one record for [V6]. Raises PeerError where it may sign many."""
    match record:
        case Update(round=round):
            return ("update", round)
        case Collected(round=round):
            return ("collected", round)
        case Proposal(round=round, phase=phase, view=view):
            return ("proposal", round, phase, view)
        case Vote(round=round, phase=phase, view=view, step=step):
            return ("vote", round, phase, view, step)
        case _:
            raise PeerError(f"a {type(record).__name__} where a record of a round was due")


def has_room(evidence: Evidence) -> bool:
    """Whether a bundle could carry it."""
    return len(evidence.first) + len(evidence.second) <= MAX_EVIDENCE_BYTES


def convict(evidence: Evidence, run: RunId, open_: Open) -> PeerId:
    """The member that signed both. Raises PeerError where the evidence shows nothing [V6]."""
    if not has_room(evidence):
        raise PeerError("evidence that no bundle has room for")
    first, second = open_(evidence.first), open_(evidence.second)
    if first.signer != second.signer or slot_of(first.record) != slot_of(second.record):
        raise PeerError("evidence of nothing: the two records do not exclude each other")
    if {getattr(first.record, "run", None), getattr(second.record, "run", None)} != {run}:
        raise PeerError("evidence of another run")
    if first.hash == second.hash:
        raise PeerError("evidence of nothing: the two records are the same")
    return first.signer


class Tally:
    """The votes of one round. One that equivocates counts for each header it voted for, as to different peers."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._votes: dict[tuple[int, Step], dict[bytes, dict[PeerId, Opened[Vote]]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        self._reached: dict[PeerId, int] = {}

    def add(self, vote: Opened[Vote]) -> None:
        """Count a vote of a committee member."""
        record = vote.record
        self._votes[record.view, record.step][record.header].setdefault(vote.signer, vote)
        self.reach(vote.signer, record.view)

    def reach(self, peer: PeerId, view: int) -> None:
        """`peer` has shown itself in `view`, whatever it said there: one slot a member."""
        self._reached[peer] = max(view, self._reached.get(peer, 0))

    def reached_by_k(self) -> int:
        """The highest view that k members have reached or passed (line 55)."""
        views = sorted(self._reached.values(), reverse=True)
        k = self._committee.k
        return views[k - 1] if len(views) >= k else 0

    def has_quorum(self, view: int, step: Step, header: bytes) -> bool:
        """Whether q members voted for `header`."""
        return len(self._votes[view, step][header]) >= self._committee.q

    def has_any_quorum(self, view: int, step: Step) -> bool:
        """Whether q members voted, for whatever."""
        voters: set[PeerId] = set()
        for by_peer in self._votes[view, step].values():
            voters.update(by_peer)
        return len(voters) >= self._committee.q

    def quorum(self, view: int, step: Step, header: bytes) -> tuple[bytes, ...]:
        """The envelopes of all votes for `header`, sorted by voter."""
        votes = self._votes[view, step][header]
        return tuple(votes[peer].raw for peer in sorted(votes))

    def decided(self) -> tuple[int, Hash] | None:
        """The view and the header that a quorum of precommits names, if there is one."""
        for (view, step), by_header in self._votes.items():
            if step == "precommit":
                for header, votes in by_header.items():
                    if header != NIL and len(votes) >= self._committee.q:
                        return view, header
        return None

    def voters(self, view: int, step: Step) -> frozenset[PeerId]:
        """Who voted."""
        return frozenset(peer for votes in self._votes[view, step].values() for peer in votes)

    def forget(self, keep: Callable[[int], bool]) -> None:
        """Drop the votes of views that `keep` refuses, so that a round of many views stays small."""
        for key in [key for key in self._votes if not keep(key[0])]:
            del self._votes[key]


def open_votes(
    raws: Iterable[bytes], open_: Open, *, run: RunId, round: int, step: Step, header: bytes | None
) -> list[Opened[Vote]]:
    """The votes of distinct voters in `raws`: for `header` and all of one view, or, where that is None, for anything.

    Raises PeerError where one does not fit.
    """
    votes: list[Opened[Vote]] = []
    for raw in raws:
        if len(raw) > MAX_VOTE_BYTES:
            raise PeerError("a vote of more bytes than a vote may have")
        opened = open_(raw).of(Vote)
        vote = opened.record
        if (vote.run, vote.round, vote.phase, vote.step) != (run, round, 0, step):
            raise PeerError("a vote of another run, round or step")
        if header is not None and vote.header != header:
            raise PeerError("a vote for another header")
        if votes and header is not None and vote.view != votes[0].record.view:
            raise PeerError("votes of two views do not add up")
        votes.append(opened)
    if len({vote.signer for vote in votes}) != len(votes):
        raise PeerError("two votes of one voter")
    return votes


def open_quorum(
    prevotes: Iterable[bytes], committee: Committee, open_: Open, *, run: RunId, round: int, view: int, header: Hash
) -> list[Opened[Vote]]:
    """The committee's prevotes for `header` in `view`, if they are a quorum, else none. Raises PeerError where one does
    not fit [V2]."""
    votes = open_votes(prevotes, open_, run=run, round=round, step="prevote", header=header)
    fit = [vote for vote in votes if vote.signer in committee and vote.record.view == view]
    return fit if len(fit) >= committee.q else []


def open_certificate(
    certificate: Certificate, committee: Committee, open_: Open, *, run: RunId, round: int, header: Hash
) -> list[Opened[Vote]]:
    """The precommits that certify `header`. Raises PeerError unless q distinct members of the committee signed [V5]."""
    if (certificate.run, certificate.round, certificate.header) != (run, round, header):
        raise PeerError("a certificate of another header")
    votes = open_votes(certificate.votes, open_, run=run, round=round, step="precommit", header=header)
    strangers = [vote.signer for vote in votes if vote.signer not in committee]
    if strangers:
        raise PeerError(f"a certificate signed by {strangers[0]}, who had no vote")
    if len(votes) < committee.q:
        raise PeerError(f"a certificate with {len(votes)} of {committee.q} signatures")
    return votes
