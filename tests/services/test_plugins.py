"""What a node tells of its trainers, with real processes."""

from pathlib import Path
from typing import Any

import pytest
import trio

from primep2p.config import TrainerSection
from primep2p.model.errors import CallError
from primep2p.plugin.workers import WorkerProcesses
from primep2p.services.training.plugins import Plugins
from tests.plugin.test_worker import SAMPLES

RUN = bytes(32)


class Runs:
    """One run, which every prefix of its id names."""

    run_id = RUN

    def named(self, prefix: str) -> Any:
        if not RUN.hex().startswith(prefix):
            raise CallError(f"this node is in no run {prefix!r}")
        return self


def plugins(tmp_path: Path, **local: str) -> tuple[Plugins, WorkerProcesses]:
    trainers = WorkerProcesses(TrainerSection(plugins=local), tmp_path / "trainers")
    return Plugins(trainers, Runs(), trio.to_thread.run_sync), trainers


async def test_each_trainer_is_made_once_in_a_process_of_its_own_of_which_nothing_stays(tmp_path: Path) -> None:
    service, _ = plugins(
        tmp_path,
        asked=f"{SAMPLES}:Predicts",
        old=f"{SAMPLES}:OfYesterday",
        broken=f"{SAMPLES}:CannotBeMade",
        gone="/no/such/file.py:Trainer",
    )
    views = {view.name: view for view in await service.list(names_only=False)}
    assert list(views) == sorted(views)
    assert (views["asked"].loads, views["asked"].abi_version, views["asked"].predicts) == (True, 2, True)
    assert (views["old"].abi_version, views["old"].predicts) == (1, False)
    assert views["old"].location == f"{SAMPLES}:OfYesterday"
    assert views["broken"].loads is False
    assert "loading it raised OSError: no such licence" in views["broken"].problem
    assert "there is no such file" in views["gone"].problem
    assert views["mlp"].loads
    assert views["mlp"].source.startswith("primep2p ")
    assert [path.name for path in (tmp_path / "trainers").iterdir()] == ["logs"]


async def test_names_alone_start_no_process(tmp_path: Path) -> None:
    service, _ = plugins(tmp_path, broken=f"{SAMPLES}:CannotBeMade")
    views = {view.name: view for view in await service.list(names_only=True)}
    assert {"broken", "mlp", "noop", "softmax"} <= set(views)
    assert (views["broken"].loads, views["broken"].source) == (None, "node.toml")
    assert not (tmp_path / "trainers").exists()


async def test_a_log_is_named_by_a_trainer_or_a_run_and_read_from_its_end(tmp_path: Path) -> None:
    service, trainers = plugins(tmp_path)
    for of, text in (("mlp", "for mlp"), (RUN.hex(), "x" * 300_000 + "\none\ntwo \x1b[31m\nthree\n")):
        trainers.log(of).parent.mkdir(parents=True, exist_ok=True)
        trainers.log(of).write_text(text)
    assert (await service.logs("mlp", 5)).lines == ["for mlp"]
    assert (await service.logs("00", 2)).lines == ["two [31m", "three"]
    with pytest.raises(CallError, match="in no run 'ff'"):
        await service.logs("ff", 1)
    with pytest.raises(CallError, match="nothing was printed"):
        await service.logs("noop", 1)
