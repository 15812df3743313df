"""What users of the systems that primep2p succeeds have in their hands, row by row: it works here, with real daemons.

Three of them train one model with the shipped softmax regression; most rows look at what came of it.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from safetensors.numpy import save_file

from primep2p import (
    Client,
    Part,
    TensorBuffer,
    TrainingConfig,
    TrainingNode,
    aggregate,
    concatenate_tensors,
    create_tensor_buffer,
    split_tensor,
    tensor_from_buffer,
)
from primep2p.cli.main import main
from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.digits import Examples, load_shares, save
from primep2p.cli.swarm.watched import Watched, create_and_join
from primep2p.control.calls.daemon import DaemonStatus, Discover
from primep2p.control.calls.directory import DhtProviders
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.jobs import JobNext
from primep2p.control.calls.models import ModelPathOf, ModelPublish, ModelPull, ModelRollback, ModelShow
from primep2p.control.calls.plugins import PluginList
from primep2p.control.calls.runs import RunCreate, RunJoin, RunShow
from primep2p.control.calls.standings import RunPause, RunResume
from primep2p.control.client import BlockingClient
from primep2p.control.place import find_socket
from primep2p.model.errors import CallError, ConfigError
from primep2p.model.pipeline import FedAvg, Pipeline
from primep2p.model.records import Admission, RoundPolicy
from primep2p.model.views.events import Evaluated, RoundCertified, StepChanged, TrainingReported, TransferDone, Voted
from primep2p.run_config import RunConfig, load_run
from primep2p.services.watching.recent import OLDEST

pytestmark = pytest.mark.alone

ROUNDS = 4
POLICY = RoundPolicy(rounds=ROUNDS, first_members=3, min_updates=3, collect_s=60.0)
TRAINING = {"features": 64, "classes": 10, "epochs": 2, "learning_rate": 0.2}


@dataclass
class Group:
    """Three daemons, a finished run of theirs, and all that was told of it."""

    swarm: Swarm
    run: str
    watched: Watched
    shares: list[Examples]
    held_out: Examples
    base: Path

    @property
    def nodes(self) -> list[Daemon]:
        return self.swarm.daemons

    def told(self, kind: type, node: int = 0) -> list[Any]:
        return [event for who, event in self.watched.events if who is self.nodes[node] and isinstance(event, kind)]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    base = tmp_path_factory.mktemp("group")
    shares, held_out = load_shares(3, alpha=10.0)
    for number, share in enumerate(shares):
        save(base / f"{number}.npz", share)
    with Swarm(base, [Settings(data=base / f"{number}.npz") for number in range(3)]) as swarm:
        swarm.start()
        config = RunConfig(name="digits", trainer="softmax", trainer_config=TRAINING, policy=POLICY)
        run = create_and_join(config, *swarm.daemons)
        watched = Watched(run, swarm.daemons)
        watched.end(*swarm.daemons)
        yield Group(swarm, run, watched, shares, held_out, base)


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    """Its exit code, and what it printed."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return ended.value.code, out + err


def test_daemon_start_stop_status(tmp_path):
    with Swarm(tmp_path, [Settings()]) as swarm:
        swarm.start()
        [daemon] = swarm.daemons
        assert daemon.call(DaemonStatus()).pid == daemon.pid
        asked = [sys.executable, "-m", "primep2p.cli.main", "daemon", "stop", "--home", str(daemon.home)]
        assert subprocess.run(asked, check=False).returncode == 0
        assert daemon.wait(10) == 0


def test_config_file_environment_and_validation(tmp_path, capsys, monkeypatch):
    (tmp_path / "node.toml").write_text('[log]\nlevel = "debug"\n')
    monkeypatch.setenv("PRIMEP2P__STORE__KEEP_UPDATES", "9")
    code, shown = command(capsys, "config", "show", "--json", "-c", str(tmp_path / "node.toml"))
    assert code == 0
    assert "PRIMEP2P__STORE__KEEP_UPDATES" in shown
    (tmp_path / "node.toml").write_text('[log]\nlevle = "debug"\n')
    code, said = command(capsys, "config", "check", str(tmp_path / "node.toml"))
    assert code == 2
    assert "log.levle" in said
    assert "did you mean level" in said


def test_training_node_api_and_metrics(group):
    async def train() -> TrainingNode:
        node = TrainingNode("lab", group.shares[0].x, group.shares[0].y, trainer="mlp")
        await node.init_training(TrainingConfig(batch_size=32, learning_rate=1e-3, epochs=10, optimizer="adam"))
        metrics = [await node.train_epoch() for _ in range(3)]
        await node.close()
        assert metrics[-1].loss < metrics[0].loss
        assert metrics[-1].samples_processed == len(group.shares[0].x)
        assert metrics[-1].computation_time_ms > 0
        assert 0 <= metrics[-1].accuracy <= 1
        return node

    node = anyio.run(train)
    assert (node.node_id, node.current_epoch, node.get_status().current_epoch) == ("lab", 3, 3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_optimizers_sgd_adam_adamw(group, optimizer):
    async def train() -> float:
        node = TrainingNode("lab", group.held_out.x, group.held_out.y, trainer="mlp")
        await node.init_training(TrainingConfig(optimizer=optimizer, learning_rate=0.02))
        accuracy = [(await node.train_epoch()).accuracy for _ in range(8)][-1]
        await node.close()
        return accuracy

    assert anyio.run(train) > 0.8


def test_fedavg_uniform_and_weighted(group):
    assert aggregate([[0.0], [8.0]]).tolist() == [4.0]
    assert aggregate([[0.0], [8.0]], examples=[3, 1]).tolist() == [2.0]
    assert Pipeline().rule == FedAvg("examples")  # a round's, and said so: run show
    assert group.nodes[0].call(RunShow(run=group.run)).pipeline["rule"] == {"name": "fedavg", "weighting": "examples"}


def test_trimmed_mean_krum_and_median():
    updates = [[1.0, 1.0], [1.0, 1.5], [1.5, 1.0], [1.0, 1.0], [1e6, -1e6]]
    for rule, settings in (("trimmed_mean", {"trim_ratio": 0.2}), ("krum", {"f": 1}), ("median", {})):
        assert np.abs(aggregate(updates, rule, **settings)).max() < 2


def test_rounds_min_nodes_timeouts_consensus_and_progress(group, tmp_path):
    (tmp_path / "run.toml").write_text(
        'name = "r"\ntrainer = "softmax"\n[policy]\nrounds = 3\nfirst_members = 3\nmin_updates = 3\n'
        "collect_s = 120\nconsensus_threshold = 0.66\n"
    )
    policy = load_run(tmp_path / "run.toml").policy
    assert (policy.first_members, policy.min_updates, policy.collect_s) == (3, 3, 120.0)
    detail = group.nodes[0].call(RunShow(run=group.run))
    assert (detail.quorum, detail.head_round) == (2, ROUNDS)
    steps = {event.step for event in group.told(StepChanged)}
    assert steps >= {"train", "prevote", "precommit"}


def test_heartbeats_and_reliability_score(group):
    members = group.nodes[1].call(RunShow(run=group.run)).members
    assert [(each.rounds_done, each.rounds_missed, each.rounds_blamed) for each in members] == [(ROUNDS, 0, 0)] * 3
    assert all(each.connected or each.peer == group.nodes[1].peer for each in members)


def test_participant_selection(tmp_path):
    config = 'name = "r"\ntrainer = "softmax"\n[policy]\nfirst_members = 8\nsample_fraction = 0.5\nmax_cohort = 6\n'
    (tmp_path / "run.toml").write_text(config)
    policy = load_run(tmp_path / "run.toml").policy
    assert (policy.sample_fraction, policy.max_cohort) == ("0.5", 6)


def test_accept_and_reject_with_a_time_and_events(group):
    async def ask() -> None:
        async with Client.open(group.nodes[0].home) as client:
            with pytest.raises(CallError, match="trains with the plugin"):
                await client.next_job(group.run)

    anyio.run(ask)
    config = RunConfig(name="loops", trainer="softmax", trainer_config=TRAINING, policy=POLICY)
    run = group.nodes[0].call(RunCreate(config=config, own_loop=True)).run
    with BlockingClient(group.nodes[0].home) as client:
        answer = client.call(JobNext(run=run))
    assert (answer.reason, answer.retry_after_s is not None) == ("gathering", True)


def test_model_auth_by_allowlist_and_invite(group):
    creator, invited, other = group.nodes
    admission = Admission(mode="allowlist", peers=(invited.peer,))
    config = RunConfig(name="closed", trainer="softmax", trainer_config=TRAINING, policy=POLICY, admission=admission)
    run = creator.call(RunCreate(config=config)).run
    assert invited.call(RunJoin(run=run)).run == run
    with pytest.raises(CallError, match="admits only the peers that its creator listed"):
        other.call(RunJoin(run=run))


def test_model_hosting_versions_checkpoints_and_aliases(group, capsys, tmp_path):
    owner, reader, _ = group.nodes
    for round_ in (1, ROUNDS):
        owner.call(ModelPublish(source=f"{group.run}@{round_}", to="digits"))
    pulled = reader.call(ModelPull(model=f"{owner.peer}/digits@latest"))
    assert Path(pulled.path).read_bytes() == Path(owner.call(ModelPathOf(model=group.run)).path).read_bytes()
    owner.call(ModelRollback(model="digits", to="1"))
    assert reader.call(ModelShow(model=f"{owner.peer}/digits")).latest == "1"
    out = tmp_path / "model.npz"
    words = ("model", "export", group.run, "-o", str(out), "--format", "npz", "--home", str(owner.home))
    assert command(capsys, *words)[0] == 0
    with np.load(out, allow_pickle=False) as arrays:
        assert set(arrays) == {"layer0.weight", "layer0.bias"}


def test_a_portable_plan(group, capsys, tmp_path):
    pytest.importorskip("mlx.core", reason="MLX is not installed")
    home = ("--home", str(group.nodes[0].home))
    step = Path(__file__).parents[2] / "examples" / "plan.py"
    plan = tmp_path / "digits.plan"
    code, said = command(capsys, "plan", "export", f"{step}:Digits", "-o", str(plan), *home)
    assert (code, plan.exists()) == (0, True), said
    assert command(capsys, "plan", "check", str(plan), *home)[0] == 0


def test_secure_aggregation_is_no_rule_yet_and_nobody_is_told_otherwise(tmp_path):
    (tmp_path / "run.toml").write_text('name = "r"\ntrainer = "softmax"\n[pipeline]\nrule = "secure"\n')
    with pytest.raises(ConfigError, match=r"pipeline\.rule must be one of"):
        load_run(tmp_path / "run.toml")


def test_local_data_stays(group):
    """No example of one node lies anywhere on another one."""
    for owner, share in zip(group.nodes, group.shares, strict=True):
        rows = [row.tobytes() for row in share.x[:50]]
        for other in group.nodes:
            held = [path.read_bytes() for path in other.home.rglob("*") if path.is_file()]
            assert len(held) > 5
            assert other is owner or not any(row in blob for blob in held for row in rows)


def test_training_is_paused_and_resumed(group):
    node = group.nodes[0]
    config = RunConfig(name="rests", trainer="softmax", trainer_config=TRAINING, policy=POLICY)
    run = node.call(RunCreate(config=config)).run
    node.call(RunPause(run=run))
    assert node.call(RunShow(run=run)).rests
    node.call(RunResume(run=run))
    assert not node.call(RunShow(run=run)).rests


def test_examples_per_update_updates_per_version_and_noise(group):
    async def look() -> tuple[int, int, float]:
        part = Part(run=group.run, num_examples_per_update=5, weight_noise_stddev=0.01)
        async with Client.open(group.nodes[0].home, part=part) as client:
            return client.num_examples_per_update, client.num_updates_per_version, client.weight_noise_stddev

    assert anyio.run(look) == (5, 3, 0.01)
    assert Pipeline().max_weight_ratio == 10.0  # no member's claim of examples counts for more than that of ten


def test_predict_and_evaluate(group, capsys, tmp_path):
    async def ask() -> tuple[dict[str, np.ndarray], dict[str, float]]:
        async with Client.open(group.nodes[1].home, part=Part(run=group.run)) as client:
            return await client.predict(group.held_out.x), await client.evaluate(group.held_out.x, group.held_out.y)

    answers, metrics = anyio.run(ask)
    assert (answers["classes"] == group.held_out.y).mean() == pytest.approx(metrics["accuracy"])
    assert metrics["accuracy"] > 0.8
    save_file({"x": group.held_out.x}, tmp_path / "x.safetensors")
    words = ("model", "predict", group.run, "--input", str(tmp_path / "x.safetensors"), "-o", str(tmp_path / "y.npz"))
    assert command(capsys, *words, "--home", str(group.nodes[1].home))[0] == 0
    with np.load(tmp_path / "y.npz", allow_pickle=False) as predicted:
        np.testing.assert_array_equal(predicted["classes"], answers["classes"])
    assert group.told(Evaluated)


def test_zero_copy_tensor_buffer_concat_split_reshape():
    memory = bytearray(24)
    tensor = TensorBuffer(memory, (2, 3), "f32")
    assert np.shares_memory(np.asarray(tensor), np.asarray(tensor.reshape((3, 2))))
    first, second = split_tensor(tensor, 2)
    assert concatenate_tensors([first, second]).to_f32().shape == (2, 3)
    assert tensor_from_buffer(create_tensor_buffer([1, 2], dtype="f32").buffer, (2,), "f32").byte_size() == 8


def test_mlx_and_its_fallback(group, capsys):
    assert group.nodes[0].call(DaemonStatus()).backend in ("numpy", "compiled", "mlx")
    code, shown = command(capsys, "doctor", "--json", "--home", str(group.nodes[0].home))
    assert code == 0, shown
    found = {line["what"]: line for line in map(json.loads, shown.splitlines())}
    assert found["backend numpy"]["state"] == "ok"
    assert "backend mlx" in found


def test_distributed_storage(group):
    cid = group.nodes[0].call(ModelPathOf(model=group.run)).cid
    providers = group.nodes[2].call(DhtProviders(key=cid))
    assert providers


def test_peer_to_peer_transport_with_chunks(group):
    done = group.told(TransferDone, node=1)
    assert done
    assert all(event.bytes > 0 for event in done)


def test_any_language_over_the_control_socket(group):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(find_socket(group.nodes[0].home)))
        raw.sendall(b'{"jsonrpc":"2.0","id":1,"method":"run.list"}\n')
        answer = json.loads(raw.makefile().readline())
    assert group.run in [run["run"] for run in answer["result"]]
    methods = {method["name"] for method in group.nodes[0].call(Discover())["methods"]}
    assert methods >= {"job.next", "job.params", "job.report", "job.upload", "job.submit"}


def test_python_plugins_for_training_loops(group):
    names = {each.name for each in group.nodes[0].call(PluginList())}
    assert names >= {"mlp", "softmax"}
    assert group.told(TrainingReported)


def test_metrics_and_events_export(group):
    with BlockingClient(group.nodes[0].home) as client:
        kinds = []
        for event in client.stream(EventsWatch(run=group.run, after=OLDEST)):
            kinds.append(type(event))
    assert {RoundCertified, Voted, StepChanged} <= set(kinds)


def test_input_validation_and_no_pickle(group, tmp_path):
    np.savez(tmp_path / "evil.npz", x=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"), np.load(tmp_path / "evil.npz", allow_pickle=False) as arrays:
        arrays["x"]
    (tmp_path / "run.toml").write_text('name = "r"\ntrainer = "softmax"\n[pipeline]\nrule = "krumm"\n')
    with pytest.raises(ConfigError, match=r"pipeline\.rule must be one of"):
        load_run(tmp_path / "run.toml")
    imports = subprocess.run(
        ["grep", "-rnE", r"^\s*(import|from) (pickle|dill|cloudpickle|joblib)", "primep2p", "examples"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert imports.stdout == ""


def test_demo_of_so_many_local_peers(capsys):
    code, said = command(capsys, "demo", "--help")
    assert code == 0
    assert all(option in said for option in ("-n", "--rounds", "--model-size", "--verbose"))


def test_benchmarks_with_numbers(capsys):
    code, said = command(capsys, "bench", "--quick", "--json")
    assert code == 0
    assert all(isinstance(json.loads(line), dict) for line in said.splitlines())
