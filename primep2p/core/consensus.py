"""Agreement on one header in one round: Tendermint, arXiv:1807.04938, algorithm 1.

Where the paper has 2f+1 there is q, for the f+1 of its line 55 there is k. Headers are hashes here: what they say and
whether that is right is judged outside. Views are the paper's rounds. Two differences, neither of which touches
safety: a quorum of nil precommits begins the next view at once, and a proposer that is known to be away is not waited
for. docs/protocol.md has the rules [V1-V6].
"""

from dataclasses import dataclass
from typing import Literal

from primep2p.core.votes import Committee, Tally
from primep2p.model.ids import NIL, Hash, PeerId
from primep2p.model.records import Proposal, RoundPolicy, Step, Vote
from primep2p.wire.envelope import Opened

__all__ = [
    "FAR_VIEWS",
    "Action",
    "Await",
    "Cast",
    "Consensus",
    "Decide",
    "Entered",
    "Move",
    "Phase",
    "Propose",
    "Timeout",
]

FAR_VIEWS = 2
"""Messages further ahead than this many views count towards line 55 only, one slot a member."""

KEPT_VIEWS = 3
"""Votes of older views are dropped, but for those that prove the lock and the valid value."""

Phase = Literal["propose", "prevote", "precommit"]


@dataclass(frozen=True, slots=True)
class Timeout:
    """The end of a step that nothing else ended."""

    view: int
    step: Phase


@dataclass(frozen=True, slots=True)
class Cast:
    """Vote: to be signed, journalled, sent, and counted."""

    view: int
    step: Step
    header: bytes


@dataclass(frozen=True, slots=True)
class Propose:
    """It is this node's turn: put forward the valid header of `valid_view`, or (-1) a new one."""

    view: int
    valid_view: int
    header: Hash | None


@dataclass(frozen=True, slots=True)
class Move:
    """A quorum of prevotes made `header` the valid value, and the lock where `locked`: to be journalled."""

    view: int
    header: Hash
    locked: bool


@dataclass(frozen=True, slots=True)
class Await:
    """Start the timer of a step."""

    timeout: Timeout
    after_s: float


@dataclass(frozen=True, slots=True)
class Entered:
    """A new view began."""

    view: int


@dataclass(frozen=True, slots=True)
class Decide:
    """A quorum of precommits: the round is decided."""

    view: int
    header: Hash


Action = Cast | Propose | Move | Await | Entered | Decide


class Consensus:
    """One member's part in one round's agreement. `me` may be no committee member: then it only watches."""

    def __init__(self, committee: Committee, me: PeerId, policy: RoundPolicy) -> None:
        self.committee = committee
        self.me = me
        self.policy = policy
        self.view = 0
        self.step: Phase = "propose"
        self.locked: tuple[int, Hash] | None = None
        self.valid: tuple[int, Hash] | None = None
        self.tally = Tally(committee)
        self.started = False
        self.decided = False
        self.away: frozenset[PeerId] = frozenset()
        self._proposals: dict[int, Proposal] = {}
        self._verdicts: dict[Hash, bool] = {}
        self._proven: set[tuple[int, Hash]] = set()
        self._once: set[tuple[int, str]] = set()

    # ---- what happens to it

    def start(self) -> list[Action]:
        """Time counts from now on: this node has collected what it could."""
        if self.started:
            return []
        self.started = True
        return self._begin_step() + self._advance()

    def on_proposal(self, proposal: Proposal) -> list[Action]:
        """The proposer of its view put this forward; it counts once its header is judged."""
        self.tally.reach(self.committee.proposer(proposal.view), proposal.view)
        if proposal.view <= self.view + FAR_VIEWS:
            self._proposals.setdefault(proposal.view, proposal)
        return self._advance()

    def on_vote(self, vote: Opened[Vote]) -> list[Action]:
        """A committee member voted."""
        if self.is_far(vote.record.view):
            self.tally.reach(vote.signer, vote.record.view)
        else:
            self.tally.add(vote)
        return self._advance()

    def on_proof(self, view: int, header: Hash) -> list[Action]:
        """A quorum of prevotes for `header` in `view` was shown, as envelopes."""
        self._proven.add((view, header))
        return self._advance()

    def on_verdict(self, header: Hash, valid: bool) -> list[Action]:
        """This node has checked the header against its own aggregation."""
        self._verdicts.setdefault(header, valid)
        return self._advance()

    def on_timeout(self, timeout: Timeout) -> list[Action]:
        """Lines 57 to 67."""
        if timeout.view != self.view or timeout.step not in (self.step, "precommit") or self.me not in self.committee:
            return []
        match timeout.step:
            case "propose":
                return self._cast("prevote", NIL) + self._advance()
            case "prevote":
                return self._cast("precommit", NIL) + self._advance()
            case "precommit":
                return self._enter(self.view + 1) + self._advance()

    def on_away(self, away: frozenset[PeerId]) -> list[Action]:
        """These members have no connection to this node."""
        self.away = away
        return self._advance()

    def restore_move(self, view: int, header: Hash, prevotes: list[Opened[Vote]], *, locked: bool) -> None:
        """A move from the journal, with the quorum that proves it."""
        self.valid = (view, header)
        if locked:
            self.locked = (view, header)
        for vote in prevotes:
            self.tally.add(vote)

    def resume(self, view: int, step: Phase) -> None:
        """Back to where the journal says this node was; after the moves."""
        self.view, self.step = view, step

    def is_far(self, view: int) -> bool:
        """Too far ahead to be kept."""
        return view > self.view + FAR_VIEWS

    def judged(self, header: Hash) -> bool:
        """Whether this node has checked it."""
        return header in self._verdicts

    def keeps(self, view: int) -> bool:
        """Whether votes of `view` may still matter."""
        proofs = {moved[0] for moved in (self.locked, self.valid) if moved}
        return view >= self.view - KEPT_VIEWS or view in proofs

    # ---- the rules

    def _advance(self) -> list[Action]:
        """Apply rules until none fires."""
        actions: list[Action] = []
        while not self.decided and (fired := self._fire()):
            actions += fired
        return actions

    def _fire(self) -> list[Action]:
        if self.me not in self.committee:
            return self._decide()
        for rule in (self._decide, self._catch_up, self._prevote, self._move, self._precommit_nil, self._wait):
            if actions := rule():
                return actions
        return []

    def _decide(self) -> list[Action]:
        """Line 49. The certificate is enough, whatever this node made of the header."""
        if (decision := self.tally.decided()) is None:
            return []
        self.decided = True
        return [Decide(*decision)]

    def _catch_up(self) -> list[Action]:
        """Line 55: k members are further, so one honest member is."""
        reached = self.tally.reached_by_k()
        return self._enter(reached) if reached > self.view else []

    def _prevote(self) -> list[Action]:
        """Lines 22 to 33."""
        if self.step != "propose":
            return []
        proposal = self._proposals.get(self.view)
        if proposal is None:
            gone = self.started and self.committee.proposer(self.view) in self.away
            return self._cast("prevote", NIL) if gone else []
        header, valid_view = proposal.header, proposal.valid_view
        if valid_view >= self.view:
            return self._cast("prevote", NIL)
        if valid_view >= 0 and not self._prevoted(valid_view, header):
            return []
        if header not in self._verdicts:
            return []
        free = self.locked is None or self.locked[1] == header or self.locked[0] <= valid_view
        return self._cast("prevote", header if self._verdicts[header] and free else NIL)

    def _move(self) -> list[Action]:
        """Line 36: a quorum of prevotes for what this node has checked."""
        proposal = self._proposals.get(self.view)
        if self.step == "propose" or proposal is None or (self.view, "move") in self._once:
            return []
        header = proposal.header
        if not self._verdicts.get(header) or not self.tally.has_quorum(self.view, "prevote", header):
            return []
        self._once.add((self.view, "move"))
        self.valid = (self.view, header)
        if self.step != "prevote":
            return [Move(self.view, header, locked=False)]
        self.locked = (self.view, header)
        return [Move(self.view, header, locked=True), *self._cast("precommit", header)]

    def _precommit_nil(self) -> list[Action]:
        """Line 44."""
        if self.step == "prevote" and self.tally.has_quorum(self.view, "prevote", NIL):
            return self._cast("precommit", NIL)
        return []

    def _wait(self) -> list[Action]:
        """Lines 34 and 47; and a quorum of nil precommits ends the view at once."""
        if self.tally.has_quorum(self.view, "precommit", NIL):
            return self._enter(self.view + 1)
        for step in ("prevote", "precommit"):
            due = self.step == "prevote" if step == "prevote" else True
            if due and (self.view, step) not in self._once and self.tally.has_any_quorum(self.view, step):
                self._once.add((self.view, step))
                return [Await(Timeout(self.view, step), self._after(self.policy.vote_s))]
        return []

    def _prevoted(self, view: int, header: Hash) -> bool:
        return (view, header) in self._proven or self.tally.has_quorum(view, "prevote", header)

    def _enter(self, view: int) -> list[Action]:
        """Line 11."""
        self.view, self.step = view, "propose"
        self.started = True
        for old in [v for v in self._proposals if not self.keeps(v)]:
            del self._proposals[old]
        return [Entered(view), *self._begin_step()]

    def _begin_step(self) -> list[Action]:
        if self.me not in self.committee or self.step != "propose":
            return []
        due = Await(Timeout(self.view, "propose"), self._after(self.policy.propose_s))
        if self.committee.proposer(self.view) != self.me:
            return [due]
        valid_view, header = self.valid or (-1, None)
        return [due, Propose(self.view, valid_view, header)]

    def _cast(self, step: Step, header: bytes) -> list[Action]:
        self.step = step
        return [Cast(self.view, step, header)]

    def _after(self, base_s: float) -> float:
        """Time-outs grow linearly with the view, to a cap [V4]."""
        return min(base_s * (1 + self.view), self.policy.step_cap_s)
