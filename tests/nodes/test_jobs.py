"""Members that train in loops of their own, in whole nodes and virtual time: they take part as any other."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing
from msgspec.structs import replace
from safetensors.numpy import load_file

from primep2p.model.errors import CallError
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import AnyEvent, Evaluated, JobChanged, TrainingReported
from primep2p.model.views.jobs import JobAccepted, JobChunk, JobOpen, JobRefused, JobRejected, JobTaken
from primep2p.run_config import JOBS, RunConfig
from tests.nodes.loops import WAIT_S, Loop, run_of_jobs
from tests.nodes.test_standings import until_phase
from tests.nodes.world import Scenario, SimNode, World, simulate

SILENT_S = 120.0
"""node.toml's default."""

Simulated = Callable[..., World]


@pytest.fixture
def simulated(tmp_path: Path) -> Simulated:
    def run(story: Callable[[World], Awaitable[None]], *, nodes: int = 3, **policy: object) -> World:
        usual = RoundPolicy(first_members=nodes, min_updates=nodes, collect_s=20.0, rounds=4)
        scenario = Scenario(0, nodes, replace(usual, **policy))
        return simulate(scenario, tmp_path / "world", story)

    return run


async def begin(world: World, config: RunConfig | None = None, *, own_loop: tuple[int, ...] = ()) -> None:
    """A run of all nodes, from round 0 on."""
    creator, *others = world.nodes
    await creator.start()
    config = config or run_of_jobs(world)
    world.run = (await creator.alive.create_run(config, own_loop=0 in own_loop)).run
    for other in others:
        await other.start()
        await other.alive.join_run(world.run, own_loop=other.index in own_loop)
    await world.until_round(0, world.nodes)


def bytes_of(path: str) -> bytes:
    return Path(path).read_bytes()


async def heard(node: SimNode, into: list[AnyEvent], *, task_status: object = trio.TASK_STATUS_IGNORED) -> None:
    events = node.alive.events.watch()
    task_status.started()  # type: ignore[attr-defined]
    async for event in events:
        into.append(event)


def test_a_run_whose_members_all_train_in_loops_learns_from_each_of_them_in_every_round(simulated):
    loops: list[Loop] = []

    async def story(world: World) -> None:
        await begin(world)
        loops.extend(Loop(node) for node in world.nodes)
        async with trio.open_nursery() as nursery:
            for loop in loops:
                nursery.start_soon(loop.run)
        await world.until_round(4, world.nodes)
        path = (await world.nodes[0].alive.shelf.path(f"{world.run}@4")).path
        for name, array in load_file(path).items():  # the mean of three that each went down by a tenth, four times
            np.testing.assert_allclose(array, {"w": 0.6, "b": -0.4}[name], atol=1e-5)

    world = simulated(story)
    everybody = frozenset(node.peer for node in world.nodes)
    assert [world.trainers[round] for round in range(1, 5)] == [everybody] * 4
    for loop in loops:
        assert [job.round for job in loop.accepted] == [1, 2, 3, 4]
        assert all(isinstance(answer, JobTaken) for answer in loop.answers)
        assert loop.rejected[-1].reason == "finished"


def test_a_job_says_all_that_a_round_of_training_needs(simulated):
    async def story(world: World) -> None:
        config = replace(run_of_jobs(world), trainer_config={"epochs": 2})
        await begin(world, config)
        first, again, other = [await Loop(world.nodes[index]).accept() for index in (0, 0, 1)]
        assert first.job == again.job == f"{world.run[:16]}-1"
        assert first.seed == again.seed != other.seed < 2**53
        assert first.config == {"epochs": 2}
        assert (first.trainer, first.round, first.run) == (JOBS, 1, world.run)
        assert {each.name: (each.dtype, each.shape) for each in first.tensors} == {
            "w": ("float32", [2, 3]),
            "b": ("float32", []),
        }
        assert 19 < first.left_s <= 20
        raw = bytes_of(first.path)
        assert (first.size_bytes, first.sha256) == (len(raw), sha256(raw).hexdigest())
        assert first.cid == (await world.nodes[0].alive.shelf.path(f"{world.run}@0")).cid

    simulated(story)


def test_one_owner_may_train_in_a_loop_where_the_others_have_the_runs_plugin_and_a_restart_changes_nothing(simulated):
    async def story(world: World) -> None:
        await begin(world, RunConfig(name="mixed", trainer="sim", policy=world.scenario.policy), own_loop=(2,))
        owner = world.nodes[2]
        loop = Loop(owner)
        with pytest.raises(CallError, match="trains with the plugin 'sim'") as refused:
            await world.nodes[1].alive.jobs.next(world.run, "", 0)
        assert "run join ID --own-loop" in refused.value.hint
        with pytest.raises(CallError, match="is in the run already, and trains there with the plugin 'sim'"):
            await world.nodes[1].alive.join_run(world.run, own_loop=True)
        for _ in range(2):
            job = await loop.accept()
            assert isinstance(await loop.submit(job), JobTaken)
            await world.until_round(job.round, world.nodes)
        await owner.stop()
        await owner.start()
        assert owner.alive.run_detail(world.run).own_loop
        assert not world.nodes[1].alive.run_detail(world.run).own_loop
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.run)
        await world.until_round(4, world.nodes)
        assert world.trainers[4] == frozenset(node.peer for node in world.nodes)

    simulated(story)


def test_a_run_of_loops_has_to_be_given_its_first_params_and_they_must_be_a_model(simulated):
    async def story(world: World) -> None:
        node, config = world.nodes[0], run_of_jobs(world)
        await node.start()
        with pytest.raises(CallError, match="needs first params") as lacking:
            await node.alive.create_run(replace(config, params=""))
        assert "--params FILE" in lacking.value.hint
        (world.root / "odd").write_bytes(b"\0" * 100)
        with pytest.raises(CallError, match=r"odd' cannot begin a run: no safetensors file"):
            await node.alive.create_run(replace(config, params=str(world.root / "odd")))
        assert node.alive.runs() == []
        assert (await node.alive.create_run(replace(config, trainer="sim"))).name == "loops"

    simulated(story)


def test_a_loop_that_dies_costs_its_node_the_round_and_nobody_else_anything(simulated):
    """Two of three are enough here: the round goes on without it, and its job is stale then."""

    async def story(world: World) -> None:
        await begin(world)
        dead, *alive = [Loop(node) for node in world.nodes]
        job = await dead.accept()
        async with trio.open_nursery() as nursery:
            for loop in alive:
                nursery.start_soon(loop.run)
            await world.until_round(1, world.nodes)
            late = await dead.submit(job)
            assert isinstance(late, JobRefused)
            assert (late.reason, late.sentence) == ("stale", "round 1 is not under way: ask for the next job")
            assert (await dead.accept()).round == 2
            nursery.start_soon(dead.run)
        assert dead.rejected[-1].reason == "finished"

    world = simulated(story, min_updates=2)
    assert world.nodes[0].peer not in world.trainers[1]
    assert len(world.trainers[4]) == 3


def test_where_everybody_is_needed_the_round_waits_for_the_deadline_and_no_longer(simulated):
    async def story(world: World) -> None:
        await begin(world)
        dead, *alive = [Loop(node) for node in world.nodes]
        job = await dead.accept()
        began = trio.current_time()
        for loop in alive:
            await loop.submit(await loop.accept())
        events: list[AnyEvent] = []
        await world.nursery.start(heard, dead.node, events)
        await trio.sleep(job.left_s + 0.01)
        await trio.testing.wait_all_tasks_blocked()
        assert await dead.submit(job) == JobRefused(
            job=job.job, reason="late", sentence="the deadline of round 1 has passed: ask for the next job"
        )
        missed = await dead.next(0)
        assert isinstance(missed, JobRejected)
        assert (missed.reason, missed.sentence) == ("missed", "the deadline of round 1 has passed")
        assert [event.state for event in events if isinstance(event, JobChanged)] == ["missed"]
        assert (await dead.accept()).round == 2
        assert trio.current_time() < began + 25

    world = simulated(story)
    assert world.trainers[1] == frozenset()  # void


def test_a_job_goes_to_one_worker_again_and_to_another_when_that_one_is_silent(simulated):
    async def story(world: World) -> None:
        await begin(world)
        node = world.nodes[0]
        one, other = Loop(node, worker="one"), Loop(node, worker="other")
        job = await one.accept()
        assert (await one.accept()).job == job.job
        busy = await other.next(0)
        assert isinstance(busy, JobRejected)
        assert (busy.reason, busy.retry_after_s) == ("given", SILENT_S)
        assert busy.sentence == "the worker 'one' has the job of round 1"
        await trio.sleep(100)
        assert isinstance(node.alive.jobs.report(job.job, 1, 9, 0.5), JobOpen)  # a sign of life
        before = trio.current_time()
        assert (await other.accept()).job == job.job
        assert trio.current_time() == pytest.approx(before + SILENT_S)
        assert isinstance(await one.submit(job), JobTaken)  # whoever is first
        assert isinstance(twice := await other.submit(job), JobRefused)
        assert twice.reason == "twice"
        assert isinstance(done := await other.next(0), JobRejected)
        assert done.reason == "done"

    simulated(story, collect_s=600.0)


def test_what_cannot_be_worked_on_is_refused_with_the_reason(simulated):
    async def story(world: World) -> None:
        await begin(world)
        loop = Loop(world.nodes[0])
        jobs, job = world.nodes[0].alive.jobs, await loop.accept()
        for id_, reason in ((f"{world.run[:16]}-9", "stale"), ("nonsense", "unknown"), ("ab" * 8 + "-1", "unknown")):
            answers = (
                jobs.report(id_, 1, 1, 0.5),
                await jobs.params(id_, 0, 10),
                await jobs.upload(id_, 0, b"x"),
                await loop.submit(replace(job, job=id_)),
            )
            assert {answer.reason for answer in answers if isinstance(answer, JobRefused)} == {reason}
            assert all(isinstance(answer, JobRefused) for answer in answers)
        with pytest.raises(CallError, match="is no absolute path"):
            await loop.submit(job, Path("here.safetensors"))

    simulated(story)


def test_a_malformed_update_is_refused_by_name_told_to_the_owner_and_may_be_mended(simulated):
    makes = [
        (lambda params: {**params, "w": params["w"].T.copy()}, {}, "tensor 'w' has shape [3, 2], not [2, 3]"),
        (lambda params: {"w": params["w"]}, {}, "the file lacks the tensor 'b'"),
        (
            lambda params: {**params, "b": np.float32("nan") * params["b"]},
            {},
            "tensor 'b' has a value that is not finite",
        ),
        (lambda params: params, {"metrics": {"loss": float("inf")}}, "metric 'loss' is not finite"),
    ]

    async def story(world: World) -> None:
        await begin(world)
        node = world.nodes[0]
        job = await Loop(node).accept()
        events: list[AnyEvent] = []
        await world.nursery.start(heard, node, events)
        for make, more, sentence in makes:
            answer = await Loop(node, work=make).submit(job, **more)
            assert answer == JobRefused(job=job.job, reason="malformed", sentence=sentence)
        nothing = await node.alive.jobs.submit(job.job, path="", kind="delta", examples=1, metrics={}, evaluated={})
        assert isinstance(nothing, JobRefused)
        assert isinstance(await Loop(node).submit(job), JobTaken)
        await trio.testing.wait_all_tasks_blocked()
        told = [(event.state, event.sentence) for event in events if isinstance(event, JobChanged)]
        sentences = [sentence for _, _, sentence in makes]
        assert told == [*(("refused", each) for each in (*sentences, nothing.sentence)), ("taken", "")]

    simulated(story)


def test_whoever_shares_no_disk_reads_and_writes_by_pieces(simulated):
    async def story(world: World) -> None:
        await begin(world)
        node, loop = world.nodes[0], Loop(world.nodes[0])
        jobs, job = node.alive.jobs, await loop.accept()
        raw = b""
        while len(raw) < job.size_bytes:
            piece = await jobs.params(job.job, len(raw), 50)
            assert isinstance(piece, JobChunk)
            raw += piece.data
        assert raw == bytes_of(job.path)
        made = loop.made(job).read_bytes()
        for offset in (*range(0, len(made), 50), 50, 0, *range(0, len(made), 50)):  # again, and then anew
            answer = await jobs.upload(job.job, offset, made[offset : offset + 50])
            assert isinstance(answer, JobOpen)
        assert answer.uploaded_bytes == len(made)
        gap = await jobs.upload(job.job, len(made) + 1, b"x")
        assert isinstance(gap, JobRefused)
        assert gap.sentence == f"{len(made)} bytes are here: what begins at {len(made) + 1} leaves a gap"
        large = await jobs.upload(job.job, 0, bytes(200_000))
        assert isinstance(large, JobRefused)
        assert large.sentence.startswith("an update of this run has at most ")
        upload = node.home / "jobs" / world.run / "upload-1.safetensors"
        assert upload.read_bytes() == made
        taken = await jobs.submit(job.job, path="", kind="params", examples=3, metrics={}, evaluated={})
        assert isinstance(taken, JobTaken)
        await trio.testing.wait_all_tasks_blocked()
        assert not upload.exists()

    simulated(story)


def test_reports_and_what_was_measured_of_the_base_are_events_as_a_plugins_are(simulated):
    async def story(world: World) -> None:
        await begin(world)
        node, loop, events = world.nodes[0], Loop(world.nodes[0]), []
        await world.nursery.start(heard, node, events)
        job = await loop.accept()
        for step in range(1, 6):
            node.alive.jobs.report(job.job, step, 5, None if step == 1 else 0.25)
        await loop.submit(job, evaluated={"accuracy": 0.75})
        await trio.testing.wait_all_tasks_blocked()
        reports = [event for event in events if isinstance(event, TrainingReported)]
        assert [(each.step, each.loss) for each in reports] == [(1, None), (5, 0.25)]  # at once: not each is told
        assert [(each.round, each.metrics) for each in events if isinstance(each, Evaluated)] == [
            (0, {"accuracy": 0.75})
        ]

    simulated(story)


def test_before_the_run_begins_and_where_a_node_is_not_drawn_it_is_told_when_to_come_again(simulated):
    async def story(world: World) -> None:
        creator, *others = world.nodes
        await creator.start()
        world.run = (await creator.alive.create_run(run_of_jobs(world))).run
        waiting = Loop(creator)
        gathering = await waiting.next(0)
        assert isinstance(gathering, JobRejected)
        assert gathering.reason == "gathering"
        assert gathering.retry_after_s is not None
        for other in others:
            await other.start()
            await other.alive.join_run(world.run)
        await world.until_round(0, world.nodes)
        answers = [await Loop(node).next(2.0) for node in world.nodes]
        drawn = [answer.round for answer in answers if isinstance(answer, JobAccepted)]
        assert drawn == [1, 1]
        assert [answer.reason for answer in answers if isinstance(answer, JobRejected)] == ["not-drawn"] * 2

    simulated(story, nodes=4, min_updates=2, sample_fraction="0.5")


def test_who_waits_is_answered_as_soon_as_there_is_a_job_and_not_before(simulated):
    async def story(world: World) -> None:
        await begin(world)
        first, *others = [Loop(node) for node in world.nodes]
        await first.submit(await first.accept())
        began, answered = trio.current_time(), []

        async def wait() -> None:
            answered.append(await first.next(WAIT_S))
            answered.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(5)
            assert answered == []
            for loop in others:
                await loop.submit(await loop.accept())
        job, seconds = answered
        assert job.round == 2
        assert 5 <= seconds < 6
        nothing = await first.next(0)
        assert isinstance(nothing, JobAccepted)  # its own, again

    simulated(story)


def test_in_a_buffered_run_a_job_lasts_longer_than_its_round_and_its_update_enters_a_later_one(simulated):
    async def story(world: World) -> None:
        await begin(world)
        slow, *fast = [Loop(node) for node in world.nodes]
        job = await slow.accept()
        for round_ in (1, 2):  # two of three are enough for a checkpoint
            for loop in fast:
                await loop.submit(await loop.accept())
            await world.until_round(round_, world.nodes)
        assert isinstance(slow.node.alive.jobs.report(job.job, 1, 1, None), JobOpen)
        assert (await slow.next(0)).job == job.job == f"{world.run[:16]}-1"
        assert isinstance(await slow.submit(job), JobTaken)
        waits = await slow.next(0)
        assert isinstance(waits, JobRejected)
        assert waits.reason == "done"
        for loop in fast:
            await loop.submit(await loop.accept())
        await world.until_round(3, world.nodes)
        assert (await slow.accept()).round in (3, 4)

    world = simulated(story, mode="buffered", updates_per_version=2, min_updates=2)
    entered = [round for round in (1, 2, 3) if world.nodes[0].peer in world.trainers[round]]
    assert entered == [3]


def test_who_has_left_may_come_back_with_a_loop_of_its_own_and_the_other_way_round(simulated):
    async def story(world: World) -> None:
        policy = world.scenario.policy
        await begin(world, RunConfig(name="mixed", trainer="sim", policy=policy))
        node = world.nodes[2]
        for own_loop in (True, False):
            await node.alive.standings.leave(world.run, now=False)
            await until_phase(node, "left")
            await node.alive.join_run(world.run, own_loop=own_loop)
            await until_phase(node, "running")
            assert node.alive.run_detail(world.run).own_loop == own_loop
            if own_loop:
                assert isinstance(await Loop(node).submit(await Loop(node).accept()), JobTaken)
            else:
                with pytest.raises(CallError, match="trains with the plugin 'sim'"):
                    await node.alive.jobs.next(world.run, "", 0)

    simulated(story, min_updates=1, rounds=0)
