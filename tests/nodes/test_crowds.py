"""More nodes than a committee has seats, a tenth of them lost in each round: `python -m tests.nodes` has a hundred."""

from pathlib import Path

from tests.nodes.crowds import Churn, crowd
from tests.nodes.world import simulate


def test_a_crowd_of_which_a_tenth_stops_in_each_round_keeps_one_chain_and_one_roster(tmp_path: Path) -> None:
    churn = Churn(rounds=5)
    world = simulate(crowd(1, 40), tmp_path, churn)
    assert churn.stops == 20
    assert len(churn.heads) == 1
    rounds = sorted(round for _, round in world.certified)
    assert rounds == list(range(len(rounds)))
    assert len(rounds) > 5
