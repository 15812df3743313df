"""Real trainers in real processes: what the second version of the plugin API brought."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import trio
import trio.testing
from safetensors.numpy import load_file, save_file

from primep2p.model.errors import CallError, PluginError
from primep2p.plugin.process import Interrupted
from tests.plugin.test_worker import AMPLE_S, first_params, listening, working


async def test_a_trainer_of_the_first_version_works(tmp_path: Path) -> None:
    async with working(tmp_path, "OfYesterday") as worker:
        params = await first_params(tmp_path, worker)
        assert (await worker.train(1, 1, params, deadline_s=AMPLE_S)).examples == 7
        save_file({"x": np.ones(1)}, tmp_path / "inputs")
        with pytest.raises(PluginError, match="it has no predict method"):
            await worker.predict(params, tmp_path / "inputs")


async def test_a_model_answers_in_a_file_of_arrays(tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3)
    save_file({"x": x}, tmp_path / "inputs")
    async with working(tmp_path, "Predicts") as worker:
        answers = load_file(await worker.predict(await first_params(tmp_path, worker), tmp_path / "inputs"))
    assert {name: array.tolist() for name, array in answers.items()} == {
        "sum": x.sum(axis=1).tolist(),
        "label": 7,
        "x": x.T.tolist(),
    }


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("NaN", "output 'y' has values that are not numbers"),
        ("a list", "output 'y' is a list, not a numpy array"),
        ("words", "array 'y' is of <U3, and must be a numpy array of bools, ints or floats"),
        ("no file", "gave a result that cannot be used: the file is missing"),
        ("a file of something else", "gave a result that cannot be used: it is no safetensors file"),
    ],
)
async def test_answers_that_cannot_be_used_are_told_in_one_sentence(tmp_path: Path, wrong: str, told: str) -> None:
    save_file({"x": np.ones((1, 1))}, tmp_path / "inputs")
    async with working(tmp_path, "Predicts", wrong=wrong) as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match=told):
            await worker.predict(params, tmp_path / "inputs")
    assert not list((tmp_path / "Predicts").glob("result-*"))


async def test_a_question_that_is_no_file_of_arrays_is_the_askers_fault(tmp_path: Path) -> None:
    (tmp_path / "inputs").write_text("x = 1")
    async with working(tmp_path, "Predicts") as worker:
        with pytest.raises(CallError, match="cannot be given to a model: it is no safetensors file"):
            await worker.predict(tmp_path / "absent", tmp_path / "inputs")
        with pytest.raises(CallError, match="cannot be given to a model: the file is missing"):
            await worker.predict(tmp_path / "absent", tmp_path / "no inputs")


async def test_a_training_goes_on_from_what_it_saved_as_long_as_it_gets_further(tmp_path: Path) -> None:
    async with working(tmp_path, "Saves", crashes=[1, 3]) as worker:
        params = await first_params(tmp_path, worker)
        for _ in range(2):
            with pytest.raises(Interrupted, match="exited with status 5") as caught:
                await worker.train(2, 9, params, deadline_s=AMPLE_S)
            assert 0 < caught.value.spent_s < AMPLE_S
        assert (await worker.train(2, 9, params, deadline_s=AMPLE_S)).metrics == {"begun_at": 3, "sum": 10}


async def test_a_training_that_fails_without_getting_further_begins_anew(tmp_path: Path) -> None:
    async with working(tmp_path, "Saves", crashes=[], always=True) as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(Interrupted, match="whatever I do"):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
        with pytest.raises(PluginError, match="whatever I do") as caught:
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
        assert not isinstance(caught.value, Interrupted)
    assert not (tmp_path / "Saves" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("round", "seed", "other_params", "begun_at"),
    [(2, 9, False, 4), (3, 9, False, 0), (2, 8, False, 0), (2, 9, True, 0)],
)
async def test_after_a_restart_the_very_same_training_goes_on_and_no_other(
    tmp_path: Path, round: int, seed: int, other_params: bool, begun_at: int
) -> None:
    async with working(tmp_path, "Saves", crashes=[4]) as worker:
        params = await first_params(tmp_path, worker)
        tensors = worker._tensors
        with pytest.raises(Interrupted):
            await worker.train(2, 9, params, deadline_s=AMPLE_S)
    if other_params:
        params.write_bytes(params.read_bytes()[:-4] + np.float32(1).tobytes())
    async with working(tmp_path, "Saves", crashes=[]) as restarted:
        restarted._tensors = tensors
        trained = await restarted.train(round, seed, params, deadline_s=AMPLE_S)
    assert trained.metrics == {"begun_at": begun_at, "sum": 10}


async def test_a_damaged_checkpoint_is_none(tmp_path: Path) -> None:
    async with working(tmp_path, "Saves", crashes=[]) as worker:
        params = await first_params(tmp_path, worker)
        (tmp_path / "Saves" / "checkpoint.safetensors").write_bytes(b"torn")
        assert (await worker.train(2, 9, params, deadline_s=AMPLE_S)).metrics["begun_at"] == 0


async def test_only_training_can_be_gone_on_with(tmp_path: Path) -> None:
    async with working(tmp_path, "Saves") as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match="only train can save a checkpoint"):
            await worker.evaluate(1, 1, params)


async def stopped(process: psutil.Process) -> None:
    """The system tells nobody but its parent."""
    with trio.fail_after(10):
        while process.status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_paused_trainer_stands_still_with_its_children_and_is_not_blamed(tmp_path: Path) -> None:
    reported = trio.Event()
    async with working(tmp_path, "Counts") as worker, trio.open_nursery() as nursery:
        params = await first_params(tmp_path, worker)
        await worker.prepare()
        worker._silent_s = 2.0

        async def train() -> None:
            trained = await worker.train(1, 1, params, deadline_s=AMPLE_S, report=lambda *_: reported.set())
            assert trained.examples == 7
            assert trained.seconds < 2.5

        nursery.start_soon(train)
        await reported.wait()
        (trainer,) = psutil.Process().children()
        worker.pause()
        (child,) = trainer.children()
        await stopped(trainer)
        await stopped(child)
        await trio.sleep(2.5)  # longer than it may be silent
        (tmp_path / "Counts" / "scratch" / "enough").touch()
        worker.resume()


async def test_a_request_of_a_paused_trainer_waits(tmp_path: Path) -> None:
    async with working(tmp_path, "Good") as worker, trio.open_nursery() as nursery:
        params = await first_params(tmp_path, worker)
        worker.pause()
        nursery.start_soon(lambda: worker.train(1, 1, params, deadline_s=AMPLE_S))
        await trio.testing.wait_all_tasks_blocked()
        assert psutil.Process().children() == []
        worker.resume()


async def test_a_paused_trainer_can_be_cancelled(tmp_path: Path) -> None:
    alive = await listening()
    async with working(tmp_path, "Hangs", port=alive.port) as worker:
        params = await first_params(tmp_path, worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.train(1, 1, params, deadline_s=AMPLE_S))
            await alive.begun()
            worker.pause()
            nursery.cancel_scope.cancel()
        await alive.ended()


DAEMON = """
import sys, trio
from pathlib import Path
from tests.plugin.test_worker import first_params, working
async def pause(worker):
    await trio.to_thread.run_sync(sys.stdin.readline)
    worker.pause()
    print("paused", flush=True)
async def main():
    async with working(Path(sys.argv[1]), "Hangs", port=int(sys.argv[2])) as worker, trio.open_nursery() as nursery:
        nursery.start_soon(pause, worker)
        await worker.train(1, 1, await first_params(Path(sys.argv[1]), worker), deadline_s=100)
trio.run(main)
"""


async def test_a_killed_daemon_takes_a_paused_trainer_with_it(tmp_path: Path) -> None:
    alive = await listening()
    daemon = await trio.lowlevel.open_process(
        [sys.executable, "-c", DAEMON, str(tmp_path), str(alive.port)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # as `primep2p daemon start` does
    )
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    await alive.begun()
    (trainer,) = psutil.Process(daemon.pid).children()
    await daemon.stdin.send_all(b"\n")
    assert await daemon.stdout.receive_some(1) == b"p"
    await stopped(trainer)
    assert os.getsid(trainer.pid) == daemon.pid
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    await alive.ended()
