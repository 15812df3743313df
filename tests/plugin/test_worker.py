"""Real trainers in real processes."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import trio
from safetensors.numpy import load_file

from primep2p.model.errors import PluginError, Unavailable
from primep2p.plugin.child import Log
from primep2p.plugin.process import Worker
from primep2p.store.tensors import canonical_header

SAMPLES = Path(__file__).with_name("sample_trainers.py")

AMPLE_S = 100.0
"""More than a trainer needs for anything, on whatever machine."""


@asynccontextmanager
async def working(directory: Path, trainer: str, silent_s: float = AMPLE_S, **config: object) -> AsyncIterator[Worker]:
    """A worker that has the tensors of the sample trainers."""
    worker = made(directory, trainer, silent_s, **config)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        yield worker
        nursery.cancel_scope.cancel()


def made(directory: Path, trainer: str, silent_s: float = AMPLE_S, **config: object) -> Worker:
    plugins = {name: f"{SAMPLES}:{name}" for name in (trainer, "Good")}
    return Worker(trainer, plugins=plugins, config=config, data=None, directory=directory / trainer, silent_s=silent_s)


async def first_params(directory: Path, worker: Worker) -> Path:
    """Params of the sample trainers' model; `worker` knows its tensors then."""
    async with working(directory / "first", "Good") as good:
        model = await good.init(1)
        kept = model.params.rename(directory / "params.safetensors")
    worker._tensors = model.tensors
    return kept


class Alive:
    """Where a trainer that hangs connects to: the connection ends when it and all its children have."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.port = listener.socket.getsockname()[1]

    async def begun(self) -> None:
        self._stream = await self._listener.accept()
        assert await self._stream.receive_some(5) == b"alive"

    async def ended(self) -> None:
        with trio.fail_after(20):  # where it would be never
            try:
                assert await self._stream.receive_some(1) == b""
            except trio.BrokenResourceError:
                return


async def listening() -> Alive:
    return Alive((await trio.open_tcp_listeners(0, host="127.0.0.1"))[0])


async def test_init_gives_the_first_params_in_the_canonical_file(tmp_path: Path) -> None:
    async with working(tmp_path, "Good") as worker:
        model = await worker.init(1)
    assert [(tensor.name, tensor.shape) for tensor in model.tensors] == [
        ("weight", (3, 4)),
        ("bias", (4,)),
        ("scale", ()),
    ]
    header = canonical_header(model.tensors)
    assert model.params.read_bytes() == header + bytes(4 * (12 + 4 + 1))


async def test_training_gives_the_delta_and_what_the_trainer_says_of_it(tmp_path: Path) -> None:
    reports: list[tuple[int, int, float]] = []
    async with working(tmp_path, "Good") as worker:
        params = await first_params(tmp_path, worker)
        trained = await worker.train(
            5, 77, params, deadline_s=AMPLE_S, report=lambda step, steps, loss: reports.append((step, steps, loss))
        )
        measured = await worker.evaluate(5, 77, params)
    assert (trained.examples, trained.metrics) == (7, {"seed": 77, "round": 5})
    assert measured == {"trained": 1, "writeable": 0}
    assert 0 < trained.seconds < AMPLE_S
    assert [(step, steps) for step, steps, _ in reports] == [(1, 2), (2, 2)]
    for delta in load_file(trained.delta).values():
        np.testing.assert_array_equal(delta, np.ones_like(delta))
    assert "sample_trainers" not in sys.modules


async def test_a_delta_is_written_in_the_order_of_the_params(tmp_path: Path) -> None:
    async with working(tmp_path, "Delta") as worker:
        params = await first_params(tmp_path, worker)
        trained = await worker.train(1, 1, params, deadline_s=AMPLE_S)
    assert (trained.examples, trained.metrics) == (3, {"loss": 0.25})
    assert trained.delta.read_bytes().startswith(canonical_header(worker._tensors))
    np.testing.assert_array_equal(load_file(trained.delta)["weight"], np.full((3, 4), 2, np.float32))


async def test_the_process_has_a_place_of_its_own_one_thread_and_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PRIMEP2P__NODE__PASSPHRASE", "HUB_TOKEN", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    async with working(tmp_path, "Surroundings") as worker:
        params = await first_params(tmp_path, worker)
        assert await worker.evaluate(1, 1, params) == {"threads": 1, "secrets": 0}
    assert (tmp_path / "Surroundings").stat().st_mode & 0o777 == 0o700


async def test_the_owners_own_number_of_threads_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    async with working(tmp_path, "Surroundings") as worker:
        params = await first_params(tmp_path, worker)
        assert (await worker.evaluate(1, 1, params))["threads"] == 3


async def test_a_trainer_that_raises_is_quoted_with_its_last_lines(tmp_path: Path) -> None:
    async with working(tmp_path, "Raises") as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match="trainer Raises: train raised ArithmeticError: two and two") as caught:
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
    assert "the last words" in caught.value.stderr
    assert "line" in caught.value.stderr
    assert not list((tmp_path / "Raises").glob("result-*"))


READS = """
import numpy as np

class Whole:
    def train(self, params, ctx): ...

    def evaluate(self, params, ctx): ...

class Reads(Whole):
    def init(self, ctx):
        return np.load(ctx.data)

class Fails(Whole):
    def init(self, ctx):
        return {"x": 1 / 0}
"""


async def failure(directory: Path, name: str) -> PluginError:
    code = directory / "reads.py"
    code.write_text(READS)
    worker = Worker(
        name, plugins={name: f"{code}:{name}"}, config={}, data=directory / "absent.npz", directory=directory / "run"
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        with pytest.raises(PluginError) as caught:
            await worker.init(1)
        nursery.cancel_scope.cancel()
    return caught.value


async def test_data_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    error = await failure(tmp_path, "Reads")
    said = f"trainer.data: {str(tmp_path / 'absent.npz')!r} cannot be read: No such file or directory"
    assert error.sentence == f"trainer Reads: {said}"
    assert error.stderr == ""


async def test_a_traceback_begins_in_the_trainers_own_code_and_names_its_method(tmp_path: Path) -> None:
    error = await failure(tmp_path, "Fails")
    assert error.sentence == "trainer Fails: init raised ZeroDivisionError: division by zero"
    first, second, *_ = error.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert str(tmp_path / "reads.py") in second


def test_the_last_lines_begin_with_a_whole_entry(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    entry = '  File "a.py", line 1, in f\n    g()\n    ^^^\n'
    log._tail = (entry * 9 + "KeyError: 1").encode()
    assert log.tail().splitlines()[0].startswith("  File")


async def test_a_trainer_that_was_prepared_is_the_one_that_trains(tmp_path: Path) -> None:
    async with working(tmp_path, "Good") as worker:
        params = await first_params(tmp_path, worker)
        before = set(psutil.Process().children())
        await worker.prepare()
        (prepared,) = set(psutil.Process().children()) - before
        await worker.train(1, 1, params, deadline_s=AMPLE_S)
        assert set(psutil.Process().children()) - before == {prepared}


async def test_after_a_failure_the_trainer_is_made_again(tmp_path: Path) -> None:
    async with working(tmp_path, "RaisesOnce") as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match="this time"):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
        assert (await worker.train(2, 2, params, deadline_s=AMPLE_S)).examples == 7


@pytest.mark.parametrize(
    ("how", "told"), [("exit", "exited with status 3"), ("at once", "exited with status 4"), ("kill", "was killed")]
)
async def test_a_process_that_ends_is_told_with_its_status(tmp_path: Path, how: str, told: str) -> None:
    async with working(tmp_path, "Exits", how=how) as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match=told) as caught:
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
    assert caught.value.stderr == "leaving"


async def test_a_trainer_that_reports_nothing_is_killed_with_its_children(tmp_path: Path) -> None:
    alive = await listening()
    async with working(tmp_path, "Hangs", port=alive.port) as worker, trio.open_nursery() as nursery:
        params = await first_params(tmp_path, worker)
        await worker.evaluate(1, 1, params)  # so that the process is there, however long it takes to start
        worker._silent_s = 4.0
        nursery.start_soon(alive.begun)
        with pytest.raises(PluginError, match="reported nothing for 4 s"):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
        await alive.ended()


async def test_a_trainer_that_reports_for_ever_is_killed_at_its_deadline(tmp_path: Path) -> None:
    alive = await listening()
    async with working(tmp_path, "Hangs", port=alive.port, reports=True) as worker, trio.open_nursery() as nursery:
        params = await first_params(tmp_path, worker)
        await worker.evaluate(1, 1, params)  # so that the process is there, however long it takes to start
        nursery.start_soon(alive.begun)
        with pytest.raises(PluginError, match="not done by its deadline"):
            await worker.train(1, 1, params, deadline_s=4)
        await alive.ended()


async def test_cancelling_a_request_kills_the_process_and_the_next_one_works(tmp_path: Path) -> None:
    alive = await listening()
    async with working(tmp_path, "Hangs", port=alive.port) as worker:
        params = await first_params(tmp_path, worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.train(1, 1, params, deadline_s=AMPLE_S))
            await alive.begun()
            nursery.cancel_scope.cancel()
        await alive.ended()
        assert (await worker.evaluate(1, 1, params))["trained"] == 0


async def test_cancelling_the_worker_kills_the_process_and_leaves_no_zombie(tmp_path: Path) -> None:
    alive = await listening()
    worker = made(tmp_path, "Hangs", port=alive.port)
    params = await first_params(tmp_path, worker)

    async def train() -> None:
        with pytest.raises(Unavailable):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)

    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            outer.start_soon(train)
            await alive.begun()
            nursery.cancel_scope.cancel()
        await alive.ended()
    assert psutil.Process().children() == []
    with pytest.raises(Unavailable):
        await worker.evaluate(1, 1, params)


DAEMON = """
import sys, trio
from pathlib import Path
from tests.plugin.test_worker import first_params, working
async def main():
    async with working(Path(sys.argv[1]), "Hangs", port=int(sys.argv[2])) as worker:
        await worker.train(1, 1, await first_params(Path(sys.argv[1]), worker), deadline_s=100)
trio.run(main)
"""


async def test_a_killed_daemon_takes_the_trainer_with_it(tmp_path: Path) -> None:
    alive = await listening()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", DAEMON, str(tmp_path), str(alive.port)]
    daemon = await trio.lowlevel.open_process(command, cwd=root)
    await alive.begun()
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    await alive.ended()


async def test_megabytes_on_stdout_cost_a_bounded_log(tmp_path: Path) -> None:
    async with working(tmp_path, "Chatters") as worker:
        params = await first_params(tmp_path, worker)
        assert (await worker.train(1, 1, params, deadline_s=AMPLE_S)).examples == 7
    logs = list((tmp_path / "Chatters").glob("trainer.log*"))
    assert len(logs) == 2
    assert sum(log.stat().st_size for log in logs) < 2.5 * 2**20


async def test_the_last_lines_are_few_and_drive_no_terminal(tmp_path: Path) -> None:
    async with working(tmp_path, "Chatters", raises=True) as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError) as caught:
            await worker.train(1, 1, params, deadline_s=AMPLE_S)
    lines = caught.value.stderr.splitlines()
    assert len(lines) == 20
    assert lines[-1] == "ArithmeticError: [31mred"
    assert "\x1b" not in caught.value.stderr + caught.value.sentence


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("not an Update", "not an Update"),
        ("None", "returned a NoneType"),
        ("no examples", "examples is 0"),
        ("examples of another type", "examples is a float"),
        ("both", "exactly one of params and delta"),
        ("neither", "exactly one of params and delta"),
        ("NaN", "'scale' has values that are not finite"),
        ("infinite", "'scale' has values that are not finite"),
        ("overflow", "overflows float32"),
        ("dtype", "'bias' is float64, and must be float32"),
        ("shape", r"'bias' has shape \(5,\), the run's has \(4,\)"),
        ("missing", "differ in bias"),
        ("extra", "differ in more"),
        ("a list", "'bias' is a list"),
        ("a metric that is NaN", "'loss' is nan"),
        ("a metric that is a word", "'loss' is a str"),
        ("metrics without end", "at most 32"),
    ],
)
async def test_nonsense_is_told_in_one_sentence(tmp_path: Path, wrong: str, told: str) -> None:
    async with working(tmp_path, "Wrong", wrong=wrong) as worker:
        params = await first_params(tmp_path, worker)
        if wrong == "overflow":
            low = load_file(params)
            low["scale"] = np.array(-3e38, np.float32)
            params.write_bytes(
                canonical_header(worker._tensors) + b"".join(low[t.name].tobytes() for t in worker._tensors)
            )
        with pytest.raises(PluginError, match=told):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)


@pytest.mark.parametrize("wrong", ["NaN", "dtype", "a list"])
async def test_first_params_are_checked_too(tmp_path: Path, wrong: str) -> None:
    async with working(tmp_path, "Wrong", wrong=wrong) as worker:
        with pytest.raises(PluginError, match="tensor"):
            await worker.init(1)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("garbage", "nonsense"),
        ("a huge frame", "nonsense"),
        ("no examples", "nonsense"),
        ("no file", "the result file is missing"),
        ("a short file", "another size"),
        ("a link", "missing"),
        ("another number", "nothing asked for"),
        ("NaN in the file", "not finite"),
        ("other tensors in the file", "other tensors"),
        ("a metric that is NaN", "metric 'loss' is not finite"),
    ],
)
async def test_the_daemon_believes_no_process(tmp_path: Path, lie: str, told: str) -> None:
    async with working(tmp_path, "Lies", lie=lie) as worker:
        params = await first_params(tmp_path, worker)
        with pytest.raises(PluginError, match=told):
            await worker.train(1, 1, params, deadline_s=AMPLE_S)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            f"{SAMPLES.with_name('broken_import.py')}:Trainer",
            "loading it raised ModuleNotFoundError: No module named 'a_package_that",
        ),
        (f"{SAMPLES}:Nobody", "no class 'Nobody' in .*sample_trainers.py"),
        ("json:Nobody", "no class 'Nobody' in json"),
        ("no_such_module_anywhere:Trainer", "loading it raised ModuleNotFoundError"),
        (f"{SAMPLES}:CannotBeMade", "loading it raised OSError: no such licence"),
        (f"{SAMPLES}:Half", "Half has no method train, evaluate: docs/plugins.md says what each does"),
        (f"{SAMPLES}:OfTomorrow", "its abi_version is 3, and this primep2p has 1 and 2 of the plugin API"),
    ],
)
async def test_a_trainer_that_cannot_be_made_is_a_plugin_error(tmp_path: Path, target: str, told: str) -> None:
    worker = Worker("odd", plugins={"odd": target}, config={}, data=None, directory=tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        for request in (worker.prepare, lambda: worker.init(1)):
            with pytest.raises(PluginError, match=f"trainer odd: {told}"):
                await request()
        nursery.cancel_scope.cancel()


async def test_two_requests_at_once_are_the_callers_mistake(tmp_path: Path) -> None:
    alive = await listening()
    async with working(tmp_path, "Hangs", port=alive.port) as worker:
        params = await first_params(tmp_path, worker)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.train(1, 1, params, deadline_s=AMPLE_S))
            await alive.begun()
            with pytest.raises(trio.BusyResourceError):
                await worker.evaluate(1, 1, params)
            nursery.cancel_scope.cancel()


def test_the_daemons_side_imports_no_trainer_and_no_worker() -> None:
    code = (
        "import sys, primep2p.services.training.training, primep2p.plugin.process\n"
        "from primep2p.plugin.discovery import find\n"
        "find('mlp', {})\n"
        "assert not [name for name in sys.modules if name.startswith(('primep2p.trainers', 'primep2p.plugin.worker'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
