"""The line in front of a trainer, with a trainer in this process."""

from pathlib import Path

import pytest
import trio
import trio.testing

from primep2p.model.errors import PluginError
from primep2p.model.views.events import PluginFailed, TrainingReported
from primep2p.plugin.process import InitialModel, Interrupted, Made, Report, Trained
from primep2p.services.training.training import Training, TrainingEvent

PARAMS = Path("params")


class Trainer:
    """Does what it is told at once, or when it is let go on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seeds: dict[str, int] = {}
        self.go = trio.Event()
        self.fails = False
        self.interrupted_after_s: list[float] = []
        self.deadlines_s: list[float] = []
        self.loss = 0.25
        self._turns = trio.Semaphore(1, max_value=1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def prepare(self) -> Made:
        await self._work("prepare", 0)
        return Made(2, predicts=False)

    async def init(self, seed: int, *, report: Report | None = None) -> InitialModel:
        await self._work("init", seed)
        return InitialModel(PARAMS, ())

    async def train(
        self, round: int, seed: int, params: Path, *, deadline_s: float, report: Report | None = None
    ) -> Trained:
        assert report is not None
        self.deadlines_s.append(deadline_s)
        if self.interrupted_after_s:
            raise Interrupted(PluginError("it crashed"), self.interrupted_after_s.pop(0))
        report(1, 2, self.loss)
        await self._work(f"train {round}", seed)
        return Trained(params, 1, {}, 0.0)

    async def evaluate(self, round: int, seed: int, params: Path, *, report: Report | None = None) -> dict[str, float]:
        await self._work(f"evaluate {round}", seed)
        return {}

    async def predict(self, params: Path, inputs: Path) -> Path:
        raise AssertionError("nobody asked")

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    async def _work(self, what: str, seed: int) -> None:
        self._turns.acquire_nowait()  # raises where two requests meet
        try:
            self.asked.append(what)
            self.seeds[what] = seed
            await self.go.wait()
            if self.fails:
                raise PluginError("it failed", stderr="its last line")
        finally:
            self._turns.release()


def training(trainer: Trainer, events: list[TrainingEvent], seed: bytes = b"node") -> Training:
    return Training(lambda: trainer, seed=seed, deadline_s=9.0, report=events.append, run="ab")


async def test_training_goes_before_evaluations_that_wait_and_after_the_one_under_way() -> None:
    trainer = Trainer()
    service = training(trainer, [])
    async with trio.open_nursery() as nursery:
        for verb, round in ((service.evaluate, 1), (service.evaluate, 2), (service.train, 3), (service.train, 4)):
            nursery.start_soon(verb, round, PARAMS)
            await trio.testing.wait_all_tasks_blocked()
        trainer.go.set()
    assert trainer.asked == ["evaluate 1", "train 3", "train 4", "evaluate 2"]


async def test_one_who_leaves_the_line_holds_nobody_up() -> None:
    trainer = Trainer()
    service = training(trainer, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.evaluate, 1, PARAMS)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as impatient:
            impatient.start_soon(service.train, 2, PARAMS)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        nursery.start_soon(service.train, 3, PARAMS)
        await trio.testing.wait_all_tasks_blocked()
        trainer.go.set()
    await service.evaluate(4, PARAMS)
    assert trainer.asked == ["evaluate 1", "train 3", "evaluate 4"]


async def test_one_who_is_cancelled_at_work_passes_the_trainer_on() -> None:
    trainer = Trainer()
    service = training(trainer, [])
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(service.train, 1, PARAMS)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(service.evaluate, 2, PARAMS)
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        trainer.go.set()
    assert trainer.asked == ["train 1", "evaluate 2"]


async def test_a_failure_reaches_the_owner_and_the_caller() -> None:
    trainer, events = Trainer(), list[TrainingEvent]()
    trainer.go.set()
    trainer.fails = True
    service = training(trainer, events)
    with pytest.raises(PluginError, match="it failed"):
        await service.evaluate(3, PARAMS)
    assert events == [PluginFailed(run="ab", round=3, sentence="it failed", stderr="its last line")]
    trainer.fails = False
    assert await service.evaluate(4, PARAMS) == {}


async def test_a_training_that_saved_its_state_goes_on_from_there_in_the_time_that_is_left() -> None:
    trainer, events = Trainer(), list[TrainingEvent]()
    trainer.go.set()
    trainer.interrupted_after_s = [2.0, 3.0]
    trained = await training(trainer, events).train(3, PARAMS)
    assert trainer.deadlines_s == [9.0, 7.0, 4.0]
    assert trained.seconds == 5.0
    told = PluginFailed(run="ab", round=3, sentence="it crashed", stderr="")
    assert [event for event in events if isinstance(event, PluginFailed)] == [told, told]


async def test_pause_and_resume_do_not_wait_for_the_line() -> None:
    trainer = Trainer()
    service = training(trainer, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.train, 1, PARAMS)
        await trio.testing.wait_all_tasks_blocked()
        service.pause()
        service.resume()
        trainer.go.set()
    assert trainer.asked == ["train 1", "pause", "resume"]


async def test_a_trainer_is_prepared_before_what_is_asked_of_it_and_tells_of_no_failure_then() -> None:
    trainer, events = Trainer(), list[TrainingEvent]()
    service = training(trainer, events)
    trainer.fails = True

    async def prepare() -> None:
        with pytest.raises(PluginError, match="it failed"):
            await service.prepare()
        trainer.fails = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepare)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(service.evaluate, 1, PARAMS)
        await trio.testing.wait_all_tasks_blocked()
        trainer.go.set()
    assert trainer.asked == ["prepare", "evaluate 1"]
    assert events == []


@pytest.mark.parametrize(("loss", "told"), [(0.25, 0.25), (float("nan"), None), (float("inf"), None)])
async def test_progress_becomes_events_that_json_can_say(loss: float, told: float | None) -> None:
    trainer, events = Trainer(), list[TrainingEvent]()
    trainer.go.set()
    trainer.loss = loss
    await training(trainer, events).train(3, PARAMS)
    assert events == [TrainingReported(run="ab", round=3, step=1, steps=2, loss=told)]


async def test_the_seed_is_a_rounds_and_a_nodes_own() -> None:
    seeds: list[int] = []
    for node in (b"one", b"one", b"two"):
        trainer = Trainer()
        trainer.go.set()
        service = training(trainer, [], seed=node)
        await service.initialise()
        await service.train(1, PARAMS)
        await service.train(2, PARAMS)
        seeds.append(trainer.seeds["train 1"])
        assert len(set(trainer.seeds.values())) == 3
        assert all(0 <= seed < 2**63 for seed in trainer.seeds.values())
    assert seeds[0] == seeds[1] != seeds[2]
