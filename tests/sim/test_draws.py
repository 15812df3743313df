"""What colluders gain from the one choice that the draws leave them."""

import pytest

from tests.sim.draws import Draws, measure


@pytest.mark.parametrize(("members", "liars", "committee"), [(4, 1, 4), (7, 2, 7), (200, 40, 31)])
def test_who_decides_whether_its_own_reveal_enters_is_first_a_little_more_often(
    members: int, liars: int, committee: int
) -> None:
    fair = measure(members, liars, committee, wants="nothing", rounds=600)
    greedy = measure(members, liars, committee, wants="first", rounds=600)
    assert abs(fair.first - fair.fair) < 0.06
    assert greedy.first < 1.6 * greedy.fair


def test_a_large_committee_has_hardly_more_colluders_than_there_are() -> None:
    greedy = measure(200, 40, 31, wants="places", rounds=600)
    assert 0.18 < greedy.in_committee < 0.23


def test_honest_members_leave_colluders_nothing_to_choose() -> None:
    draws = Draws(7, 2, 7, wants="first")
    beacon = next(b for i in range(100) if draws.drawn(b := bytes([i]) * 32)[0] not in draws.liars)
    assert draws.next(beacon, 1) == Draws(7, 2, 7, wants="nothing").next(beacon, 1)
