"""The simulation must be able to fail: each thing that is wrong with a machine is found, for what it is."""

import msgspec
import pytest

from tests.core.mutants import MUTANTS
from tests.sim.invariants import Broken
from tests.sim.scenario import Scenario, load
from tests.sim.soak import run
from tests.sim.world import World

SEEDS = 500

FOUND = {
    "no lock": ("hostile-seven", "two certified checkpoints"),
    "q - 1": ("hostile-seven", "two certified checkpoints"),
    "no journal": ("mortal", "signed two records"),
    "free inclusions": ("censored", "whose update every honest member lists"),
    "any state": ("poisoned", "a state of the optimiser that its inclusions do not give"),
    "sends what it did not write": ("mixed", "is not in its journal"),
    "hoards": ("flooded", "records of"),
    "takes updates twice": ("replayed", "includes an update twice"),
    "no repair": ("lossy", "no progress"),
}


def caught(mutant: str, name: str, words: str) -> int | None:
    """The first seed at which a mutant is found, for the right reason."""
    scenario = load(name)
    for seed in range(SEEDS):
        with MUTANTS[mutant]():
            try:
                World(scenario, seed).run()
            except Broken as broken:
                if words in str(broken):
                    return seed
    return None


def test_every_mutant_has_a_scenario_that_finds_it() -> None:
    assert FOUND.keys() == MUTANTS.keys()


@pytest.mark.parametrize("mutant", FOUND)
def test_a_mutant_is_caught(mutant: str) -> None:
    seed = caught(mutant, *FOUND[mutant])
    assert seed is not None
    run(FOUND[mutant][0], load(FOUND[mutant][0]), seed)  # and right machines are not


@pytest.mark.parametrize("seed", range(5))
def test_three_liars_of_seven_fork_the_run_and_two_do_not(seed: int) -> None:
    with pytest.raises(Broken, match=f"two certified checkpoints.*python -m tests.sim split-brain --seed {seed}"):
        run("split-brain", load("split-brain"), seed)
    run("split-brain-survived", load("split-brain-survived"), seed)


def test_a_run_that_needs_more_views_than_stated_is_caught() -> None:
    strict = msgspec.structs.replace(load("seven"), views=1, heals_s=0.5)
    with pytest.raises(Broken, match=r"needed \d+ views for round \d after the network had healed"):
        _all_hold(strict, 20)


def _all_hold(scenario: Scenario, seeds: int) -> None:
    for seed in range(seeds):
        World(scenario, seed).run()
