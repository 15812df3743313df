"""A crowd of whole nodes of which some are always away: the story, for the test and for `python -m tests.nodes`."""

import trio

from primep2p.model.ids import Hash
from primep2p.model.records import FULL_COMMITTEE, MAX_FIRST_MEMBERS, MAX_MEMBERS, RoundPolicy
from tests.nodes.world import Scenario, SimNode, World

AWAY_S = (0.5, 3.0)
"""How long a node stays away: some miss nothing, some a round or two."""


def founders_of(nodes: int) -> int:
    """Members of checkpoint 0, which needs each of them; the others join while the run goes on."""
    return min(MAX_FIRST_MEMBERS, max(1, nodes * 3 // 5))


def crowd(seed: int, nodes: int) -> Scenario:
    """Founders enough to bear the churn, and everybody else on the way in."""
    policy = RoundPolicy(
        rounds=256,  # far more than are asked for; a hash chain of the longest kind costs each member 10 ms a round
        first_members=founders_of(nodes),
        min_members=4,
        min_updates=1,
        collect_s=10.0,
        committee_size=FULL_COMMITTEE,
        max_cohort=FULL_COMMITTEE,
    )
    return Scenario(seed, nodes, policy, tick_s=0.01, gossip_loss=0.02)


class Churn:
    """The story of a crowd: so many rounds, in each of which a share of the nodes stops at once, to come back soon."""

    def __init__(self, rounds: int, share: float = 0.1) -> None:
        self.stops = 0
        self.founded_s = 0.0
        """By the virtual clock, like the next."""
        self.ended_s = 0.0
        self.heads: set[Hash] = set()
        """What the nodes have as the last round's checkpoint, in the end."""
        self._rounds = rounds
        self._share = share
        self._leaving: set[int] = set()
        """Nodes that are to stop or have, until they are back: each of them leaves once at a time."""

    async def __call__(self, world: World) -> None:
        first = founders_of(len(world.nodes))
        founders, others = world.nodes[:first], world.nodes[first:]
        await world.found(founders[0], founders[1:])
        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(world.enter, other)
        await until_the_roster_is_full(world)
        self.founded_s = trio.current_time()
        begun = max(node.round for node in world.nodes)
        async with trio.open_nursery() as nursery:
            for round in range(begun, begun + self._rounds):
                staying = [node for node in world.up if node.index not in self._leaving]
                for victim in world.chance.sample(staying, int(self._share * len(world.nodes))):
                    self._leaving.add(victim.index)
                    nursery.start_soon(self._away, world, victim)
                await world.until_any_round(round + 1)
        self.ended_s = trio.current_time()
        last = max(node.round for node in world.nodes)
        await world.until_round(last, world.nodes)
        self.heads = {node.certified[last] for node in world.nodes}
        await until_the_roster_is_full(world)

    async def _away(self, world: World, node: SimNode) -> None:
        self.stops += 1
        away_s = world.chance.uniform(*AWAY_S)
        await trio.sleep(world.chance.random())
        await node.stop()
        await trio.sleep(away_s)
        await node.start()
        self._leaving.remove(node.index)


async def until_the_roster_is_full(world: World) -> None:
    """As many members as there may be, and everybody knows them."""
    most = min(MAX_MEMBERS, len(world.nodes))
    await world.until(
        lambda: all(len(node.members) == most for node in world.nodes),
        300,
        lambda: f"rosters of {sorted({len(node.members) for node in world.nodes})}, not of {most}",
    )
