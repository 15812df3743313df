"""Draws that anyone can repeat from a beacon: who votes, who trains, and how likely a draw is a bad one."""

from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.beacons import next_beacon
from primep2p.core.sortition import ranked
from tests.core.kit import member, run_spec

RUN = run_spec().hash
PEERS = tuple(sorted(member(i).peer_id for i in range(6)))


@given(st.permutations(PEERS))
def test_a_draw_depends_on_the_beacon_and_the_role_and_not_on_the_order_of_peers(order: list[str]) -> None:
    beacon = next_beacon(bytes(32), RUN, 1, b"")
    assert ranked(beacon, "committee", tuple(order)) == ranked(beacon, "committee", PEERS)


def test_every_round_draws_anew() -> None:
    draws = {ranked(next_beacon(bytes(32), RUN, round, b""), "committee", PEERS) for round in range(20)}
    assert len(draws) > 10
    assert ranked(bytes(32), "committee", PEERS) != ranked(bytes(32), "cohort", PEERS)
