"""Certified models leave the disk when nothing needs them any more, and never before."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from primep2p.core.references import RunRef
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.pipeline import Pipeline, Yogi
from primep2p.model.records import RoundPolicy
from primep2p.services.runs.origins import Start
from tests.nodes.world import Scenario, SimNode, World, simulate

KEEP = 10
"""Of a node's configuration, by default."""

ROUNDS = 16
STALEST = 12


def told(root: Path, story: Callable[[World], Awaitable[None]], pipeline: Pipeline | None = None) -> World:
    policy = RoundPolicy(rounds=ROUNDS, first_members=2, min_updates=2)
    return simulate(Scenario(seed=3, nodes=3, policy=policy, pipeline=pipeline or Pipeline()), root, story)


async def here(node: SimNode) -> list[int]:
    """Rounds of which this node has the model."""
    await trio.sleep(1)  # of a virtual clock: what is swept is swept by then
    found = []
    for round_ in range(node.round + 1):
        try:
            await node.alive.shelf.path(f"{node.world.run}@{round_}")
        except (CallError, Unavailable):
            continue
        found.append(round_)
    return found


def test_the_newest_models_stay_and_those_that_are_published(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, _ = world.nodes
        await world.found(owner, [member])
        await world.until_round(2, [owner])
        await owner.alive.shelf.publish_run(RunRef(world.run, 1), "line")
        await world.until_round(ROUNDS, [owner, member])
        newest = list(range(ROUNDS - KEEP + 1, ROUNDS + 1))
        assert await here(owner) == [1, *newest]
        assert await here(member) == newest
        await owner.stop()
        await owner.start()
        assert await here(owner) == [1, *newest]
        gone = await owner.alive.shelf.remove("line")
        assert gone.freed_bytes == 0, "its checkpoint names them, and the next start finds that nothing needs them"
        await owner.stop()
        await owner.start()
        assert await here(owner) == newest

    told(tmp_path, story)


def test_states_of_an_optimiser_go_with_their_models(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, _ = world.nodes
        await world.found(owner, [member])
        await world.until_round(ROUNDS, [owner, member])
        await trio.sleep(1)
        held = [owner.alive._seams.blobs.has(cid) for cid in world.optimisers if cid is not None]
        assert len(held) > KEEP
        assert held == [False] * (len(held) - KEEP) + [True] * KEEP

    told(tmp_path, story, Pipeline(outer=Yogi()))


def test_the_first_params_of_a_run_that_has_not_begun_stay(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, _ = world.nodes
        await world.found(owner, [member])
        await world.until_round(3, [owner])
        gathering = await owner.alive.continue_run(Start(world.run, 2), None)
        await world.until_round(ROUNDS, [owner, member])
        await here(owner)
        assert owner.alive._seams.blobs.has(gathering.params)
        assert not member.alive._seams.blobs.has(gathering.params)

    told(tmp_path, story)


def test_who_joins_late_has_the_newest_model_though_the_old_ones_are_gone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, late = world.nodes
        await world.found(owner, [member])
        await world.until_round(KEEP + 2, [owner, member])
        await late.start()
        await late.join()
        await world.until_round(ROUNDS, world.nodes)
        assert ROUNDS in await here(late)

    told(tmp_path, story)


def test_in_a_buffered_run_all_stays_that_updates_may_start_from(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, _ = world.nodes
        await world.found(owner, [member])
        await world.until_round(ROUNDS, [owner, member])
        assert await here(owner) == list(range(ROUNDS - STALEST, ROUNDS + 1))

    policy = RoundPolicy(
        rounds=ROUNDS, first_members=2, min_updates=2, mode="buffered", updates_per_version=2, max_staleness=STALEST
    )
    simulate(Scenario(seed=3, nodes=3, policy=policy), tmp_path, story)
