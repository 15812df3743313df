"""Whole nodes that leave, rest and come back, and runs that end by what their spec says: the others go on meanwhile."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from primep2p.config import TrainWhenSection
from primep2p.model.errors import CallError
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import Abstained, AnyEvent, Left, Paused, Rests, Resumed
from primep2p.run_config import StopConfig
from primep2p.services.training.machine import LocalMachine
from tests.nodes.world import NEVER, PLAIN, Broken, Scenario, SimNode, World, simulate

Simulated = Callable[..., World]


@pytest.fixture
def simulated(tmp_path: Path) -> Simulated:
    """Runs a story of so many nodes, all of them members from the beginning unless `first_members` is less."""

    def run(
        story: Callable[[World], Awaitable[None]],
        *,
        nodes: int = 4,
        first_members: int = 0,
        min_updates: int = 1,
        grace_s: float = 0.2,
        stop: StopConfig = NEVER,
    ) -> World:
        policy = RoundPolicy(
            first_members=first_members or nodes, min_updates=min_updates, collect_s=30.0, grace_s=grace_s
        )
        return simulate(Scenario(0, nodes, policy, PLAIN, stop=stop), tmp_path / "world", story)

    return run


async def leave(node: SimNode, *, now: bool = False) -> str:
    return (await node.alive.standings.leave(node.world.run, now=now)).phase


async def until_phase(node: SimNode, phase: str, *, within_s: float = 60.0) -> None:
    for _ in range(round(10 * within_s)):
        if node.summary().phase == phase:
            return
        await trio.sleep(0.1)
    raise Broken(f"node {node.index} is {node.summary().phase}, not {phase}")


async def events_of(node: SimNode, seen: list[AnyEvent], *, task_status: "trio.TaskStatus[None]") -> None:
    events = node.alive.events.watch()
    task_status.started()
    async for event in events:
        seen.append(event)


# ---- leaving


def test_a_node_that_leaves_is_out_with_a_checkpoint_and_the_others_go_on_without_it(simulated: Simulated) -> None:
    seen: list[AnyEvent] = []

    async def story(world: World) -> None:
        leaver, *others = world.nodes
        await world.found(leaver, others)
        await world.until_round(2, world.nodes)
        await world.nursery.start(events_of, leaver, seen)
        assert await leave(leaver) == "leaving"
        await until_phase(leaver, "left")
        out = leaver.round
        assert leaver.peer not in leaver.members
        await world.until_round(out + 5, others)
        assert leaver.round == out, "it follows no further"
        detail = leaver.alive.run_detail(world.run)
        assert (detail.phase, detail.head_round, detail.plugin_error) == ("left", out, "")
        assert (await leaver.alive.shelf.path(f"{world.run}@{out}")).path, "it keeps the model"
        assert leaver.peer not in world.trainers[out + 5]

    simulated(story)
    [left] = [event for event in seen if isinstance(event, Left)]
    assert left.certified


def test_a_node_that_stops_while_it_leaves_leaves_after_its_next_start(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        leaver, *others = world.nodes
        await world.found(leaver, others)
        world.part([leaver])
        assert await leave(leaver) == "leaving"
        await leaver.stop()
        world.network.heal()
        await leaver.start()
        await until_phase(leaver, "left")
        assert leaver.peer not in leaver.members
        await leaver.stop()
        await leaver.start()
        assert leaver.summary().phase == "left"
        with pytest.raises(CallError, match="has left"):
            await leaver.alive.standings.pause(world.run)

    simulated(story)


def test_a_node_that_left_may_join_again_and_leave_again(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        leaver, *others = world.nodes
        await world.found(leaver, others)
        for _ in range(2):
            await leave(leaver)
            with pytest.raises(CallError, match="still leaving"):
                await leaver.alive.join_run(world.run)
            await until_phase(leaver, "left")
            await world.until_round(leaver.round + 3, others)
            await leaver.join()
            await until_phase(leaver, "running")
            await world.until_round(max(node.round for node in others) + 2, world.nodes)
            assert leaver.peer in others[0].members

    simulated(story)


def test_two_may_leave_at_once_and_the_last_goes_by_itself(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        one, other, stays = world.nodes
        await world.found(one, [other, stays])
        for node in (one, other):
            await leave(node)
        for node in (one, other):
            await until_phase(node, "left")
        await world.until_round(one.round + 3, [stays])
        assert await leave(stays) == "left"

    simulated(story, nodes=3)


def test_of_all_who_leave_at_once_nobody_is_held(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        for node in world.nodes:
            await leave(node)
        for node in world.nodes:
            await until_phase(node, "left")

    simulated(story)


def test_a_node_that_others_cannot_hear_goes_at_once_and_is_dropped_for_its_silence(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        leaver, *others = world.nodes
        await world.found(others[0], [leaver, *others[1:]])
        world.part([leaver])
        assert await leave(leaver) == "leaving"
        answer = await leaver.alive.standings.leave(world.run, now=True)
        assert (answer.phase, answer.remaining) == ("left", 4)
        world.network.heal()
        round = leaver.round
        await world.until(
            lambda: all(leaver.peer not in node.members for node in others), 120, lambda: "it is still a member"
        )
        assert leaver.round == round
        assert leaver.summary().phase == "left"

    simulated(story, nodes=5)


def test_who_waits_for_whom_is_told_where_too_few_are_here(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        leaver, *others = world.nodes
        await world.found(leaver, others)
        for other in others[1:]:
            await other.stop()
        await trio.sleep(1)
        answer = await leaver.alive.standings.leave(world.run, now=False)
        assert (answer.phase, answer.waits_for) == ("leaving", sorted(other.peer for other in others[1:]))

    simulated(story)


def test_a_join_is_taken_back_while_a_run_gathers_and_the_run_begins_without_it(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        creator, leaver, *others = world.nodes
        await world.found(creator, [leaver], settled=False)
        await trio.sleep(5)
        assert creator.summary().members == 2
        assert await leave(leaver) == "left"
        await trio.sleep(5)
        assert creator.summary().members == 1
        for other in others:
            await other.start()
            await other.join()
        await world.until_round(2, [creator, *others])
        assert leaver.peer not in creator.members
        await until_phase(leaver, "left")
        await leaver.join()
        await until_phase(leaver, "running")

    simulated(story, first_members=3)


def test_a_creator_that_leaves_a_run_that_gathers_is_told_that_it_cannot_begin(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        creator, other = world.nodes
        await world.found(creator, [], settled=False)
        answer = await creator.alive.standings.leave(world.run, now=False)
        assert (answer.phase, answer.begins) == ("left", False)
        await creator.stop()
        await creator.start()
        assert creator.summary().phase == "left"
        await other.start()
        await other.join()
        await trio.sleep(5)
        assert other.summary().phase == "gathering"
        await creator.join()
        await world.until_round(1, world.nodes)

    simulated(story, nodes=2)


# ---- resting


def test_a_paused_node_votes_and_the_others_do_not_wait_for_its_update(simulated: Simulated) -> None:
    """The grace is long: a round that paid it would show."""
    seen: list[AnyEvent] = []

    async def story(world: World) -> None:
        paused, *others = world.nodes
        await world.found(paused, others)
        await world.until_round(1, world.nodes)
        await world.nursery.start(events_of, paused, seen)
        await paused.alive.standings.pause(world.run)
        assert paused.summary().rests
        first = max(node.round for node in world.nodes) + 2
        await world.until_round(first, world.nodes)
        began = trio.current_time()
        await world.until_round(first + 5, world.nodes)
        assert trio.current_time() - began < 5 * 4
        assert all(paused.peer not in world.trainers[round] for round in range(first, first + 6))
        assert all(member.missed == 0 for member in paused.alive.run_detail(world.run).members)
        await paused.stop()
        await paused.start()
        await world.until_round(max(node.round for node in others), [paused])
        assert paused.summary().rests, "it is so after a restart too"
        await paused.alive.standings.resume(world.run)
        await world.until(
            lambda: paused.peer in world.trainers[max(world.trainers)], 60, lambda: "it does not train again"
        )

    simulated(story, grace_s=25.0)
    kinds = [type(event) for event in seen]
    assert kinds.count(Paused) == 1
    assert Rests in kinds
    assert kinds.count(Abstained) >= 5
    assert Resumed not in kinds  # that was in its next life


def test_a_training_that_is_paused_and_resumed_in_time_is_of_its_round(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        paused, *others = world.nodes
        await world.found(paused, others)
        await world.until_round(1, world.nodes)
        await paused.alive.standings.pause(world.run)
        await paused.alive.standings.pause(world.run)
        await others[0].alive.standings.pause(world.run)
        await trio.sleep(5)
        round = max(node.round for node in world.nodes)
        await trio.sleep(5)
        assert max(node.round for node in world.nodes) == round, "two of four train, and three updates are needed"
        await paused.alive.standings.resume(world.run)
        await world.until_round(round + 1, world.nodes, within_s=5)
        assert paused.peer in world.trainers[round + 1]

    simulated(story, min_updates=3)


class Laptop(LocalMachine):
    """Its plug is pulled by the test."""

    plugged = False

    def on_ac_power(self) -> bool:
        return self.plugged


def test_a_node_on_battery_votes_and_trains_as_soon_as_it_is_plugged_in(simulated: Simulated) -> None:
    async def story(world: World) -> None:
        laptop, *others = world.nodes
        machine = laptop.machine = Laptop()
        laptop.train_when = TrainWhenSection(ac_power=True)
        await world.found(others[0], [laptop, *others[1:]])
        await world.until_round(4, world.nodes)
        assert laptop.summary().rests == "this machine is on battery"
        assert all(laptop.peer not in trainers for trainers in world.trainers.values())
        assert laptop.peer in others[0].members
        machine.plugged = True
        await world.until(
            lambda: laptop.peer in world.trainers[max(world.trainers)], 120, lambda: "it does not train though it may"
        )
        assert laptop.summary().rests == ""

    simulated(story)


# ---- ends


@pytest.mark.parametrize(
    ("stop", "ended"),
    [
        (StopConfig(metric="loss", at_most=1.0), "metric"),
        (StopConfig(metric="loss", at_least=2.0, hours=0.01), "time"),
        (StopConfig(metric="accuracy", at_least=0.0, hours=0.01), "time"),
    ],
)
def test_a_run_ends_for_all_by_what_its_trainers_claim_or_by_their_clocks(
    simulated: Simulated, stop: StopConfig, ended: str
) -> None:
    async def story(world: World) -> None:
        late, *others = world.nodes
        await world.found(late, others)
        await late.stop()
        for node in others:
            await until_phase(node, "finished")
        assert len({node.round for node in others}) == 1
        if ended == "time":
            assert 36 <= trio.current_time() < 50
        await late.start()
        await until_phase(late, "finished")
        assert late.alive.run_detail(world.run).ends.ended == ended
        with pytest.raises(CallError, match="finished"):
            await leave(late)

    simulated(story, stop=stop)
