"""Seeds to scenarios: what a world is like follows from one number."""

import random

from primep2p.model.records import RoundPolicy
from tests.sim.world import Broken, Scenario, World

LIES = ("equivocates", "invents updates", "lies about inclusions", "splits proposals", "silent")


def mixed(seed: int) -> World:
    """4 to 10 members; loss, crashes at any journal write, partitions, and at most one liar."""
    chance = random.Random(seed)
    nodes = chance.choice([4, 4, 4, 5, 6, 7, 10])
    lie = chance.choice([*LIES, ""])
    world = World(
        Scenario(
            seed=seed,
            nodes=nodes,
            rounds=4,
            loss=chance.choice([0.0, 0.0, 0.02, 0.1]),
            crashes=chance.choice([0, 0, 1, 2, 3]),
            partitions=chance.choice([0, 0, 1, 2]),
            liars={chance.randrange(nodes): lie} if lie else {},
        )
    )
    world.crash_points = 0.02 if seed % 3 == 0 else 0.0
    return world


def hostile(seed: int, *, forget_journal: bool = False) -> World:
    """Four members of whom one lies, a network on its side, short time-outs: what a mutant stumbles over."""
    chance = random.Random(seed)
    lie = chance.choice(["tells two stories", "equivocates"])
    policy = RoundPolicy(
        rounds=4,
        first_members=4,
        min_members=4,
        min_updates=1,
        collect_s=2.0,
        propose_s=0.2,
        vote_s=0.1,
        step_cap_s=3.0,
    )
    return World(
        Scenario(
            seed=seed,
            rounds=4,
            hostile=True,
            crashes=2 if forget_journal else 0,
            liars={chance.randrange(4): lie},
            forget_journal=forget_journal,
            limit_s=60.0,
            policy=policy,
        )
    )


def run(world: World) -> None:
    """To the end, which must come. Raises Broken, with the line that runs it again."""
    try:
        world.run()
        if not world.finished():
            heads = [node.head.round if node.head else None for node in world.nodes]
            raise Broken(f"no progress: at {world.now:.0f} s the members' heads are {heads}")
    except Broken as broken:
        raise Broken(f"{broken}; run it again with: python -m tests.sim {world.scenario.seed}") from broken
