"""The certified chain: what a head is, and which checkpoint may follow it [K1, K2]."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from primep2p.core.admission import check_newcomers
from primep2p.core.beacons import check_reveal, next_beacon
from primep2p.core.roster import Turnout, advance, state_hash
from primep2p.core.sortition import cohort_of, committee_of
from primep2p.core.stopping import check_end
from primep2p.core.votes import Committee, Open, open_certificate, open_votes
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.records import (
    FULL_COMMITTEE,
    Checkpoint,
    Departure,
    Header,
    Inclusion,
    Member,
    Newcomer,
    RunSpec,
    RunState,
)
from primep2p.wire.codec import decode, digest
from primep2p.wire.envelope import Opened

__all__ = ["Head", "follow", "header_hash", "trusted_head", "turnout_of"]


@dataclass(frozen=True)
class Head:
    """The newest certified checkpoint, and all that the next round needs of it."""

    run: RunId
    spec: RunSpec
    header: Header
    hash: Hash
    state: RunState
    checkpoint: Checkpoint

    @property
    def round(self) -> int:
        """Of the checkpoint; the round under way is the next."""
        return self.header.round

    @property
    def is_last(self) -> bool:
        """The run is finished."""
        return bool(self.header.ended)

    @cached_property
    def members(self) -> dict[PeerId, Member]:
        """The roster, by peer."""
        return {member.peer: member for member in self.state.members}

    @property
    def is_drawn(self) -> bool:
        """The roster is too large for everybody to vote: a committee is drawn."""
        return len(self.state.members) > FULL_COMMITTEE

    @cached_property
    def committee(self) -> Committee:
        """Who votes in the round under way."""
        return committee_of(self.state, self.header.beacon, self.spec.policy)

    @property
    def revealer(self) -> PeerId:
        """Whose list reveals what the next beacon comes from."""
        return self.committee.members[0]

    @cached_property
    def cohort(self) -> frozenset[PeerId]:
        """Who trains in the round under way."""
        return cohort_of(self.state, self.header.beacon, self.spec.policy, self.spec.least_updates)

    @cached_property
    def due(self) -> frozenset[PeerId]:
        """Who has something to do in the round under way."""
        return self.cohort.union(self.committee.members)

    @cached_property
    def bases(self) -> dict[int, Hash]:
        """The headers that updates of the round under way may start from, by the round that they are for [C4]."""
        return {self.round + 1 - age: base for age, base in enumerate((self.hash, *self.state.bases))}

    def may_enter(self, trainer: PeerId, round: int) -> bool:
        """Whether an update of `trainer` for `round` may enter the checkpoint of the round under way: not if it is too
        old, nor if it or a later one was in a checkpoint before, or is from an earlier time as a member [C4]."""
        member = self.members.get(trainer)
        return trainer in self.cohort and round in self.bases and member is not None and _counts(member, round)


def _counts(member: Member, round: int) -> bool:
    return round > max(member.used, member.since)


def header_hash(raw: bytes) -> Hash:
    """What members vote for."""
    return digest("header", raw)


def follow(head: Head, checkpoint: Checkpoint, open_: Open) -> Head:
    """The head after `head`, once the certificate and the roster changes hold. Raises PeerError [K1]."""
    header, hash_ = decode(Header, checkpoint.header), header_hash(checkpoint.header)
    if (header.run, header.round, header.parent) != (head.run, head.round + 1, head.hash):
        raise PeerError("a checkpoint that does not follow the head")
    committee = head.committee
    open_certificate(checkpoint.certificate, committee, open_, run=head.run, round=header.round, header=hash_)
    check_newcomers(head.spec, head.state, header.joined, round=header.round)
    _check_peers(head, header)
    _check_beacon(head, header)
    check_end(head.spec, header)
    _check_inclusions(head, header)
    state, joined, left = advance(head.state, _turnout(head, header), head.spec.policy)
    if (joined, left) != (header.joined, header.left) or state_hash(state) != header.state:
        raise PeerError("a certified header whose roster changes do not follow from it")
    return Head(head.run, head.spec, header, hash_, state, checkpoint)


def _check_peers(head: Head, header: Header) -> None:
    """Whom a header names besides newcomers: one header must have one spelling, and books that members can have."""
    if not (_ascend(header.seen) and head.members.keys() >= set(header.seen)):
        raise PeerError("a certified header that saw somebody out of order, or who is no member")
    if not (_ascend(header.blamed) and head.cohort.issuperset(header.blamed)):
        raise PeerError("a certified header that blames somebody out of order, or who does not train")
    if not _ascend(departure.peer for departure in header.left):
        raise PeerError("a certified header whose departures are out of order, or twice of one peer")
    for departure in header.left:
        if not _may_leave(head, departure):
            raise PeerError(f"a certified header in which {departure.peer} is {departure.reason}, which cannot be")


def _may_leave(head: Head, departure: Departure) -> bool:
    """Evidence is against members only, and nobody bans the creator; whom silence drops follows from the state."""
    if departure.peer in head.state.expelled:
        return False
    if departure.reason == "banned":
        return departure.peer != head.spec.creator
    return departure.peer in head.members


def _ascend(peers: Iterable[PeerId]) -> bool:
    return all(left < right for left, right in pairwise(peers))


def _check_beacon(head: Head, header: Header) -> None:
    if header.reveal:
        check_reveal(head.members[head.revealer], header.reveal, header.round)
    if header.beacon != next_beacon(head.header.beacon, head.run, header.round, header.reveal):
        raise PeerError("a certified header whose beacon does not follow")


def _check_inclusions(head: Head, header: Header) -> None:
    """Nothing enters twice, whatever a quorum signed: what counts no more follows from what entered [C4]."""
    if not head.spec.policy.is_buffered:
        return
    if not _ascend(inclusion.trainer for inclusion in header.inclusions):
        raise PeerError("a certified header whose inclusions are out of order, or two of one member")
    for inclusion in header.inclusions:
        if not head.may_enter(inclusion.trainer, header.round - inclusion.staleness):
            raise PeerError(f"a certified header with an update of {inclusion.trainer} that does not count any more")


def _turnout(head: Head, header: Header) -> Turnout:
    """What a header says of its round. Whom silence drops is not among it: that follows."""
    return turnout_of(
        head,
        seen=frozenset(header.seen),
        blamed=frozenset(header.blamed),
        reveal=header.reveal,
        newcomers=header.joined,
        expelled=tuple(departure for departure in header.left if departure.reason in ("convicted", "banned")),
        leaving=frozenset(departure.peer for departure in header.left if departure.reason == "left"),
        inclusions=header.inclusions,
    )


def turnout_of(
    head: Head,
    *,
    seen: frozenset[PeerId],
    blamed: frozenset[PeerId],
    reveal: bytes,
    newcomers: tuple[Newcomer, ...],
    expelled: tuple[Departure, ...],
    leaving: frozenset[PeerId],
    inclusions: Iterable[Inclusion],
) -> Turnout:
    """What the round after `head` shows of its members."""
    used: dict[PeerId, int] = {}
    if head.spec.policy.is_buffered:
        used = {inclusion.trainer: head.round + 1 - inclusion.staleness for inclusion in inclusions}
        used |= dict.fromkeys(blamed, head.round + 1)
    return Turnout(
        due=_due(head, seen),
        seen=seen,
        blamed=blamed,
        revealer=head.revealer,
        reveal=reveal,
        newcomers=newcomers,
        expelled=expelled,
        leaving=leaving,
        parent=head.hash,
        used=used,
    )


def _due(head: Head, seen: frozenset[PeerId]) -> frozenset[PeerId]:
    """Who is due in the round after `head` [M3]. Where training outlasts rounds, a member that only trains may be
    silent as long as what it comes back with could still count."""
    if not head.spec.policy.is_buffered:
        return head.due
    oldest = head.round + 1 - head.spec.policy.max_staleness
    trainers = (head.members[peer] for peer in head.cohort)
    owing = (m.peer for m in trainers if m.peer in seen or max(m.heard, m.since) < oldest)
    return frozenset(owing).union(head.committee.members)


def trusted_head(spec: Opened[RunSpec], checkpoint: Checkpoint, state: bytes, open_: Open) -> Head:
    """A head that is taken on trust: from this node's own store, or because its hash is pinned. Who had a vote is not
    known, so that only the votes' shape can be checked. Raises PeerError where the parts do not belong together [K2].
    """
    header, members = decode(Header, checkpoint.header), decode(RunState, state)
    if digest("state", state) != header.state or (header.run, members.run) != (spec.hash, spec.hash):
        raise PeerError("a state that is not the one that the header names")
    if members.round != header.round:
        raise PeerError("a state of another round than its header")
    hash_ = header_hash(checkpoint.header)
    votes = open_votes(
        checkpoint.certificate.votes, open_, run=spec.hash, round=header.round, step="precommit", header=hash_
    )
    if (checkpoint.certificate.round, checkpoint.certificate.header) != (header.round, hash_) or not votes:
        raise PeerError("a certificate that is not the header's")
    return Head(spec.hash, spec.record, header, hash_, members, checkpoint)
