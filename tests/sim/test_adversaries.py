"""Each kind of liar lies, and one of four neither stops nor bends a run."""

import inspect

import msgspec
import pytest

from tests.sim.adversaries import KINDS, Adversary
from tests.sim.scenario import load
from tests.sim.soak import run
from tests.sim.world import World

HONEST = msgspec.structs.replace(load("honest"), limit_s=120.0)
QUIET = {"lies to who wakes up"}
"""Not to be seen but by who wakes up."""


def kinds_of(kind: type[Adversary]) -> set[type[Adversary]]:
    """All that derive from it."""
    return {kind}.union(*(kinds_of(each) for each in kind.__subclasses__()))


def test_every_kind_of_liar_has_a_name_that_scenarios_know() -> None:
    named = {kind.name: kind for kind in kinds_of(Adversary) if kind.name}
    assert named == KINDS
    assert all(inspect.getdoc(kind) for kind in KINDS.values())


@pytest.mark.parametrize("name", KINDS)
def test_one_liar_of_four_neither_stops_nor_bends_the_run(name: str) -> None:
    lies = 0
    for seed in range(4):
        scenario = msgspec.structs.replace(
            HONEST, liars=msgspec.structs.replace(HONEST.liars, count=(1,), kinds=(name,)), perturbation=CRASH
        )
        honest = msgspec.structs.replace(scenario, liars=HONEST.liars)
        told = run("honest", scenario, seed)
        assert told.certificates == 5
        lies += told.messages != World(honest, seed).run().messages
    assert lies > 0


CRASH = load("seven").perturbation
