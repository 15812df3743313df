"""Models under names, on real daemons: found in the DHT, pulled after their owner is killed, asked with no run."""

import time

import numpy as np
import pytest
from runs import found

from primep2p.cli.main import main
from primep2p.cli.swarm.daemons import Daemon
from primep2p.cli.swarm.digits import load_shares
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.calls.directory import DhtProviders
from primep2p.control.calls.models import (
    ModelList,
    ModelPathOf,
    ModelPredict,
    ModelPublish,
    ModelPull,
    ModelRemove,
    ModelRollback,
    ModelShow,
)
from primep2p.control.calls.runs import RunList
from primep2p.model.errors import Unavailable
from primep2p.plugin.arrays import load_arrays, save_arrays

SETTINGS = {"hidden": [32], "features": 64, "classes": 10, "epochs": 3}
WITHIN_S = 30.0


def until_provided(daemon: Daemon, by: str, cid: str) -> None:
    """What is announced in the background is known to the others."""
    deadline = time.monotonic() + WITHIN_S
    while by not in daemon.call(DhtProviders(key=cid)).providers:
        assert time.monotonic() < deadline, f"{by} is not known to have {cid}"


def run_command(daemon: Daemon, *words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--home", str(daemon.home)])
    assert ended.value.code == 0


def test_a_model_is_published_found_pulled_exported_and_asked_by_who_is_in_no_run(four, tmp_path) -> None:
    owner, member, holder, late = four
    run = found(owner, member, rounds=4, trainer="mlp", settings=SETTINGS)
    run.end(owner, member)
    me = owner.call(DaemonStatus()).peer_id
    model = f"{me}/digits"
    for round_ in (1, 4):
        published = owner.call(ModelPublish(source=f"{run.run}@{round_}", to="digits"))
        assert published.announced
    params = published.versions[-1].params
    for version in ("1", "4"):
        owner.call(ModelRollback(model="digits", to=version))
        assert member.call(ModelShow(model=model)).latest == version
    assert member.call(ModelShow(model=model)).versions[-1].certified == "certified"

    (listed,) = holder.call(ModelList(owner=me))
    assert (listed.name, listed.here) == ("digits", [])
    assert holder.call(ModelShow(model=model)).versions[-1].certified == "unknown"
    pulled = holder.call(ModelPull(model=model))
    assert (pulled.model, pulled.cid) == (f"{model}@4", params)
    for cid in (params, holder.call(ModelShow(model=model)).catalog):
        until_provided(late, holder.call(DaemonStatus()).peer_id, cid)

    owner.kill()
    late.call(ModelPull(model=model))
    assert run.run not in [each.run for each in late.call(RunList())]
    test = load_shares(5)[1]
    save_arrays(tmp_path / "inputs", {"x": test.x})
    answer = late.call(ModelPredict(model=model, inputs=str(tmp_path / "inputs")))
    assert (load_arrays(tmp_path / answer.path)["classes"] == test.y).mean() > 0.5

    run_command(late, "model", "export", model, "-o", str(tmp_path / "digits.npz"))
    with np.load(tmp_path / "digits.npz") as exported:
        for name, array in load_arrays(late.call(ModelPathOf(model=model)).path).items():
            np.testing.assert_array_equal(exported[name], array)
    assert late.call(ModelRemove(model=model)).freed_bytes > 0
    with pytest.raises(Unavailable, match="not on this node"):
        late.call(ModelPathOf(model=model))
