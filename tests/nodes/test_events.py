"""What whole nodes tell their owners: everything that counts in a round, and where they went on after a restart."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from primep2p.model.pipeline import Pipeline
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import (
    AnyEvent,
    EventsMissed,
    ListArrived,
    LogLine,
    MemberGathered,
    MemberJoined,
    MemberLeft,
    Proposed,
    RoundCertified,
    StepChanged,
    TrainerStarted,
    TrainerStopped,
    TransferBegun,
    TransferDone,
    UpdateArrived,
    Voted,
)
from primep2p.run_config import RunConfig
from primep2p.services.watching.recent import OLDEST
from tests.nodes.world import Scenario, SimNode, World, simulate

QUORUM = 2

Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def simulated(tmp_path: Path) -> Callable[[Story], World]:
    policy = RoundPolicy(first_members=3, min_updates=2, collect_s=10.0)
    return lambda story: simulate(Scenario(0, 3, policy, Pipeline()), tmp_path, story)


async def all_of(node: SimNode) -> list[AnyEvent]:
    """What it has told, as far as it is kept."""
    events = node.alive.events
    watch, told = events.watch(after=OLDEST), []
    while not told or told[-1].cursor != events.cursor:
        told.append(await anext(watch))
    return told


def test_every_record_of_a_round_is_an_event_with_its_author_and_stands_between_its_steps(simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        await world.until_round(2, world.nodes)
        for node in world.nodes:
            told = await all_of(node)
            ends = [place for place, event in enumerate(told) if isinstance(event, RoundCertified)]
            round_1 = [event for event in told[: ends[1]] if getattr(event, "round", 0) == 1]
            assert {event.step for event in round_1 if isinstance(event, StepChanged)} >= {"train", "prevote"}
            assert any(isinstance(event, Proposed) for event in round_1)
            by_kind = [
                [event.peer for event in round_1 if isinstance(event, kind)] for kind in (UpdateArrived, ListArrived)
            ]
            votes = [event for event in round_1 if isinstance(event, Voted) and event.header]
            by_kind += [[vote.peer for vote in votes if vote.step == step] for step in ("prevote", "precommit")]
            for peers in by_kind:
                assert QUORUM <= len(peers) == len(set(peers))

    simulated(story)


def test_transfers_and_the_roster_are_told(simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        await world.until_round(1, world.nodes)
        told = await all_of(world.nodes[0])
        here = [event.here for event in told if isinstance(event, MemberGathered)]
        assert here == [1, 2, 3]
        assert len([event for event in told if isinstance(event, MemberJoined) and event.round == 0]) == 3
        begun = {event.cid for event in told if isinstance(event, TransferBegun)}
        done = {event.cid: event for event in told if isinstance(event, TransferDone)}
        deltas = {event.delta for event in told if isinstance(event, UpdateArrived) and event.round == 1}
        fetched = deltas & done.keys()
        assert 1 <= len(fetched) <= 2, "those of others that it waited for"
        assert fetched <= begun
        assert all(done[cid].providers and done[cid].bytes for cid in fetched)
        left = world.nodes[1].alive.events.watch(kinds=("member-left",))
        await world.nodes[0].alive.ban(world.run, world.nodes[2].peer)
        with trio.fail_after(60):
            event = await anext(left)
        assert isinstance(event, MemberLeft)
        assert (event.peer, event.reason) == (world.nodes[2].peer, "banned")

    simulated(story)


def test_after_a_restart_a_cursor_is_answered_with_an_unknown_number_and_rounds_have_their_times(simulated) -> None:
    async def story(world: World) -> None:
        node = world.nodes[1]
        await world.found(world.nodes[0], world.nodes[1:])
        await world.until_round(3, world.nodes)
        before = node.alive.run_detail(world.run)
        await node.stop()
        await node.start()
        missed = await anext(node.alive.events.watch(after=before.cursor))
        assert isinstance(missed, EventsMissed)
        assert missed.count is None
        after = {event.round: event for event in node.alive.run_detail(world.run).rounds}
        told = {event.round: event for event in before.rounds}
        assert [after[round].at_s for round in (0, 1, 2)] == [told[round].at_s for round in (0, 1, 2)]
        assert all(event.at_s > 0 for event in after.values())
        assert after[2].signers == told[2].signers

    simulated(story)


def test_who_creates_or_joins_a_run_hears_at_once_that_its_data_is_forgotten(simulated) -> None:
    async def story(world: World) -> None:
        creator, other, _ = world.nodes
        await creator.start()
        config = RunConfig(name="sim", trainer="forgetful", policy=world.scenario.policy)
        made = await creator.alive.create_run(config)
        assert made.note == "its data is forgotten"
        world.run = made.run
        await other.start()
        await other.join()
        assert other.summary().note == "its data is forgotten"
        for node in (creator, other):
            notes = [event for event in await all_of(node) if isinstance(event, LogLine)]
            assert [(note.run, note.level, note.sentence) for note in notes] == [(made.run, "warning", made.note)]

    simulated(story)


def test_who_has_set_all_is_told_nothing(simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        assert world.nodes[0].summary().note == ""
        assert not [event for event in await all_of(world.nodes[0]) if isinstance(event, LogLine)]

    simulated(story)


def test_the_life_of_trainers_is_told_also_of_one_that_makes_the_first_params_of_a_run(simulated) -> None:
    async def story(world: World) -> None:
        await world.found(world.nodes[0], world.nodes[1:])
        await world.until_round(1, world.nodes)
        first, last, mine, *_ = [
            event for event in await all_of(world.nodes[0]) if isinstance(event, TrainerStarted | TrainerStopped)
        ]
        assert (type(first), first.run) == (TrainerStarted, "")
        assert (type(last), last.run) == (TrainerStopped, "")
        assert (type(mine), mine.run) == (TrainerStarted, world.run)

    simulated(story)
