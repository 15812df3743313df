"""Who is a member: silence, room, who is expelled, and each member's books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.roster import Turnout, advance, first_state, peers_of
from primep2p.model.ids import PeerId
from primep2p.model.records import (
    MAX_MEMBERS,
    Departure,
    Member,
    Newcomer,
    RoundPolicy,
    RunState,
)
from tests.core.kit import KERNELS, run_spec

RUN = run_spec().hash
ANCHOR = bytes(32)
PEERS = tuple(f"peer {i:04}" for i in range(MAX_MEMBERS + 4))


def state_of(missed: list[int], *, minimum: int = 1, expelled: tuple[PeerId, ...] = (), round: int = 5) -> RunState:
    members = tuple(Member(PEERS[i], 0, count, KERNELS, ANCHOR, 0) for i, count in enumerate(missed))
    return RunState(RUN, round, members, minimum, expelled)


def newcomers(first: int, count: int) -> tuple[Newcomer, ...]:
    return tuple(Newcomer(peer, KERNELS, ANCHOR, 5) for peer in PEERS[first : first + count])


def turnout(
    state: RunState,
    seen: frozenset[PeerId],
    joining: tuple[Newcomer, ...] = (),
    expelled: tuple[Departure, ...] = (),
) -> Turnout:
    """A round in which everybody was due."""
    return Turnout(peers_of(state), seen, newcomers=joining, expelled=expelled)


def policy(drop_after: int = 3) -> RoundPolicy:
    return RoundPolicy(drop_after=drop_after)


@pytest.mark.parametrize(("n", "asked", "minimum"), [(1, 0, 1), (3, 0, 3), (4, 0, 4), (9, 0, 4), (9, 2, 2), (3, 8, 8)])
def test_the_first_roster_decides_how_far_silence_may_shrink_it(n: int, asked: int, minimum: int) -> None:
    state = first_state(RUN, RoundPolicy(first_members=1, min_members=asked), newcomers(0, n))
    assert (state.min_members, len(state.members)) == (minimum, n)


def test_the_most_silent_go_first_and_never_below_the_minimum() -> None:
    state = state_of([5, 2, 9, 0, 5], minimum=3)
    after, _, left = advance(state, turnout(state, frozenset((PEERS[3],))), policy())
    assert left == (Departure(PEERS[0], "dropped"), Departure(PEERS[2], "dropped"))  # of equals the lower peer id
    assert len(after.members) == 3


def test_one_that_is_heard_again_starts_from_nothing() -> None:
    state = state_of([2, 0])
    after, joined, left = advance(state, turnout(state, frozenset(PEERS[:2])), policy())
    assert [m.missed for m in after.members] == [0, 0]
    assert (joined, left) == ((), ())


def test_newcomers_find_room_before_anybody_is_dropped_and_only_so_many() -> None:
    state = state_of([9] * (MAX_MEMBERS - 1), minimum=MAX_MEMBERS - 1)
    after, joined, left = advance(state, turnout(state, frozenset(), newcomers(MAX_MEMBERS, 4)), policy())
    assert [newcomer.peer for newcomer in joined] == [PEERS[MAX_MEMBERS]]
    assert [departure.reason for departure in left] == ["dropped"]
    assert PEERS[MAX_MEMBERS] in peers_of(after)


_missed = st.lists(st.integers(0, 6), min_size=1, max_size=24)


@given(missed=_missed, seen=st.sets(st.sampled_from(PEERS[:24])), joiners=st.integers(0, 4), minimum=st.integers(1, 16))
def test_a_roster_stays_sorted_small_and_large_enough_and_keeps_whoever_is_heard(
    missed: list[int], seen: set[str], joiners: int, minimum: int
) -> None:
    state = state_of(missed, minimum=minimum)
    after, joined, left = advance(state, turnout(state, frozenset(seen), newcomers(24, joiners)), policy())
    peers = [m.peer for m in after.members]
    assert peers == sorted(set(peers))
    assert min(minimum, len(missed)) <= len(peers) <= MAX_MEMBERS
    assert peers_of(state) & seen <= set(peers)
    assert [departure.peer for departure in left] == sorted(departure.peer for departure in left)
    assert peers_of(after) - peers_of(state) == {newcomer.peer for newcomer in joined}
    assert peers_of(state) - peers_of(after) == {departure.peer for departure in left}
