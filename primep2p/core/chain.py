"""The certified chain: what a head is, and which checkpoint may follow it [K1, K2]."""

from dataclasses import dataclass
from functools import cached_property

from primep2p.core.roster import advance, check_newcomers, committee_of, state_hash
from primep2p.core.sortition import cohort_of
from primep2p.core.votes import Committee, Open, open_certificate, open_votes
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.records import Checkpoint, Header, RunSpec, RunState
from primep2p.wire.codec import decode, digest
from primep2p.wire.envelope import Opened

__all__ = ["Head", "follow", "header_hash", "trusted_head"]


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
        rounds = self.spec.policy.rounds
        return rounds > 0 and self.round >= rounds

    @cached_property
    def committee(self) -> Committee:
        """Who votes in the round under way."""
        return committee_of(self.state, self.header.beacon, self.spec.policy)

    @cached_property
    def cohort(self) -> frozenset[PeerId]:
        """Who trains in the round under way."""
        return cohort_of(self.state)


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
    joined = [change for change in header.changes if change.change == "joined"]
    check_newcomers(head.spec, head.state, joined)
    state, changes = advance(head.state, seen=frozenset(header.seen), joined=joined, policy=head.spec.policy)
    if changes != header.changes or state_hash(state) != header.state:
        raise PeerError("a certified header whose roster changes do not follow from it")
    return Head(head.run, head.spec, header, hash_, state, checkpoint)


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
