"""The examples over real daemons: what three train together is good on examples that none of them has trained on."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.watched import Watched, create_and_join
from primep2p.control.calls.models import ModelPathOf
from primep2p.plugin.api import Context
from primep2p.run_config import RunConfig, load_run
from tests.plugin.examples import imported

TRAINERS = Path(__file__).with_name("example_trainers.py")


def shared_out(base: Path, name: str, rounds: int) -> RunConfig:
    """A run as `examples/data.py` writes it, and each node's share in the directory of its number."""
    into = base / name
    imported("data").write(into, name, 3, "trainer.py:Class", rounds=rounds)
    for number in range(3):
        (base / str(number)).mkdir(exist_ok=True)
        (into / f"node{number}" / "data.npz").rename(base / str(number) / f"{name}.npz")
    return load_run(into / "run.toml")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swarm")


@pytest.fixture(scope="module")
def three(base: Path) -> Iterator[Swarm]:
    plugins = {name: f"{TRAINERS}:{name}" for name in ("cancer", "digits")}
    with Swarm(base, [Settings(data=base / str(number), plugins=plugins) for number in range(3)]) as swarm:
        swarm.start()
        yield swarm


@pytest.mark.parametrize(
    ("trainer", "data", "rounds", "least"),
    [
        ("cancer", ("sklearn_breast_cancer", "BreastCancer", "breast_cancer"), 4, 0.93),
        pytest.param(
            *("digits", ("torch_digits", "Digits", "digits"), 4, 0.95),
            marks=pytest.mark.skipif(not find_spec("torch"), reason="torch has no wheel here that `make venv` takes"),
        ),
    ],
)
def test_three_daemons_learn_what_none_of_them_was_shown(
    three: Swarm, base: Path, trainer: str, data: tuple[str, str, str], rounds: int, least: float
) -> None:
    module, kind, name = data
    config = msgspec.structs.replace(shared_out(base, name, rounds), trainer=trainer)
    three.until_connected()
    run = Watched(create_and_join(config, *three.daemons), three.daemons)
    run.end(*three.daemons)
    params = load_file(three.daemons[1].call(ModelPathOf(model=run.run)).path)
    with np.load(base / "1" / f"{name}.npz") as arrays:
        held_out = {"x": arrays["x_test"]}
        wanted = arrays["y_test"]
    context = Context(round=0, seed=0, config=config.trainer_config, data=None, scratch=base)
    answered = getattr(imported(module), kind)().predict(params, held_out, context)
    assert (answered["classes"] == wanted).mean() >= least
