"""Who is a member: silence, room, who is expelled, and each member's books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.roster import Turnout, advance, first_state, peers_of
from primep2p.model.ids import PeerId
from primep2p.model.records import (
    MAX_EXPELLED,
    MAX_MEMBERS,
    Departure,
    InviteUse,
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


# ---- books


_peers = st.sets(st.sampled_from(PEERS[:12]))


@given(missed=st.lists(st.integers(0, 6), min_size=1, max_size=12), due=_peers, seen=_peers, blamed=_peers)
def test_only_who_is_due_can_miss_a_round_and_each_members_books_say_what_it_did(
    missed: list[int], due: set[str], seen: set[str], blamed: set[str]
) -> None:
    state = state_of(missed, minimum=len(missed))
    shown = Turnout(frozenset(due), frozenset(seen), frozenset(blamed))
    after, *_ = advance(state, shown, policy())
    for before, now in zip(state.members, after.members, strict=True):
        was_due, was_seen = now.peer in due, now.peer in seen
        expected = 0 if was_seen else before.missed + 1 if was_due else before.missed
        assert now.missed == expected
        assert (now.rounds_done, now.rounds_missed) == (was_due and was_seen, was_due and not was_seen)
        assert now.rounds_blamed == (now.peer in blamed)
        assert now.heard == (6 if was_seen else before.heard)
        assert (now.since, now.kernels, now.anchor, now.anchored) == (0, KERNELS, ANCHOR, 0)


def test_books_add_up_over_rounds() -> None:
    state = state_of([0, 0, 0], minimum=3)
    for round in range(6):
        seen = frozenset(PEERS[:3]) if round % 2 else frozenset(PEERS[:1])
        due = frozenset(PEERS[:2])
        state, *_ = advance(state, Turnout(due, seen, blamed=frozenset(PEERS[round % 3 : round % 3 + 1])), policy())
    books = [(m.rounds_done, m.rounds_missed, m.rounds_blamed) for m in state.members]
    assert books == [(6, 0, 2), (3, 3, 2), (0, 0, 2)]


def test_one_that_is_never_drawn_is_never_dropped() -> None:
    state = state_of([0, 0, 0, 0])
    for _ in range(10):
        state, _, left = advance(state, Turnout(frozenset(PEERS[:2]), frozenset(PEERS[:2])), policy())
        assert left == ()


def test_a_reveal_moves_its_members_anchor_and_no_others() -> None:
    for reveal, expected in ((b"r" * 32, (b"r" * 32, 6)), (b"", (ANCHOR, 0))):
        shown = Turnout(frozenset(), frozenset(), revealer=PEERS[1], reveal=reveal)
        after, *_ = advance(state_of([0, 0]), shown, policy())
        assert [(m.anchor, m.anchored) for m in after.members] == [(ANCHOR, 0), expected]


def test_each_members_last_round_of_being_seen_is_remembered() -> None:
    state = state_of([0, 0], round=5)
    for seen in (PEERS[:2], PEERS[1:2], ()):
        state, *_ = advance(state, Turnout(frozenset(), frozenset(seen)), policy())
    assert [(m.heard, m.missed) for m in state.members] == [(6, 0), (7, 0)]


# ---- who is expelled


def convicted(*places: int) -> tuple[Departure, ...]:
    return tuple(Departure(PEERS[i], "convicted") for i in places)


def test_the_convicted_leave_even_below_the_minimum_and_are_remembered() -> None:
    state = state_of([0, 9, 0], minimum=3)
    after, _, left = advance(state, turnout(state, frozenset(PEERS[:3]), expelled=convicted(0, 2)), policy())
    assert left == convicted(0, 2)  # and nobody is dropped for silence, below the minimum
    assert peers_of(after) == {PEERS[1]}
    assert after.expelled == (PEERS[0], PEERS[2])


def test_a_banned_stranger_is_expelled_without_having_been_a_member_even_while_it_joins() -> None:
    state = state_of([0], expelled=(PEERS[9],))
    banned = (Departure(PEERS[7], "banned"),)
    after, joined, left = advance(state, turnout(state, frozenset(), newcomers(6, 3), banned), policy())
    assert [newcomer.peer for newcomer in joined] == [PEERS[6], PEERS[8]]
    assert left == banned
    assert after.expelled == (PEERS[7], PEERS[9])
    assert peers_of(after) == {PEERS[0], PEERS[6], PEERS[8]}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_last_member_stays_whatever_it_did(n: int) -> None:
    state = state_of([0] * n)
    after, _, left = advance(state, turnout(state, frozenset(), expelled=convicted(*range(n))), policy())
    assert peers_of(after) == {PEERS[0]}
    assert left == convicted(*range(1, n))
    assert PEERS[0] not in after.expelled


@given(
    missed=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    out=st.sets(st.integers(0, 20), max_size=14),
    joiners=st.integers(0, 4),
    minimum=st.integers(1, 12),
)
def test_whoever_is_expelled_is_out_for_good_and_the_same_header_gives_the_same_state_again(
    missed: list[int], out: set[int], joiners: int, minimum: int
) -> None:
    state = state_of(missed, minimum=minimum)
    shown = turnout(state, frozenset(), newcomers(12, joiners), convicted(*sorted(out)))
    after, joined, left = advance(state, shown, policy())
    gone = {departure.peer for departure in left if departure.reason == "convicted"}
    everybody_is_out = peers_of(state) <= {PEERS[i] for i in out}
    assert after.members
    assert set(after.expelled) == gone == {PEERS[i] for i in out} - ({PEERS[0]} if everybody_is_out else set())
    assert not gone & peers_of(after)
    said = turnout(state, frozenset(), joined, tuple(d for d in left if d.reason != "dropped"))
    assert advance(state, said, policy()) == (after, joined, left)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_whoever_was_expelled_before_is_never_forgotten_for_those_who_come_later(room: int) -> None:
    before = PEERS[4 : 4 + MAX_EXPELLED - room]
    state = state_of([0, 0, 0], expelled=before)
    after, _, left = advance(state, turnout(state, frozenset(), expelled=convicted(1, 2)), policy())
    assert left == convicted(1, 2)  # they leave all the same
    assert peers_of(after) == {PEERS[0]}
    assert set(after.expelled) == {*before, *PEERS[1 : 1 + room]}
    assert list(after.expelled) == sorted(after.expelled)


# ---- invites


def by_invite(place: int, invite: bytes, *, until: int) -> Newcomer:
    return Newcomer(PEERS[place], KERNELS, ANCHOR, 5, invite, until)


def test_uses_of_an_invite_are_counted_from_round_to_round_and_forgotten_after_its_last() -> None:
    one, other = b"1" * 32, b"2" * 32
    state = first_state(RUN, policy(), (by_invite(0, one, until=2), by_invite(1, one, until=2)))
    assert state.invites == (InviteUse(one, 2, 2),)
    state, *_ = advance(state, Turnout(frozenset(), frozenset(), newcomers=(by_invite(2, other, until=3),)), policy())
    assert state.invites == (InviteUse(one, 2, 2), InviteUse(other, 3, 1))
    state, *_ = advance(state, Turnout(frozenset(), frozenset(), newcomers=(by_invite(3, other, until=3),)), policy())
    assert state.invites == (InviteUse(other, 3, 2),)  # in round 3 `one` admits nobody any more
    state, *_ = advance(state, Turnout(frozenset(), frozenset(), newcomers=(by_invite(4, other, until=3),)), policy())
    assert state.invites == ()


def test_one_that_joined_uninvited_uses_no_invite() -> None:
    assert first_state(RUN, policy(), newcomers(0, 3)).invites == ()


def test_where_no_more_invites_can_be_counted_who_brings_another_waits() -> None:
    known = tuple(InviteUse(i.to_bytes(32, "big"), 99, 1) for i in range(MAX_MEMBERS - 1))
    state = RunState(RUN, 5, state_of([0, 0]).members, 1, (), known)
    asked = tuple(
        Newcomer(PEERS[10 + i], KERNELS, ANCHOR, 5, invite, 99)
        for i, invite in enumerate((b"a" * 32, b"b" * 32, b"a" * 32, known[7].invite))
    )
    after, joined, _ = advance(state, turnout(state, peers_of(state), asked), policy())
    assert [newcomer.peer for newcomer in joined] == [PEERS[10], PEERS[12], PEERS[13]]
    assert len(after.invites) == MAX_MEMBERS
    again, the_same, _ = advance(state, turnout(state, peers_of(state), joined), policy())
    assert (again, the_same) == (after, joined)  # what a certified header names follows from itself
