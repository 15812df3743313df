"""What a trainer may use: the rule, and real processes that take more."""

from pathlib import Path

import pytest
import trio

from primep2p.config import TrainerLimits, TrainerSection
from primep2p.model.errors import PluginError
from primep2p.plugin.child import environment_for
from primep2p.plugin.limits import Usage, excess
from primep2p.plugin.process import Worker
from primep2p.plugin.workers import WorkerProcesses
from tests.plugin.test_worker import AMPLE_S, SAMPLES, first_params, working

MIB = 2**20


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (TrainerLimits(), ""),
        (TrainerLimits(memory_mib=300, cpu_s=5), ""),
        (TrainerLimits(memory_mib=299), " used 300 MiB of memory, and trainer.memory_mib of node.toml allows 299"),
        (TrainerLimits(cpu_s=4), " used 5.0 s of processor time, and trainer.cpu_s of node.toml allows 4"),
    ],
)
def test_what_is_above_a_limit_is_told_with_the_setting(limits: TrainerLimits, told: str) -> None:
    said = excess(Usage(300 * MIB, 8.0), Usage(500 * MIB, 3.0), limits)
    assert said.startswith(told)
    assert bool(said) == bool(told)


@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize(
    ("takes", "limits", "told"),
    [
        ("memory", TrainerLimits(memory_mib=170), r"used \d+ MiB of memory, and trainer.memory_mib .* allows 170"),
        ("cpu", TrainerLimits(cpu_s=0.5), r"used 0\.\d s of processor time, and trainer.cpu_s .* allows 0.5"),
        ("wall", TrainerLimits(wall_s=1.5), "took longer than the 1.5 s that trainer.wall_s of node.toml allows"),
    ],
)
async def test_a_trainer_that_takes_too_much_is_stopped_and_so_is_its_child(
    tmp_path: Path, takes: str, limits: TrainerLimits, told: str, child: bool
) -> None:
    async with working(tmp_path, "Greedy", takes=takes, child=child) as worker:
        params = await first_params(tmp_path, worker)
        await worker.prepare()  # whose time and memory are not in question
        worker._limits = limits
        with pytest.raises(PluginError, match=told):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
        worker._limits = TrainerLimits()
        assert (await worker.evaluate(1, 1, params))["trained"] == 0


def test_a_trainer_has_limits_of_its_own_or_those_of_all(tmp_path: Path) -> None:
    section = TrainerSection(memory_mib=1, limits={"mlp": TrainerLimits(cpu_s=2)})
    trainers = WorkerProcesses(section, tmp_path)
    found = {name: trainers.worker(name, {}, "place", ())._limits for name in ("mlp", "noop")}
    assert (found["mlp"].memory_mib, found["mlp"].cpu_s) == (0, 2)
    assert (found["noop"].memory_mib, found["noop"].cpu_s) == (1, 0)


def test_secrets_stay_in_the_daemons_environment_unless_they_are_asked_for() -> None:
    ours = dict.fromkeys(
        [
            "PATH",
            "KEYBOARD",
            "CUDA_VISIBLE_DEVICES",
            "TOKENIZERS_PARALLELISM",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "OPENAI_API_KEY",
            "db_password",
            "SSH_AUTH_SOCK",
            "PRIMEP2P__P2P__PSK",
            "OMP_NUM_THREADS",
        ],
        "7",
    )
    given = environment_for(ours, ["HF_TOKEN", "PRIMEP2P__P2P__PSK"])
    assert {name for name, value in given.items() if value == "7"} == {
        "PATH",
        "KEYBOARD",
        "CUDA_VISIBLE_DEVICES",
        "TOKENIZERS_PARALLELISM",
        "HF_TOKEN",
        "OMP_NUM_THREADS",
    }
    assert given["MKL_NUM_THREADS"] == "1"


async def test_a_mistake_of_the_owner_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    async with working(tmp_path, "Misled") as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError) as caught:
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
    assert caught.value.sentence == "trainer Misled: trainer_config.colour is 'red', and must be 'blue'"
    assert caught.value.stderr == ""


async def test_the_log_of_first_params_that_were_refused_stays_where_the_hint_says(tmp_path: Path) -> None:
    trainers = WorkerProcesses(TrainerSection(plugins={"a/b": f"{SAMPLES}:Wrong"}), tmp_path)
    worker = trainers.worker("a/b", {"wrong": "NaN"}, "new-1", ())
    assert isinstance(worker, Worker)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        with pytest.raises(PluginError, match="not finite") as silent:
            await worker.init(1)
        worker._config = {"wrong": "exits"}
        with pytest.raises(PluginError) as caught:
            await worker.init(1)
        nursery.cancel_scope.cancel()
    trainers.discard("new-1")
    assert not (tmp_path / "new-1").exists()
    assert silent.value.hint == ""
    assert caught.value.hint == f"its log: {tmp_path / 'logs' / 'a_b.log'}"
    assert trainers.log("a/b").is_file()


def test_an_owner_without_data_is_told_so_by_the_name_of_the_setting(tmp_path: Path) -> None:
    said = WorkerProcesses(TrainerSection(), tmp_path).note("mlp")
    assert said == "trainer.data of node.toml is not set: the trainer 'mlp' has no data of this node's own"
    assert WorkerProcesses(TrainerSection(data="/data.npz"), tmp_path).note("mlp") == ""
