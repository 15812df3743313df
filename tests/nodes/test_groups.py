"""Groups of whole nodes that lose some, gain some and are torn apart: all agree, nobody is accused, they go on."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from primep2p.model.errors import CallError
from primep2p.model.pipeline import Bfloat16, Float32, Int8, Outer, Pipeline, TopK, Wire, Yogi
from primep2p.model.records import Mode, RoundPolicy
from primep2p.model.views.events import AnyEvent, TransferDone
from primep2p.run_config import RunConfig
from primep2p.services.watching.recent import OLDEST
from primep2p.wire.codec import encode
from tests.nodes.world import Scenario, SimNode, World, simulate

SEEDS = range(3)

PLAIN = Float32()

Simulated = Callable[..., World]


@pytest.fixture
def simulated(tmp_path: Path) -> Simulated:
    """Runs a story of so many nodes, all of them members from the beginning unless `first_members` is less."""

    def run(
        story: Callable[[World], Awaitable[None]],
        *,
        nodes: int,
        seed: int = 0,
        first_members: int = 0,
        place: str = "world",
        gossip_loss: float = 0.0,
        wire: Wire = PLAIN,
        outer: Outer | None = None,
        mode: Mode = "sync",
        slow: float = 1.0,
    ) -> World:
        policy = RoundPolicy(first_members=first_members or nodes, min_updates=1, collect_s=10.0, mode=mode)
        pipeline = Pipeline(wire=wire, outer=outer)
        scenario = Scenario(seed, nodes, policy, pipeline, gossip_loss=gossip_loss, slow=slow)
        return simulate(scenario, tmp_path / place, story)

    return run


async def live_through_churn(world: World) -> None:
    """One node after the other stops at once and comes back; every few rounds another one joins for good."""
    await world.found(world.nodes[0], world.nodes[1:])
    for turn in range(6):
        victim = world.chance.choice(world.up)
        others = [node for node in world.up if node is not victim]
        await trio.sleep(world.chance.uniform(0.0, 2.0))
        await victim.stop()
        await world.until_round(max(node.round for node in others) + 2, others)
        if turn % 3 == 0:
            newcomer = world.grow()
            await newcomer.start()
            await newcomer.join()
        await victim.start()
        await world.until_round(max(node.round for node in world.up), world.up)
    await until_all_are_members(world)


async def until_all_are_members(world: World) -> None:
    await world.until(
        lambda: all(node.members == {other.peer for other in world.up} for node in world.up),
        120,
        lambda: f"of {len(world.up)} nodes these are members: {[len(node.members) for node in world.up]}",
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_nodes_that_stop_and_come_back_and_newcomers_end_in_one_roster(simulated: Simulated, seed: int) -> None:
    world = simulated(live_through_churn, nodes=5, seed=seed, gossip_loss=0.1)
    assert max(round for _, round in world.certified) >= 12


@pytest.mark.parametrize("wire", [Bfloat16(), Int8(), TopK("0.5")], ids=lambda wire: type(wire).__name__)
def test_nodes_agree_in_whatever_form_deltas_travel(simulated: Simulated, wire: Wire) -> None:
    """Those that stop have residuals of rounds that went on without them."""
    world = simulated(live_through_churn, nodes=4, wire=wire)
    assert max(round for _, round in world.certified) >= 12


async def twenty_rounds(world: World) -> None:
    await world.found(world.nodes[0], world.nodes[1:])
    await world.until_round(20, world.nodes)


@pytest.mark.parametrize("wire", [PLAIN, TopK("0.5")], ids=lambda wire: type(wire).__name__)
def test_a_node_that_trains_five_times_as_long_takes_part_in_a_buffered_run(simulated: Simulated, wire: Wire) -> None:
    """All nodes come to the same bytes, or they would not have certified a round."""
    world = simulated(twenty_rounds, nodes=4, mode="buffered", slow=5.0, wire=wire)
    slow = world.ages[world.nodes[-1].peer]
    assert len(slow) >= 2
    assert min(slow) >= 2
    assert all(len(world.ages[node.peer]) > 2 * len(slow) for node in world.nodes[:-1])


def test_a_node_that_trains_five_times_as_long_comes_too_late_in_a_sync_run(simulated: Simulated) -> None:
    world = simulated(twenty_rounds, nodes=4, slow=5.0)
    assert world.nodes[-1].peer not in world.ages
    assert {age for ages in world.ages.values() for age in ages} == {0}


def test_nodes_of_a_buffered_run_that_stop_and_come_back_agree(simulated: Simulated) -> None:
    world = simulated(live_through_churn, nodes=5, mode="buffered", slow=3.0, wire=TopK("0.5"))
    assert max(round for _, round in world.certified) >= 12
    assert max(age for ages in world.ages.values() for age in ages) > 0


def test_one_seed_makes_one_history(simulated: Simulated) -> None:
    first, second = (simulated(live_through_churn, nodes=4, place=place) for place in ("first", "second"))
    assert first.certified == second.certified


def test_a_run_is_found_as_soon_as_its_creator_has_met_anybody(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        meeting, *_, other, creator = world.nodes
        await world.found(creator, [], settled=False)  # alone, where the directory is of no use
        for node in (meeting, other):
            await node.start()
        with trio.fail_after(5):
            await other.join()

    simulated(story, nodes=5, first_members=2)


def test_who_signs_checkpoint_0_last_tells_the_others_at_once_and_the_first_round_waits_for_no_repair(
    simulated: Simulated,
) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:], settled=False)
        await world.until_any_round(0)
        begun = trio.current_time()
        await world.until_round(0, world.nodes)
        assert trio.current_time() - begun < 0.5  # nothing is sent again for 1 s
        await world.until_round(1, world.nodes)
        assert trio.current_time() - begun < 2.5  # a training takes 1 s at the most, and notes are compared after 5
        assert {(await node.alive.history.show(world.run, 1)).view for node in world.nodes} == {0}

    simulated(story, nodes=2, gossip_loss=1.0)


def test_a_round_is_shown_with_who_is_in_it_who_is_not_and_why(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        asked, silent, *others = world.nodes
        await world.found(asked, [silent, *others])
        await world.until_round(2, world.nodes)
        await silent.stop()
        await world.until_round(asked.round + 2, [asked, *others])
        history, run = asked.alive.history, world.run
        newest = await history.show(run[:10], -1)
        assert (newest.run, newest.round, newest.void, newest.members) == (run, asked.round, "", 4)
        living = sorted(node.peer for node in (asked, *others))
        assert [inclusion.trainer for inclusion in newest.inclusions] == living
        assert sum(inclusion.share for inclusion in newest.inclusions) == pytest.approx(1)
        assert [(missing.trainer, missing.reason) for missing in newest.missing] == [
            (silent.peer, "no list names an update of it")
        ]
        assert (len(newest.committee), newest.quorum) == (4, 3)
        assert set(newest.signers) <= set(living)
        assert newest.lists is not None
        assert all(entry.trainers == living for entry in newest.lists)
        assert all(inclusion.examples for inclusion in newest.inclusions)
        first = await history.show(run, 1)
        assert (first.round, first.parent) == (1, (await history.show(run, 0)).header)
        await world.until_round(6, [asked, *others])
        old = await history.show(run, 1)
        assert (old.lists, old.inclusions[0].examples, old.header) == (None, None, first.header)
        assert (await history.show(run, 0)).inclusions == []
        with pytest.raises(CallError, match="this node has no checkpoint 99 of run"):
            await history.show(run, 99)

    simulated(story, nodes=4)


def test_a_run_that_has_not_begun_has_no_round_to_show(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], [], settled=False)
        with pytest.raises(CallError, match="has not begun: no round is certified"):
            await world.nodes[0].alive.history.show(world.run, -1)

    simulated(story, nodes=2)


def test_what_a_preview_says_is_what_the_run_turns_out_to_take(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        creator, *others, late = world.nodes
        await creator.start()
        settings = RunConfig(name="sim", trainer="sim", policy=world.scenario.policy)
        told = await creator.alive.previews.found(settings)
        assert (told.run, told.members, told.first_members) == ("", 0, 3)
        assert sizes_of(Path(told.params)) == [told.cost.params_bytes]
        assert (await creator.alive.previews.found(settings)).cost == told.cost
        assert sizes_of(Path(told.params)) == []  # one at a time is enough
        await creator.stop()
        await world.found(creator, others)
        await late.start()
        run = bytes.fromhex(world.run)
        await world.until_round(2, [creator, *others])
        told = await late.alive.previews.joined(run, None)
        assert (told.run, told.members, told.obstacle, told.votes) == (world.run, 3, "", True)
        assert told.round >= 2
        assert (told.cost.members, told.cost.cohort, told.cost.committee) == (4, 4, 4)
        assert late.alive.runs() == []
        shown = await creator.alive.history.show(world.run, -1)
        blobs = creator.home / "blobs"
        for inclusion in shown.inclusions:
            assert sizes_of(*blobs.glob(f"*/{inclusion.delta}")) == [told.cost.delta_bytes]
        assert sizes_of(*blobs.glob(f"*/{shown.params}")) == [told.cost.params_bytes]
        told = await creator.alive.previews.joined(run, None)
        assert told.cost.members == 3
        for node in (creator, *others):
            fetched = [event.bytes for event in await heard_by(node) if isinstance(event, TransferDone)]
            moved_in = told.cost.down_bytes - 2 * told.cost.delta_bytes  # votes and lists are no transfers
            assert sum(fetched) == pytest.approx(2 * told.cost.delta_bytes * node.round, abs=2 * told.cost.delta_bytes)
            assert 0 < moved_in < 20_000
        links = [
            len(encode(stored.checkpoint)) + len(stored.state) for stored in creator.alive._seams.runs.chain(run, 1, 2)
        ]
        assert links == [pytest.approx(told.cost.growth_bytes, rel=0.5)] * 2

    simulated(story, nodes=4, first_members=3)


async def heard_by(node: SimNode) -> list[AnyEvent]:
    """What it has told until now."""
    heard: list[AnyEvent] = []
    with trio.move_on_after(0.01):
        async for event in node.alive.events.watch(after=OLDEST):
            heard.append(event)
    return heard


def sizes_of(*paths: Path) -> list[int]:
    """Of those that are there."""
    return [path.stat().st_size for path in paths if path.exists()]


def test_a_run_goes_on_without_its_creator(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        creator, *others = world.nodes
        await world.found(creator, others)
        await world.until_round(1, world.nodes)
        await creator.stop()
        await world.until_round(creator.round + 10, others)

    simulated(story, nodes=4)


def test_a_node_that_was_away_for_fifty_rounds_follows_and_takes_part_again(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        late, *others = world.nodes
        await world.found(late, others)
        await late.stop()
        await world.until_round(late.round + 50, others)
        await late.start()
        await world.until_round(max(node.round for node in others), [late], within_s=30)
        await until_all_are_members(world)
        await until_it_trains(world, late)

    simulated(story, nodes=4)


def test_a_node_with_a_rotated_identity_is_let_in_as_another_peer(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        rotated, *others = world.nodes
        await world.found(rotated, others)
        await world.until_round(1, world.nodes)
        await rotated.stop()
        old = rotated.rotate()
        await rotated.start()
        await until_all_are_members(world)  # and no more: the old one is dropped, as anybody who is silent
        await until_it_trains(world, rotated)
        assert old not in rotated.members
        await rotated.stop()
        await rotated.start()  # the old identity is not asked for again
        await until_it_trains(world, rotated)

    simulated(story, nodes=4)


def test_a_run_that_had_not_begun_is_left_when_the_identity_is_rotated(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        creator, _ = world.nodes
        await world.found(creator, [], settled=False)
        await creator.stop()
        creator.rotate()
        await creator.start()
        assert creator.alive.runs() == []

    simulated(story, nodes=2)


def test_a_node_whose_kernels_differ_creates_no_run_trains_in_one_and_has_no_vote(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        odd, *others = world.nodes
        odd.kernels = bytes(32)
        await odd.start()
        with pytest.raises(CallError, match="this machine cannot create a run"):
            await odd.alive.create_run(RunConfig(name="sim", trainer="sim"))
        await odd.stop()
        await world.found(others[0], [odd, *others[1:]])
        await world.until_round(4, world.nodes)
        await until_it_trains(world, odd)
        detail = odd.alive.run_detail(world.run)
        [mine] = [member for member in detail.members if not member.same_kernels]
        assert (mine.peer, mine.votes, mine.trains) == (odd.peer, False, True)
        assert set(detail.committee) == {node.peer for node in others}
        assert [node.alive.status().same_kernels for node in world.nodes] == [False, True, True, True]

    simulated(story, nodes=4)


def test_the_optimisers_state_outlives_who_stops_and_reaches_who_comes_back_or_joins(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        first, victim, *others, late = world.nodes
        await world.found(first, [victim, *others])
        await world.until_round(2, [first])
        await victim.stop()
        await world.until_round(first.round + 3, [first, *others])
        await victim.start()
        await late.start()
        await late.join()
        await until_all_are_members(world)
        await first.stop()  # of five, four are a quorum: those two vote from now on, or nothing is certified
        await world.until_round(max(node.round for node in world.up) + 3, world.up)
        assert None not in world.optimisers[1:]
        assert len(set(world.optimisers)) == len(world.optimisers)

    simulated(story, nodes=5, first_members=4, outer=Yogi())


async def until_it_trains(world: World, node: SimNode) -> None:
    begun = max(other.round for other in world.up)
    await world.until(
        lambda: any(round > begun and node.peer in trainers for round, trainers in world.trainers.items()),
        120,
        lambda: f"no round has an update of node {node.index}",
    )


@pytest.mark.parametrize("is_pinned", [True, False])
def test_who_comes_late_becomes_a_member(simulated: Simulated, is_pinned: bool) -> None:
    async def story(world: World) -> None:
        *members, late = world.nodes
        await world.found(members[0], members[1:])
        await world.until_round(5, members)
        head = members[0].summary()
        await late.start()
        await late.join((head.round, bytes.fromhex(head.head)) if is_pinned else None)
        await until_all_are_members(world)
        await until_it_trains(world, late)

    simulated(story, nodes=5, first_members=4)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_larger_side_of_a_partition_goes_on_and_the_smaller_one_follows_when_it_heals(
    simulated: Simulated, seed: int
) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        few = set(world.chance.sample(world.nodes, 2))
        many = [node for node in world.nodes if node not in few]
        await world.until_round(2, world.nodes)
        world.part(few)
        await world.until_round(max(node.round for node in many) + 5, many)
        assert all(node.round < min(other.round for other in many) for node in few)
        world.network.heal()
        await world.until_round(max(node.round for node in many) + 2, world.nodes)
        await until_all_are_members(world)

    simulated(story, nodes=7, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_sides_without_a_quorum_wait_and_go_on_together(simulated: Simulated, seed: int) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        await world.until_round(1, world.nodes)
        world.part(set(world.chance.sample(world.nodes, 3)))
        await trio.sleep(0.5)  # what was on its way when they parted may yet certify a round
        await trio.sleep(60)
        stood = max(node.round for node in world.nodes)
        assert stood <= 3
        world.network.heal()
        await world.until_round(stood + 5, world.nodes)

    simulated(story, nodes=6, seed=seed)
