"""What happens to nodes and between them, at times that the seed draws. All of it is over when the network heals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.node import SimNode
    from tests.sim.scenario import Perturbation
    from tests.sim.world import World

__all__ = ["plan"]


def plan(world: World) -> None:
    """Put all of them on the heap."""
    for perturbation in world.scenario.perturbation:
        for _ in range(world.chance.choice(perturbation.times)):
            _plan_one(world, perturbation)


def _plan_one(world: World, perturbation: Perturbation) -> None:
    chance, heals_s = world.chance, world.scenario.heals_s
    at = min(chance.uniform(*perturbation.at_s), heals_s)
    until = min(at + chance.uniform(*perturbation.for_s), heals_s)
    victim = chance.choice(world.honest)
    match perturbation.kind:
        case "crash":
            world.heap.at(at, lambda: world.crash(victim, for_s=until - at))
        case "pause":
            world.heap.at(at, lambda: _pause(world, victim, until))
        case "partition":
            some = frozenset(chance.sample(range(len(world.nodes)), len(world.nodes) // 2))
            _cut(world, some, at, until)
        case "cut off":
            _cut(world, frozenset((victim.index,)), at, until)


def _pause(world: World, victim: SimNode, until: float) -> None:
    victim.paused_until = max(victim.paused_until, until)
    world.tell(victim, f"stands still until {until:.2f}")


def _cut(world: World, some: frozenset[int], at: float, until: float) -> None:
    def begin() -> None:
        world.network.cut(some)
        world.tell(None, f"{sorted(some)} are cut off until {until:.2f}")

    world.heap.at(at, begin)
    world.heap.at(until, lambda: world.network.mend(some))
