"""Draws that anyone can repeat from a beacon: who votes, who trains, and how likely a draw is a bad one."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.beacons import next_beacon
from primep2p.core.roster import Turnout, advance
from primep2p.core.sortition import candidates_of, cohort_of, committee_of, draw_risk, ranked, voters_of
from primep2p.core.votes import Committee
from primep2p.model.records import FULL_COMMITTEE, Member, RoundPolicy, RunState
from tests.core.kit import KERNELS, run_spec

RUN = run_spec().hash
PEERS = tuple(f"peer {i:03}" for i in range(120))
BEACONS = [next_beacon(bytes(32), RUN, round, b"") for round in range(20)]


def state_of(n: int, *, heard: Mapping[str, int] | None = None, since: int = 0, round: int = 5) -> RunState:
    """A roster of n; `heard` says of each when it was last seen, in the state's round if not told."""
    last = dict.fromkeys(PEERS, round) if heard is None else heard
    members = tuple(Member(peer, since, 0, KERNELS, bytes(32), 0, last.get(peer, 0)) for peer in PEERS[:n])
    return RunState(RUN, round, members, 1)


@given(st.permutations(PEERS[:6]))
def test_a_draw_depends_on_the_beacon_and_the_role_and_not_on_the_order_of_peers(order: list[str]) -> None:
    assert ranked(BEACONS[1], "committee", tuple(order)) == ranked(BEACONS[1], "committee", PEERS[:6])


def test_every_round_draws_anew() -> None:
    draws = {ranked(beacon, "committee", PEERS[:6]) for beacon in BEACONS}
    assert len(draws) > 10
    assert ranked(bytes(32), "committee", PEERS) != ranked(bytes(32), "cohort", PEERS)


# ---- who votes

_n = st.integers(1, len(PEERS))
_size = st.integers(FULL_COMMITTEE, 64)
_heard = st.dictionaries(st.sampled_from(PEERS), st.integers(1, 5))


@given(n=st.integers(1, FULL_COMMITTEE), heard=_heard, size=_size)
def test_of_a_small_roster_all_vote_whoever_was_seen(n: int, heard: dict[str, int], size: int) -> None:
    committee = committee_of(state_of(n, heard=heard), BEACONS[0], RoundPolicy(committee_size=size))
    assert sorted(committee.members) == list(PEERS[:n])
    assert committee.members == ranked(BEACONS[0], "committee", PEERS[:n])


@given(n=st.integers(FULL_COMMITTEE + 1, len(PEERS)), heard=_heard, size=_size, beacon=st.sampled_from(BEACONS))
def test_of_a_large_roster_so_many_are_drawn_among_those_seen_lately_and_others_only_up_to_sixteen(
    n: int, heard: dict[str, int], size: int, beacon: bytes
) -> None:
    members = committee_of(state_of(n, heard=heard), beacon, RoundPolicy(committee_size=size)).members
    alive = {peer for peer in PEERS[:n] if heard.get(peer, 0) >= 4}
    order = ranked(beacon, "committee", PEERS[:n])
    assert len(set(members)) == len(members) == max(min(len(alive), size), FULL_COMMITTEE)
    drawn = [peer for peer in members if peer in alive]
    spare = [peer for peer in members if peer not in alive]
    assert members == (*drawn, *spare)
    assert drawn == [peer for peer in order if peer in alive][: len(drawn)]
    assert spare == [peer for peer in order if peer not in alive][: len(spare)]
    assert not spare or len(drawn) == len(alive)


def test_one_round_in_which_a_member_is_left_out_of_seen_does_not_take_it_out_of_the_next_draw() -> None:
    state, policy = state_of(20), RoundPolicy(committee_size=31)
    victim, everybody = PEERS[7], frozenset(PEERS[:20])
    for seen, drawn in ((everybody - {victim}, True), (everybody - {victim}, False), (everybody, True)):
        state, *_ = advance(state, Turnout(everybody, seen), RoundPolicy(drop_after=9))
        assert (victim in candidates_of(state)) is drawn
        assert all((victim in committee_of(state, beacon, policy)) is drawn for beacon in BEACONS)


def test_whom_a_proposer_leaves_out_of_seen_does_not_move_the_next_draw() -> None:
    state, policy = state_of(60), RoundPolicy(committee_size=16)
    everybody, draws = frozenset(PEERS[:60]), set()
    for left_out in range(0, 60, 10):
        seen = everybody.difference(PEERS[left_out : left_out + 10])
        after, *_ = advance(state, Turnout(everybody, seen), policy)
        draws.add(committee_of(after, BEACONS[0], policy))
    assert len(draws) == 1


def test_one_that_has_just_joined_is_not_drawn_and_those_who_began_the_run_are() -> None:
    def drawn(since: int, round: int) -> set[str]:
        late = state_of(17, since=since, round=round).members[-1]
        state = state_of(17, round=round)
        state = msgspec.structs.replace(state, members=(*state.members[:-1], late))
        return set(committee_of(state, BEACONS[0], RoundPolicy(committee_size=31)).members)

    late = PEERS[16]
    assert [late in drawn(*case) for case in ((5, 5), (4, 5), (0, 0), (0, 5))] == [False, True, True, True]


def test_committees_and_cohorts_differ_by_round() -> None:
    state, policy = state_of(60), RoundPolicy(committee_size=16, max_cohort=16)
    assert len({frozenset(committee_of(state, beacon, policy).members) for beacon in BEACONS}) == len(BEACONS)
    assert len({cohort_of(state, beacon, policy, 1) for beacon in BEACONS}) == len(BEACONS)


def test_who_trains_does_not_follow_from_who_votes() -> None:
    state, policy = state_of(60), RoundPolicy(committee_size=16, max_cohort=16)
    pairs = [(set(committee_of(state, b, policy).members), cohort_of(state, b, policy, 1)) for b in BEACONS]
    assert sum(len(voters & trainers) for voters, trainers in pairs) < 8 * len(BEACONS)  # half; chance gives a quarter


def test_a_draw_depends_on_nothing_of_the_state_but_who_is_a_member_and_was_seen_lately() -> None:
    one, other = state_of(60), state_of(60, heard=dict.fromkeys(PEERS, 8), since=3, round=9)
    books = {"missed": 2, "anchor": b"a" * 32, "anchored": 7, "rounds_done": 5, "rounds_missed": 4, "rounds_blamed": 3}
    members = tuple(msgspec.structs.replace(member, **books) for member in other.members)
    other = msgspec.structs.replace(other, members=members, min_members=9, expelled=PEERS[70:])
    policy = RoundPolicy(sample_fraction="0.5")
    assert committee_of(one, BEACONS[0], policy) == committee_of(other, BEACONS[0], policy)
    assert cohort_of(one, BEACONS[0], policy, 1) == cohort_of(other, BEACONS[0], policy, 1)


def test_everybody_is_drawn_as_often_as_everybody_else() -> None:
    beacons = [next_beacon(bytes(32), RUN, round, b"") for round in range(600)]
    state, policy = state_of(24), RoundPolicy(committee_size=16, max_cohort=12)
    for draw in (
        lambda beacon: committee_of(state, beacon, policy).members,
        lambda beacon: cohort_of(state, beacon, policy, 1),
    ):
        drawn = [peer for beacon in beacons for peer in draw(beacon)]  # type: ignore[no-untyped-call]
        counts = [drawn.count(peer) for peer in PEERS[:24]]
        expected = len(drawn) / 24
        assert all(abs(count - expected) < 0.2 * expected for count in counts)  # more than 4 standard deviations


_odd = st.sets(st.sampled_from(PEERS))


def odd_ones(state: RunState, odd: set[str]) -> RunState:
    """The kernels of these give other bytes."""
    members = (msgspec.structs.replace(m, kernels=bytes(32)) if m.peer in odd else m for m in state.members)
    return msgspec.structs.replace(state, members=tuple(members))


@given(n=_n, heard=_heard, size=_size, odd=_odd)
def test_who_votes_is_drawn_as_if_those_whose_kernels_differ_were_not_there(
    n: int, heard: dict[str, int], size: int, odd: set[str]
) -> None:
    state, policy = state_of(n, heard=heard), RoundPolicy(committee_size=size)
    able = tuple(member for member in state.members if member.peer not in odd)
    without = msgspec.structs.replace(state, members=able) if 2 * len(able) > n else state
    mixed = odd_ones(state, odd)
    assert committee_of(mixed, BEACONS[0], policy) == committee_of(without, BEACONS[0], policy)
    assert set(voters_of(mixed)) == {member.peer for member in without.members}
    assert cohort_of(mixed, BEACONS[0], policy, 1) == cohort_of(state, BEACONS[0], policy, 1)


@pytest.mark.parametrize(("right", "votes"), [(0, 10), (1, 10), (5, 10), (6, 6), (9, 9), (10, 10)])
def test_few_that_claim_the_right_kernels_are_not_the_committee_of_all_others(right: int, votes: int) -> None:
    state = state_of(10, heard={})
    mixed = odd_ones(state, {member.peer for member in state.members[right:]})
    assert len(committee_of(mixed, BEACONS[0], RoundPolicy()).members) == votes


# ---- who trains


@given(
    n=_n,
    fraction=st.sampled_from(["0.1", "0.25", "0.333333", "0.5", "1", "1.0", "0.000001"]),
    most=st.integers(1, 150),
    least=st.integers(1, 10),
)
def test_the_cohort_is_the_part_of_the_roster_that_the_policy_says(
    n: int, fraction: str, most: int, least: int
) -> None:
    policy = RoundPolicy(sample_fraction=fraction, max_cohort=most)
    cohort = cohort_of(state_of(n), BEACONS[0], policy, least)
    assert cohort <= set(PEERS[:n])
    assert len(cohort) == min(max(ceil(Fraction(fraction) * n), least), most, n)


def test_in_a_small_run_everybody_trains() -> None:
    assert cohort_of(state_of(16), BEACONS[0], RoundPolicy(), 2) == set(PEERS[:16])


# ---- how likely a draw is a bad one


def brute_force(candidates: int, n: int, bad: int, bound: int) -> Fraction:
    """The part of all draws of n that have more than `bound` of the bad ones."""
    draws = list(combinations(range(candidates), n))
    return Fraction(sum(sum(i < bad for i in draw) > bound for draw in draws), len(draws))


@given(
    candidates=st.integers(1, 9),
    n=st.integers(1, 9),
    share=st.fractions(0, 1, max_denominator=9),
    threshold=st.sampled_from(["0.5", "0.66", "0.8", "1"]),
    rounds=st.integers(1, 5),
)
def test_risks_are_those_of_counting_every_draw(
    candidates: int, n: int, share: Fraction, threshold: str, rounds: int
) -> None:
    committee = Committee.of(PEERS[: min(n, candidates)], threshold)
    risk = draw_risk(candidates, committee, share, rounds=rounds)
    bad, size = ceil(share * candidates), len(committee.members)
    for found, bound in ((risk.fork, committee.survives_liars), (risk.stall, committee.survives_silent)):
        each = brute_force(candidates, size, bad, bound)
        assert found == pytest.approx(float(1 - (1 - each) ** rounds), abs=1e-12)


@given(
    candidates=st.integers(31, 500),
    share=st.fractions(0, 1, max_denominator=50),
    more=st.fractions(0, 1, max_denominator=50),
    rounds=st.integers(1, 1000),
)
def test_more_bad_members_and_more_rounds_are_never_less_risk(
    candidates: int, share: Fraction, more: Fraction, rounds: int
) -> None:
    committee = Committee.of(tuple(f"{i}" for i in range(31)), "0.66")
    low, high = sorted((share, more))
    risk = draw_risk(candidates, committee, low, rounds=rounds)
    worse = draw_risk(candidates, committee, high, rounds=rounds)
    longer = draw_risk(candidates, committee, low, rounds=rounds + 1)
    for other in (worse, longer):
        assert 0 <= risk.fork <= other.fork + 1e-12 <= 1 + 1e-12
        assert 0 <= risk.stall <= other.stall + 1e-12 <= 1 + 1e-12


def test_a_larger_committee_forks_less() -> None:
    risks = [
        draw_risk(200, Committee.of(tuple(f"{i}" for i in range(n)), "0.66"), Fraction(1, 5), rounds=1).fork
        for n in (16, 31, 64)
    ]
    assert risks == sorted(risks, reverse=True)
    assert risks[0] > 100 * risks[-1]
