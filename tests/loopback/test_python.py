"""What people do in Python, with real daemons, in one run: fit and its kin, a TrainingNode, a Coordinator."""

import queue
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np
import pytest

from primep2p import Client, Coordinator, CoordinatorConfig, Part, Progress, TrainingConfig, TrainingNode, blocking
from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.cli.swarm.digits import Examples, load_shares, save
from primep2p.cli.swarm.watched import Watched
from primep2p.control.calls.runs import RunJoin
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.records import RoundPolicy
from primep2p.run_config import RunConfig

ROUNDS = 6
LEAST = 0.9


async def by_fit(home: Path, run: str, share: Examples) -> tuple[int, list[tuple[int | None, int]]]:
    """How many of its updates were taken, and the versions that it was told of, to the last."""
    half = len(share.x) // 2
    part = Part(run=run, num_examples_per_update=half, weight_noise_stddev=1e-4, send_metrics=True)
    versions: list[tuple[int | None, int]] = []
    last = anyio.Event()

    def listen(model: dict[str, np.ndarray], old: int | None, new: int) -> None:
        versions.append((old, new))
        if new == ROUNDS:
            last.set()

    async with Client.open(home, part=part) as client:
        await client.on_new_version(listen)
        assert client.num_updates_per_version == 3
        taken = 0
        for _ in range(ROUNDS // 2):
            taken += await client.fit(share.x[: 2 * half], share.y[: 2 * half])
        assert client.num_examples == 0
        with pytest.raises(CallError, match="finished"):
            await client.fit(share.x, share.y)
        await last.wait()
    return taken, versions


async def by_node(home: Path, run: str, share: Examples) -> TrainingNode:
    node = TrainingNode("mine", share.x, share.y, trainer="softmax", run=run, home=home)
    await node.init_training(TrainingConfig(epochs=2, learning_rate=0.05, optimizer="adam"))
    for _ in range(2 * ROUNDS):
        metrics = await node.train_epoch()
        assert metrics.samples_processed == len(share.x)
    await node.close()
    return node


async def founded(coordinator: Coordinator, *others: str) -> str:
    """The run's id: only these may join it."""
    with pytest.raises(CallError, match="does not exist yet"):
        await coordinator.get_status()
    await coordinator.init()
    for peer in others:
        await coordinator.register_node(peer)
    with pytest.raises(Unavailable, match="1 of 3 members"):
        await coordinator.start_training(within_s=0)
    with pytest.raises(CallError, match="the run exists already"):
        await coordinator.register_node(others[0])
    assert await coordinator.get_progress() == Progress(0, 0)
    return coordinator.run


async def told_of_the_end(coordinator: Coordinator) -> None:
    status = await coordinator.get_status()
    assert (status.active_nodes, status.pending_tasks, status.model_version) == (3, 0, ROUNDS)
    nodes = await coordinator.get_nodes()
    assert [node.reliability_score for node in nodes] == [1.0] * 3
    assert all(node.last_heartbeat > 0 for node in nodes)


def test_fit_a_training_node_and_a_plugin_train_one_model_that_a_coordinator_has_started(tmp_path):
    shares, held_out = load_shares(3, alpha=10.0)  # alike enough for a bar that chance does not reach
    save(tmp_path / "0.npz", shares[0])
    policy = RoundPolicy(rounds=ROUNDS)
    trainer_config = {"features": 64, "classes": 10, "epochs": 2, "learning_rate": 0.2}
    config = RunConfig(name="python", trainer="softmax", trainer_config=trainer_config, policy=policy)
    with Swarm(tmp_path, [Settings(data=tmp_path / "0.npz"), Settings(), Settings()]) as swarm:
        swarm.start()
        plugin, fitting, epochs = swarm.daemons
        coordinator = Coordinator(config, CoordinatorConfig(task_timeout_ms=60_000), home=plugin.home)
        run = anyio.run(founded, coordinator, fitting.peer, epochs.peer)
        for daemon in (fitting, epochs):
            daemon.call(RunJoin(run=run, own_loop=True))
        assert anyio.run(coordinator.start_training) == 1
        watched = Watched(run, swarm.daemons)
        heard: queue.SimpleQueue[tuple[int | None, int]] = queue.SimpleQueue()
        listening = blocking.Client(epochs.home, part=Part(run=run))
        listening.on_new_version(lambda model, old, new: heard.put((old, new)))
        nodes: list[TrainingNode] = []
        thread = threading.Thread(target=lambda: nodes.append(anyio.run(by_node, epochs.home, run, shares[2])))
        thread.start()
        taken, versions = anyio.run(by_fit, fitting.home, run, shares[1], backend="trio")
        assert taken == ROUNDS
        thread.join(60)
        watched.end(*swarm.daemons)
        anyio.run(told_of_the_end, coordinator)
        [node] = nodes
        assert (node.node_id, node.current_epoch) == (epochs.peer, 2 * ROUNDS)
        assert node.get_status().submitted == ROUNDS
        assert versions[-ROUNDS:] == list(pairwise(range(ROUNDS + 1)))
        everybody = {daemon.peer for daemon in swarm.daemons}
        for number in range(1, ROUNDS + 1):
            assert set(watched.certified[plugin][number].participants) == everybody
        assert watched.blamed(*swarm.daemons) == []
        with listening:
            assert listening.model_version() == ROUNDS
            accuracy = listening.evaluate(held_out.x, held_out.y)["accuracy"]
            assert accuracy >= LEAST
            answers = listening.predict(held_out.x)
            assert (ROUNDS - 1, ROUNDS) in [heard.get(timeout=30) for _ in range(ROUNDS)]
        asked = anyio.run(partial(_asked, fitting.home, run, held_out))
        assert answers.keys() == asked.keys()
        for name, array in answers.items():
            np.testing.assert_array_equal(array, asked[name])


async def _asked(home: Path, run: str, held_out: Examples) -> dict[str, np.ndarray]:
    async with Client.open(home, part=Part(run=run)) as client:
        return await client.predict(held_out.x)
