"""A run that names a plan, among whole nodes: who joins fetches it first, unless its owner is not trusted there."""

from pathlib import Path

import pytest

from primep2p.model.errors import PluginError
from primep2p.model.plans import trainer_of_plan
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig
from tests.nodes.world import NETWORK, Scenario, World, simulate
from tests.sim.keys import SimEnvelopes
from tests.wire.graphs import sealed

POLICY = RoundPolicy(first_members=2, min_updates=1, collect_s=10.0)


async def live_by_a_plan(world: World) -> None:
    """The creator adds its plan; one node trusts it and joins, another does not and is told what to write."""
    creator, friend, stranger = world.nodes
    friend.trust = (creator.peer,)
    raw = sealed(sealer=SimEnvelopes(NETWORK, creator.signer, world.ring, world.shelf, lambda opened: None))
    await creator.start()
    view = await creator.alive.plans.add(raw)
    assert view.trusted
    config = RunConfig(name="sim", trainer=trainer_of_plan(view.cid), policy=POLICY)
    world.run = (await creator.alive.create_run(config)).run
    await world.enter(friend)
    await stranger.start()
    with pytest.raises(PluginError, match=f"the plan 'sum' of {creator.peer}, whom this node does not trust") as told:
        await stranger.join()
    assert f'trust = ["{creator.peer}"]' in told.value.hint
    assert not stranger.alive.runs(), "it has joined nothing"
    await stranger.stop()
    stranger.trust = (creator.peer,)
    await world.enter(stranger)
    await world.until_round(3, world.nodes)
    for node in world.nodes:
        held = [path for path in (node.home / "blobs").rglob("*") if path.is_file()]
        assert any(path.read_bytes() == raw for path in held), f"node {node.index} serves the plan too"


def test_who_joins_a_run_fetches_its_plan_or_is_told_whom_to_trust(tmp_path: Path) -> None:
    world = simulate(Scenario(0, 3, POLICY), tmp_path, live_by_a_plan)
    assert len({node.certified[3] for node in world.nodes}) == 1
