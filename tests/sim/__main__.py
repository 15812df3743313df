"""Run worlds: one seed with its trace, or many seeds on all cores.

python -m tests.sim SCENARIO [--seed N] [--nodes N] [--keys real] [--all]
python -m tests.sim SCENARIO --soak SEEDS [--first N]
"""

from __future__ import annotations

import argparse
import os
import sys

import msgspec

from tests.core.mutants import MUTANTS
from tests.sim import soak
from tests.sim.invariants import Broken
from tests.sim.scenario import Scenario, load, names
from tests.sim.trace import Printer
from tests.sim.world import World


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Simulated runs of real machines.")
    parser.add_argument("scenario", help="a name in tests/sim/scenarios, or a path to a TOML file")
    parser.add_argument("--seed", type=int, help="the world to run; as the scenario says where there is none")
    parser.add_argument("--keys", choices=("real", "fake"), default="", help="in place of the scenario's")
    parser.add_argument("--nodes", type=int, help="so many, in place of the scenario's")
    parser.add_argument("--mutant", default="", help="run machines that are wrong in this, from tests/core/mutants.py")
    parser.add_argument("--all", action="store_true", help="print every message too")
    parser.add_argument("--soak", type=int, metavar="SEEDS", help="run so many seeds, on all cores, and count")
    parser.add_argument("--first", type=int, default=0, help="the first seed of a soak")
    parser.add_argument("--batch", type=int, metavar="SEEDS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.soak is not None and asked.mutant:
        parser.error("--mutant is for one world: --seed")
    if asked.mutant and asked.mutant not in MUTANTS:
        parser.error(f"no mutant {asked.mutant!r}; there are {', '.join(MUTANTS)}")
    if not asked.scenario.endswith(".toml") and asked.scenario not in names():
        parser.error(f"no scenario {asked.scenario!r}; there are {', '.join(names())}")
    if asked.batch is not None:
        return soak.batch(asked.scenario, asked.first, asked.batch, keys=asked.keys)
    if asked.soak is not None:
        return soak.soak(asked.scenario, asked.first, asked.soak, keys=asked.keys)
    scenario = load(asked.scenario)
    if asked.nodes is not None:
        scenario = msgspec.structs.replace(scenario, nodes=(asked.nodes,))
    return _one(scenario, scenario.seed if asked.seed is None else asked.seed, asked)


def _one(scenario: Scenario, seed: int, asked: argparse.Namespace) -> int:
    with soak.mutant(asked.mutant):
        world = World(scenario, seed, keys=asked.keys, teller=Printer(messages=asked.all))
        print(scenario.about)
        print(world.describe())
        try:
            told = world.run()
        except Broken as broken:
            print(f"BROKEN at {world.heap.now:.3f} s: {broken}")
            return 1
    print(soak.summary(told))
    return 0


try:
    sys.exit(main())
except BrokenPipeError:  # whoever read the trace has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
