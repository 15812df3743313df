"""Headers with the votes that vouch for them: proposals as others can check them, what a lock rests on, and the
checkpoint in the end.
"""

import msgspec

from primep2p.core.candidates import Candidates
from primep2p.core.chain import Head
from primep2p.core.gossip import in_messages
from primep2p.core.votes import Open, Tally, open_quorum
from primep2p.model.ids import Hash
from primep2p.model.journal import Moved
from primep2p.model.messages import Proposed, Records
from primep2p.model.records import Certificate, Checkpoint, Proposal
from primep2p.wire.envelope import Opened

__all__ = ["Vouching"]


class Vouching:
    """Of one round. `candidates` has the headers, `tally` the votes that this node counts."""

    def __init__(self, head: Head, candidates: Candidates, tally: Tally) -> None:
        self._head = head
        self._candidates = candidates
        self._tally = tally
        self._proofs: dict[tuple[int, Hash], tuple[bytes, ...]] = {}
        """Quorums of prevotes that proposals brought: whom they convinced can convince others."""

    def add_proof(self, proposal: Proposal, prevotes: tuple[bytes, ...], open_: Open) -> bool:
        """The prevotes that a proposal put forward again brings; whether they are a quorum. Raises PeerError where one
        does not fit."""
        head, view, header = self._head, proposal.valid_view, proposal.header
        if view < 0 or not prevotes:
            return False
        votes = open_quorum(
            prevotes, head.committee, open_, run=head.run, round=head.round + 1, view=view, header=header
        )
        if votes:
            self._proofs[view, header] = tuple(vote.raw for vote in votes)
        return bool(votes)

    def proposed(self, opened: Opened[msgspec.Struct]) -> Proposed | None:
        """The message that carries a proposal with all it takes to check it."""
        proposal = opened.record
        if not isinstance(proposal, Proposal) or proposal.header not in self._candidates:
            return None
        candidate = self._candidates[proposal.header]
        prevotes: tuple[bytes, ...] = ()
        if proposal.valid_view >= 0:
            counted = self._tally.quorum(proposal.valid_view, "prevote", proposal.header)
            prevotes = self._proofs.get((proposal.valid_view, proposal.header), counted)
        return Proposed(self._head.run, opened.raw, candidate.raw, candidate.bundle_raw, prevotes)

    def messages(self, records: list[Opened[msgspec.Struct]]) -> list[Records | Proposed]:
        """What carries these: proposals with what it takes to check them, all others together."""
        plain = [opened.raw for opened in records if not isinstance(opened.record, Proposal)]
        proposed = [message for opened in records if (message := self.proposed(opened)) is not None]
        return [*in_messages(self._head.run, plain), *proposed]

    def moved(self, view: int, header: Hash, locked: bool) -> Moved:
        """The quorum of prevotes that moves this node's valid value, and its lock."""
        candidate = self._candidates[header]
        prevotes = self._tally.quorum(view, "prevote", header)
        return Moved(view, locked, candidate.raw, candidate.bundle_raw, prevotes)

    def checkpoint(self, view: int, header: Hash) -> Checkpoint | None:
        """What was decided in `view`; None while the header itself is still to come."""
        if header not in self._candidates:
            return None
        votes = self._tally.quorum(view, "precommit", header)
        certificate = Certificate(self._head.run, self._head.round + 1, header, votes)
        return Checkpoint(self._candidates[header].raw, certificate)
