"""Real daemons train by a plan, which travels with the run; one that does not trust its owner is told so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from primep2p.cli.main import main
from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.digits import load_shares, save
from primep2p.cli.swarm.watched import Watched, create_and_join
from primep2p.control.calls.plans import PlanAdd
from primep2p.control.calls.runs import RunJoin
from primep2p.keys import load_identity
from primep2p.model.errors import PluginError
from primep2p.model.plans import trainer_of_plan
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "plan.py"


@pytest.fixture
def author(tmp_path: Path) -> Path:
    """The home of somebody who runs no daemon, with a plan beside it."""
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    with pytest.raises(SystemExit):
        main(["plan", "export", f"{EXAMPLE}:Digits", "-o", str(tmp_path / "digits.plan"), "--home", str(tmp_path)])
    return tmp_path


@pytest.fixture
def swarm(author: Path, tmp_path: Path) -> Iterator[Swarm]:
    """Three nodes with a share of the digits each, of which the last trusts nobody."""
    owner = load_identity(author / "identity.key").peer_id
    settings = []
    for number, share in enumerate(load_shares(3)[0]):
        save(tmp_path / f"{number}.npz", share)
        settings.append(Settings(data=tmp_path / f"{number}.npz", trust=(owner,) if number < 2 else ()))
    with Swarm(tmp_path / "swarm", settings) as swarm:
        yield swarm


def test_a_run_is_trained_by_a_plan_where_its_owner_is_trusted(swarm: Swarm, author: Path) -> None:
    creator, friend, stranger = swarm.daemons
    swarm.start(*swarm.daemons)
    swarm.until_connected()
    plan = creator.call(PlanAdd(content=(author / "digits.plan").read_bytes()))
    config = RunConfig(
        name="planned",
        trainer=trainer_of_plan(plan.cid),
        trainer_config={"epochs": 3, "learning_rate": 0.05},
        policy=RoundPolicy(rounds=3, first_members=2, min_updates=2),
    )
    run = Watched(create_and_join(config, creator, friend), (creator, friend))
    with pytest.raises(PluginError, match="whom this node does not trust") as told:
        stranger.call(RunJoin(run=run.run))
    assert f'trust = ["{plan.owner}"]' in told.value.hint
    run.end(creator, friend)
    rounds = run.certified[creator]
    assert all(len(rounds[number].participants) == 2 for number in (1, 2, 3))
    assert rounds[3].metrics["loss"] < rounds[1].metrics["loss"] < 2.5
