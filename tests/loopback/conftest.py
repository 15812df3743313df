"""Real daemons: processes with libp2p, sqlite and trainers of their own. Four of them serve all tests of a module."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.digits import load_shares, save

TRAINERS = Path(__file__).parent / "trainers.py"

FAILING = 3
"""The node whose trainers fail."""

IN_MLX = 1
"""The node whose "mlp" is the one in MLX, where that is installed."""


def plugins(number: int) -> dict[str, str]:
    """Trainers by the names that runs know: what "raises" is, differs from node to node."""
    bad = {"raises": "Raises", "hangs": "Hangs", "nan": "NotNumbers", "slow": "Slow"}
    classes = {name: kind if number == FAILING else "Steady" for name, kind in bad.items()} | {
        "saves": "Saves",
        "steady": "Steady",
        "uninitialised": "Uninitialised",
    }
    own = {name: f"{TRAINERS}:{kind}" for name, kind in classes.items()}
    own["lies"] = f"{TRAINERS}:Lies" if number == FAILING else "primep2p.trainers.dense:MultilayerPerceptron"
    if number == IN_MLX and find_spec("mlx"):
        own["mlp"] = "primep2p.trainers.mlx_dense:MlxMultilayerPerceptron"
    return own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.loopback)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Four nodes with a share of the digits each, and a fifth that may come later."""
    base = tmp_path_factory.mktemp("swarm")
    settings = []
    for number, share in enumerate(load_shares(5)[0]):
        save(base / f"{number}.npz", share)
        settings.append(Settings(data=base / f"{number}.npz", plugins=plugins(number), silent_s=3.0, log_level="debug"))
    with Swarm(base, settings) as swarm:
        yield swarm


@pytest.fixture
def four(swarm: Swarm) -> list[Daemon]:
    """The four, all up and connected: whoever a test before has ended is started again."""
    daemons = swarm.daemons[:4]
    if gone := [daemon for daemon in daemons if not daemon.alive]:
        swarm.start(*gone)
    swarm.until_connected()
    return daemons
