"""Who is a member: admission, silence, room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.roster import JOIN_LIFETIME, admits, advance, check_newcomers, first_state, peers_of
from primep2p.core.sortition import next_beacon, ranked
from primep2p.model.errors import PeerError
from primep2p.model.records import MAX_MEMBERS, Admission, Join, Member, RosterChange, RoundPolicy, RunState
from tests.core.kit import KERNELS, member, run_spec

RUN = run_spec().hash
OPEN = run_spec().record
PEERS = tuple(sorted(member(i).peer_id for i in range(MAX_MEMBERS + 4)))


def state_of(missed: list[int], *, minimum: int = 1, convicted: tuple[str, ...] = (), round: int = 5) -> RunState:
    members = tuple(Member(PEERS[i], 0, count, KERNELS) for i, count in enumerate(missed))
    return RunState(RUN, round, members, minimum, convicted)


def policy(drop_after: int = 3) -> RoundPolicy:
    return RoundPolicy(drop_after=drop_after)


@pytest.mark.parametrize(
    ("age", "admitted"), [(0, True), (1, True), (JOIN_LIFETIME, True), (JOIN_LIFETIME + 1, False), (-1, False)]
)
def test_a_join_is_good_for_so_many_rounds_and_never_before_its_own(age: int, admitted: bool) -> None:
    join = Join(RUN, 20, (), KERNELS)
    assert admits(OPEN, state_of([0]), PEERS[9], join, round=20 + age) is admitted


def test_neither_members_nor_convicted_peers_are_admitted() -> None:
    join = Join(RUN, 5, (), KERNELS)
    state = state_of([0, 0], convicted=(PEERS[5],))
    assert [admits(OPEN, state, PEERS[i], join, round=6) for i in (0, 5, 6)] == [False, False, True]


def test_an_allowlist_admits_those_on_it_and_the_creator() -> None:
    spec = run_spec(admission=Admission("allowlist", (PEERS[3],))).record
    join = Join(RUN, 0, (), KERNELS)
    assert [admits(spec, None, peer, join, round=0) for peer in (PEERS[3], PEERS[4], spec.creator)].count(True) == (
        3 if PEERS[4] == spec.creator else 2
    )


@pytest.mark.parametrize(("n", "asked", "minimum"), [(1, 0, 1), (3, 0, 3), (4, 0, 4), (9, 0, 4), (9, 2, 2), (3, 8, 8)])
def test_the_first_roster_decides_how_far_silence_may_shrink_it(n: int, asked: int, minimum: int) -> None:
    spec = run_spec(policy=RoundPolicy(first_members=1, min_members=asked)).record
    state, changes = first_state(RUN, spec, {peer: Join(RUN, 0, (), KERNELS) for peer in PEERS[:n]})
    assert (state.min_members, len(changes)) == (minimum, n)


def test_the_most_silent_go_first_and_never_below_the_minimum() -> None:
    state = state_of([5, 2, 9, 0, 5], minimum=3)
    after, changes = advance(state, seen=frozenset((PEERS[3],)), joined=(), policy=policy())
    assert {change.peer for change in changes} == {PEERS[2], PEERS[0]}  # of equals the lower peer id
    assert len(after.members) == 3


def test_one_that_is_heard_again_starts_from_nothing() -> None:
    after, changes = advance(state_of([2, 0]), seen=frozenset(PEERS[:2]), joined=(), policy=policy())
    assert [m.missed for m in after.members] == [0, 0]
    assert changes == ()


def test_newcomers_find_room_before_anybody_is_dropped_and_only_so_many() -> None:
    state = state_of([9] * (MAX_MEMBERS - 1), minimum=MAX_MEMBERS - 1)
    joined = [RosterChange(peer, "joined", KERNELS) for peer in PEERS[MAX_MEMBERS:]]
    after, changes = advance(state, seen=frozenset(), joined=joined, policy=policy())
    assert [c.change for c in changes].count("joined") == 1
    assert [c.change for c in changes].count("dropped") == 1
    assert PEERS[MAX_MEMBERS] in peers_of(after)


_missed = st.lists(st.integers(0, 6), min_size=1, max_size=MAX_MEMBERS)


@given(missed=_missed, seen=st.sets(st.sampled_from(PEERS)), joiners=st.integers(0, 4), minimum=st.integers(1, 16))
def test_a_roster_stays_sorted_small_and_large_enough_and_keeps_whoever_is_heard(
    missed: list[int], seen: set[str], joiners: int, minimum: int
) -> None:
    state = state_of(missed, minimum=minimum)
    joined = [RosterChange(peer, "joined", KERNELS) for peer in PEERS[MAX_MEMBERS : MAX_MEMBERS + joiners]]
    after, changes = advance(state, seen=frozenset(seen), joined=joined, policy=policy())
    again, same = advance(state, seen=frozenset(seen), joined=reversed(joined), policy=policy())
    peers = [m.peer for m in after.members]
    assert (after, changes) == (again, same)
    assert peers == sorted(set(peers))
    assert min(minimum, len(missed)) <= len(peers) <= MAX_MEMBERS
    assert peers_of(state) & seen <= set(peers)
    assert [change.peer for change in changes] == sorted(change.peer for change in changes)
    assert peers_of(after) - peers_of(state) == {c.peer for c in changes if c.change == "joined"}
    assert peers_of(state) - peers_of(after) == {c.peer for c in changes if c.change == "dropped"}


def test_newcomers_of_a_header_are_checked_as_far_as_can_be_seen() -> None:
    good = RosterChange(PEERS[9], "joined", KERNELS)
    check_newcomers(OPEN, state_of([0]), [good])
    for bad in ([good, good], [RosterChange(PEERS[0], "joined", KERNELS)], [RosterChange(PEERS[9], "joined", b"x")]):
        with pytest.raises(PeerError):
            check_newcomers(OPEN, state_of([0]), bad)


@given(st.permutations(PEERS[:6]))
def test_a_draw_depends_on_the_beacon_and_the_role_and_not_on_the_order_of_peers(order: list[str]) -> None:
    beacon = next_beacon(bytes(32), RUN, 1)
    assert ranked(beacon, "committee", tuple(order)) == ranked(beacon, "committee", PEERS[:6])


def test_every_round_draws_anew() -> None:
    draws = {ranked(next_beacon(bytes(32), RUN, round), "committee", PEERS[:6]) for round in range(20)}
    assert len(draws) > 10
    assert ranked(bytes(32), "committee", PEERS) != ranked(bytes(32), "cohort", PEERS)
