"""Every rule of algorithm 1 (arXiv:1807.04938), one at a time, on one member among four; and what the lock is for."""

from collections import deque

import pytest

from primep2p.core.consensus import (
    FAR_VIEWS,
    KEPT_VIEWS,
    Action,
    Await,
    Cast,
    Consensus,
    Decide,
    Entered,
    Move,
    Propose,
    Timeout,
)
from primep2p.core.votes import Committee
from primep2p.model.ids import Hash
from primep2p.model.records import Proposal, RoundPolicy, Step, Vote
from primep2p.wire.envelope import Opened
from tests.core.mutants import WithoutLock

RUN = bytes(32)
A, B = b"a" * 32, b"b" * 32
POLICY = RoundPolicy(propose_s=4.0, vote_s=1.0, step_cap_s=10.0)
MEMBERS = ("m0", "m1", "m2", "m3")
FOUR = Committee(MEMBERS, 3)


def vote(voter: int, header: bytes, *, view: int = 0, step: Step = "prevote") -> Opened[Vote]:
    return Opened(Vote(RUN, 1, 0, view, step, header), MEMBERS[voter], bytes(32), f"{voter}{view}{step}".encode())


def proposal(header: Hash, *, view: int = 0, valid_view: int = -1) -> Proposal:
    return Proposal(RUN, 1, 0, view, valid_view, header)


class Member:
    """A consensus machine whose own votes are counted, as its round does."""

    def __init__(self, me: int = 3, machine: type[Consensus] = Consensus, *, started: bool = True) -> None:
        self.me = me
        self.machine = machine(FOUR, MEMBERS[me], POLICY)
        self.done: list[Action] = []
        if started:
            self.do(self.machine.start())

    def do(self, actions: list[Action]) -> list[Action]:
        queue, before = deque(actions), len(self.done)
        while queue:
            action = queue.popleft()
            self.done.append(action)
            if isinstance(action, Cast):
                queue.extend(self.machine.on_vote(vote(self.me, action.header, view=action.view, step=action.step)))
        return self.done[before:]

    def hear(self, header: bytes, *voters: int, view: int = 0, step: Step = "prevote") -> list[Action]:
        return [a for voter in voters for a in self.do(self.machine.on_vote(vote(voter, header, view=view, step=step)))]

    def told(self, header: Hash, *, view: int = 0, valid_view: int = -1, valid: bool | None = True) -> list[Action]:
        out = self.do(self.machine.on_proposal(proposal(header, view=view, valid_view=valid_view)))
        return out if valid is None else out + self.do(self.machine.on_verdict(header, valid))

    def expire(self, step: str, *, view: int = 0) -> list[Action]:
        return self.do(self.machine.on_timeout(Timeout(view, step)))  # type: ignore[arg-type]

    def cast(self, step: Step, *, view: int = 0) -> list[bytes]:
        return [a.header for a in self.done if isinstance(a, Cast) and (a.step, a.view) == (step, view)]

    def next_view(self, view: int) -> None:
        """Everybody gives up on `view`."""
        self.hear(b"", 0, 1, 2, view=view, step="precommit")


def locked_on(header: Hash, me: int = 3) -> Member:
    """A member that locked `header` in view 0 and is in view 1."""
    member = Member(me)
    member.told(header)
    member.hear(header, *[voter for voter in range(4) if voter != me][:2])
    assert member.machine.locked == (0, header)
    others = [voter for voter in range(4) if voter != me]
    member.hear(b"", *others, step="precommit")
    assert member.machine.view == 1
    return member


# ---- lines 11 to 21: beginning a view


def test_the_proposer_of_a_view_proposes_and_nobody_else() -> None:
    assert Member(0).done == [Await(Timeout(0, "propose"), 4.0), Propose(0, -1, None)]
    assert Member(1).done == [Await(Timeout(0, "propose"), 4.0)]


def test_a_proposer_with_a_valid_value_puts_that_forward_again() -> None:
    member = locked_on(A, me=1)
    assert Propose(1, 0, A) in member.done


def test_nothing_is_timed_before_it_starts_and_it_starts_once() -> None:
    member = Member(started=False)
    assert member.done == []
    assert member.do(member.machine.start()) != []
    assert member.do(member.machine.start()) == []


def test_time_outs_grow_with_the_view_to_their_cap() -> None:
    member = Member()
    for view in range(4):
        member.next_view(view)
    waits = [a.after_s for a in member.done if isinstance(a, Await) and a.timeout.step == "propose"]
    assert waits == [4.0, 8.0, 10.0, 10.0, 10.0]


# ---- lines 22 to 27: a new proposal


def test_a_right_new_proposal_is_prevoted() -> None:
    member = Member()
    assert member.told(A) == [Cast(0, "prevote", A)]


def test_a_wrong_new_proposal_is_prevoted_nil() -> None:
    member = Member()
    assert member.told(A, valid=False) == [Cast(0, "prevote", b"")]


def test_a_proposal_is_not_prevoted_before_it_is_judged() -> None:
    assert Member().told(A, valid=None) == []


def test_a_locked_member_prevotes_nil_for_another_new_proposal_and_its_lock_for_the_same() -> None:
    member = locked_on(A)
    member.told(B, view=1)
    assert member.cast("prevote", view=1) == [b""]
    member = locked_on(A)
    member.told(A, view=1)
    assert member.cast("prevote", view=1) == [A]


def test_only_the_first_proposal_of_a_view_counts() -> None:
    member = Member()
    member.told(A)
    member.told(B)
    assert member.cast("prevote") == [A]


# ---- lines 28 to 33: a proposal put forward again


def test_a_proposal_put_forward_again_waits_for_the_prevotes_that_vouch_for_it() -> None:
    member = Member()
    member.next_view(0)
    assert member.told(B, view=1, valid_view=0) == []
    member.hear(B, 0, 1, 2, view=0)
    assert member.cast("prevote", view=1) == [B]


def test_a_proof_that_is_shown_is_as_good_as_votes_that_were_heard() -> None:
    member = Member()
    member.next_view(0)
    member.told(B, view=1, valid_view=0)
    assert Cast(1, "prevote", B) in member.do(member.machine.on_proof(0, B))


@pytest.mark.parametrize(("view", "header"), [(0, A), (1, B)], ids=["another header", "another view"])
def test_a_proof_of_something_else_vouches_for_nothing(view: int, header: Hash) -> None:
    member = Member()
    member.next_view(0)
    member.told(B, view=1, valid_view=0)
    assert member.do(member.machine.on_proof(view, header)) == []


def test_a_lock_gives_way_to_a_quorum_of_prevotes_that_is_not_older() -> None:
    member = locked_on(A)
    member.next_view(1)
    member.told(B, view=2, valid_view=1)
    member.hear(B, 0, 1, 2, view=1)
    assert member.cast("prevote", view=2) == [B]


def test_a_lock_does_not_give_way_to_an_older_quorum_of_prevotes() -> None:
    member = Member()
    member.next_view(0)
    member.told(A, view=1)
    member.hear(A, 0, 1, view=1)
    assert member.machine.locked == (1, A)
    member.next_view(1)
    member.told(B, view=2, valid_view=0)
    member.do(member.machine.on_proof(0, B))
    assert member.cast("prevote", view=2) == [b""]


def test_a_valid_view_that_is_not_before_the_proposals_own_is_prevoted_nil() -> None:
    member = Member()
    member.told(A, valid_view=0)
    assert member.cast("prevote") == [b""]


# ---- lines 34 and 61: prevotes for whatever


def test_a_quorum_of_mixed_prevotes_starts_one_time_out_after_which_it_precommits_nil() -> None:
    member = Member()
    member.told(A)
    assert member.hear(b"", 0) == []
    assert member.hear(B, 1) == [Await(Timeout(0, "prevote"), 1.0)]
    assert member.hear(b"", 2) == []
    assert member.expire("prevote") == [Cast(0, "precommit", b"")]


def test_a_prevote_time_out_of_another_step_or_view_changes_nothing() -> None:
    member = Member()
    assert member.expire("prevote") == []
    member.told(A)
    assert member.expire("prevote", view=1) == []


# ---- line 36: a quorum of prevotes moves the lock


def test_a_quorum_of_prevotes_locks_and_is_journalled_before_the_precommit() -> None:
    member = Member()
    member.told(A)
    assert member.hear(A, 0, 1)[:2] == [Move(0, A, locked=True), Cast(0, "precommit", A)]
    assert (member.machine.locked, member.machine.valid) == ((0, A), (0, A))


def test_a_quorum_of_prevotes_after_the_precommit_moves_the_valid_value_alone() -> None:
    member = Member()
    member.told(A)
    member.hear(b"", 0, 1)
    member.expire("prevote")
    assert member.hear(A, 1, 2) == [Move(0, A, locked=False)]
    assert (member.machine.locked, member.machine.valid) == (None, (0, A))


def test_a_quorum_of_prevotes_for_what_was_not_judged_right_moves_nothing() -> None:
    member = Member()
    member.told(A, valid=False)
    member.hear(A, 0, 1, 2)
    assert (member.machine.locked, member.machine.valid) == (None, None)
    assert member.cast("precommit") == []


def test_a_lock_moves_once_a_view() -> None:
    member = Member()
    member.told(A)
    member.hear(A, 0, 1, 2)
    assert sum(isinstance(action, Move) for action in member.done) == 1


# ---- lines 44, 57, 65: nil


def test_a_quorum_of_nil_prevotes_is_precommitted_nil() -> None:
    member = Member()
    member.expire("propose")
    assert member.cast("prevote") == [b""]
    member.hear(b"", 0, 1)
    assert member.cast("precommit") == [b""]


def test_a_propose_time_out_after_the_prevote_changes_nothing() -> None:
    member = Member()
    member.told(A)
    assert member.expire("propose") == []


def test_a_proposer_that_is_away_is_not_waited_for_once_time_counts() -> None:
    member = Member(started=False)
    assert member.do(member.machine.on_away(frozenset(("m0",)))) == []
    assert Cast(0, "prevote", b"") in member.do(member.machine.start())


def test_somebody_else_who_is_away_changes_nothing() -> None:
    member = Member()
    assert member.do(member.machine.on_away(frozenset(("m1", "m2")))) == []


# ---- lines 47 and 65: precommits for whatever


def test_a_quorum_of_mixed_precommits_starts_a_time_out_after_which_the_next_view_begins() -> None:
    member = Member()
    member.hear(A, 0, step="precommit")
    assert member.hear(b"", 1, 2, step="precommit") == [Await(Timeout(0, "precommit"), 1.0)]
    assert Entered(1) in member.expire("precommit")


def test_a_quorum_of_nil_precommits_begins_the_next_view_at_once() -> None:
    member = Member()
    assert Entered(1) in member.hear(b"", 0, 1, 2, step="precommit")


# ---- line 55: others are further


def test_k_members_in_a_later_view_take_it_there_and_one_does_not() -> None:
    member = Member()
    assert member.hear(b"", 0, view=9) == []
    assert Entered(9) in member.hear(b"", 1, view=9)
    assert Member().hear(b"", 0, 0, 0, view=9) == []


def test_a_far_vote_is_not_kept_but_shows_where_its_voter_is() -> None:
    member = Member()
    far = FAR_VIEWS + 1
    member.hear(A, 0, view=far)
    assert member.machine.tally.voters(far, "prevote") == frozenset()
    member.hear(A, 0, view=far - 1)
    assert member.machine.tally.voters(far - 1, "prevote") == {"m0"}


def test_old_views_are_kept_only_where_a_lock_rests_on_them() -> None:
    member = locked_on(A)
    for view in range(1, KEPT_VIEWS + 3):
        member.next_view(view)
    assert [view for view in range(6) if member.machine.keeps(view)] == [0, 3, 4, 5]


# ---- line 49: deciding


@pytest.mark.parametrize("view", [0, 1, 2])
def test_a_quorum_of_precommits_decides_in_any_view_whatever_this_node_made_of_the_header(view: int) -> None:
    member = Member()
    member.told(A, valid=False)
    assert member.hear(A, 0, 1, 2, view=view, step="precommit")[-1] == Decide(view, A)
    assert member.hear(B, 0, 1, 2, view=view, step="precommit") == []


def test_one_that_has_no_vote_only_watches() -> None:
    watcher = Consensus(FOUR, "somebody else", POLICY)
    actions = watcher.start()
    actions += watcher.on_proposal(proposal(A)) + watcher.on_verdict(A, True)
    assert actions == []
    for voter in range(3):
        actions += watcher.on_vote(vote(voter, A, step="precommit"))
    assert actions == [Decide(0, A)]


# ---- coming back


def test_a_member_that_comes_back_votes_in_no_step_that_it_has_left() -> None:
    member = Member(started=False)
    member.machine.resume(1, "precommit")
    member.do(member.machine.start())
    member.told(A, view=1)
    member.hear(A, 0, 1, 2, view=1)
    member.expire("propose", view=1)
    member.expire("prevote", view=1)
    assert [action for action in member.done if isinstance(action, Cast)] == []
    assert member.machine.valid == (1, A)


def test_a_member_that_comes_back_in_step_prevote_precommits_what_the_others_prevoted() -> None:
    member = Member(started=False)
    member.machine.resume(0, "prevote")
    member.do(member.machine.on_vote(vote(3, A)))
    member.do(member.machine.start())
    member.told(A)
    member.hear(A, 0, 1)
    assert (member.cast("prevote"), member.cast("precommit")) == ([], [A])


# ---- what the lock is for


def _split_brain(machine: type[Consensus]) -> set[Hash]:
    """Member 1 lies. In view 0 only member 0 hears the precommits for A; in view 1 the liar proposes B to the rest."""
    zero, two, three = (Member(me, machine) for me in (0, 2, 3))
    for member in (zero, two, three):
        member.told(A)
    zero.hear(A, 1, 2)
    two.hear(A, 0, 1)
    three.hear(A, 0)
    three.hear(b"", 1)
    three.expire("prevote")  # it knows of no quorum
    zero.hear(A, 1, 2, step="precommit")  # and decides
    two.hear(b"", 1, 3, step="precommit")
    three.hear(b"", 1, step="precommit")
    three.hear(A, 2, step="precommit")
    for member in (two, three):
        member.expire("precommit")
        member.told(B, view=1)
    for step in ("prevote", "precommit"):
        for member, other in ((two, three), (three, two)):
            for header in other.cast(step, view=1):  # type: ignore[arg-type]
                member.hear(header, other.me, view=1, step=step)  # type: ignore[arg-type]
            member.hear(B, 1, view=1, step=step)  # type: ignore[arg-type]
    return {action.header for member in (zero, two, three) for action in member.done if isinstance(action, Decide)}


def test_a_split_brain_forks_without_the_lock() -> None:
    assert _split_brain(WithoutLock) == {A, B}


def test_a_split_brain_does_not_fork_with_the_lock() -> None:
    assert _split_brain(Consensus) == {A}
