"""One run, three kinds of members: a plugin, a loop in Python, one in JavaScript; each as its owner would start it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.digits import load_shares, save
from primep2p.cli.swarm.watched import Watched
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunCreate, RunJoin, RunShow
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import Evaluated, JobChanged, TrainingReported
from primep2p.run_config import RunConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUNDS = 10
LEAST = 0.85

NODE = shutil.which("node") or ""


def version() -> int:
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout if NODE else "v0"
    return int(said.removeprefix("v").split(".")[0])


@contextmanager
def started(*commands: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are gone when the context is left."""
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.skipif(version() < 18, reason="there is no Node of version 18 or newer here")
def test_a_plugin_a_loop_in_python_and_one_in_javascript_train_one_model(tmp_path):
    shares, held_out = load_shares(3)
    settings = []
    for number, share in enumerate(shares):
        save(tmp_path / f"{number}.npz", share)
        settings.append(Settings(data=tmp_path / f"{number}.npz"))
    (tmp_path / "2.json").write_text(json.dumps({"x": shares[2].x.tolist(), "y": shares[2].y.tolist()}))
    policy = RoundPolicy(rounds=ROUNDS, first_members=3, min_updates=3, collect_s=60.0)
    trainer_config = {"features": 64, "classes": 10, "epochs": 2, "learning_rate": 0.5}
    config = RunConfig(name="mixed", trainer="softmax", trainer_config=trainer_config, policy=policy)
    with Swarm(tmp_path, settings) as swarm:
        swarm.start()
        plugin, python, javascript = swarm.daemons
        run = plugin.call(RunCreate(config=config)).run
        for daemon in (python, javascript):
            daemon.call(RunJoin(run=run, own_loop=True))
        watched = Watched(run, swarm.daemons)
        in_python = [sys.executable, str(EXAMPLES / "loop.py"), str(python.home), run[:12], str(tmp_path / "1.npz")]
        in_node = [NODE, str(EXAMPLES / "loop.mjs"), str(javascript.home), run[:12], str(tmp_path / "2.json")]
        with started(in_python, in_node) as loops:
            watched.end(*swarm.daemons)
            for loop in loops:  # told that there will never be a job again
                said = loop.communicate(timeout=60)[0]
                assert loop.returncode == 0, said
                assert said.count("taken") == ROUNDS, said
        for number in range(1, ROUNDS + 1):
            assert set(watched.certified[plugin][number].participants) == {daemon.peer for daemon in swarm.daemons}
        assert watched.blamed(*swarm.daemons) == []
        params = load_file(javascript.call(ModelPathOf(model=run)).path)
        assert python.call(RunShow(run=run)).own_loop
    answered = (held_out.x @ params["layer0.weight"] + params["layer0.bias"]).argmax(axis=1)
    assert (answered == held_out.y).mean() >= LEAST
    for daemon in (python, javascript):
        kinds = [event for who, event in watched.events if who is daemon]
        states = [event.state for event in kinds if isinstance(event, JobChanged)]
        assert states == ["open", "given", "taken"] * ROUNDS
        assert sum(isinstance(event, TrainingReported) for event in kinds) >= ROUNDS
    assert [event.round for who, event in watched.events if who is python and isinstance(event, Evaluated)]
    np.testing.assert_array_equal(sorted(params), ["layer0.bias", "layer0.weight"])
