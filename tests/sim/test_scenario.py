"""Scenarios are read strictly, and what they say is what happens."""

import statistics
from pathlib import Path

import msgspec
import pytest

from primep2p.core import effects as fx
from primep2p.model.messages import Digest
from primep2p.strict import Fault
from tests.sim.scenario import FOLDER, Latency, Net, Scenario, load, names, read
from tests.sim.world import World

LEAST = {"about": "four", "nodes": [4], "rounds": 1}


def world(**changes: object) -> World:
    """Not started."""
    return World(msgspec.structs.replace(load("honest"), **changes), 1)


# ---- reading


def test_every_scenario_that_is_here_can_be_read_and_says_what_it_is_about() -> None:
    assert set(names()) == {path.stem for path in FOLDER.iterdir()}
    assert all(load(name).about.endswith(".") for name in names())


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({**LEAST, "node": [4]}, "node is not known: did you mean nodes?"),
        ({**LEAST, "network": {"losses": [0.1]}}, r"network\.losses is not known: did you mean loss?"),
        ({**LEAST, "perturbation": [{"kind": "crash"}, {"kind": "quake"}]}, r"perturbation\[1\]\.kind must be one of"),
        ({**LEAST, "network": {"latency": [{"kind": "uniform"}]}}, r"network\.latency\[0\]\.least_s is missing"),
        ({**LEAST, "network": {"loss": [1.5]}}, r"network\.loss\[0\]"),
        ({**LEAST, "liars": {"kinds": ["saint"]}}, r"liars\.kinds\[0\] is no adversary"),
        ({**LEAST, "policy": {"vote": 1.0}}, r"policy\.vote is not known"),
        ({"about": "nothing"}, "nodes is missing"),
        ({**LEAST, "nodes": []}, "nodes is empty"),
        ({**LEAST, "nodes": [4], "liars": {"count": [5]}}, "liars.count"),
    ],
)
def test_a_mistake_in_a_scenario_is_named_with_its_path(table: object, fault: str) -> None:
    with pytest.raises(Fault, match=fault):
        read(table)


def test_a_scenario_may_lie_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('about = "Mine."\nnodes = [4]\nrounds = 2\n')
    assert load(str(path)) == Scenario(about="Mine.", nodes=(4,), rounds=2)


# ---- the network


def drawn(latency: Latency) -> list[float]:
    network = world(network=Net(latency=(latency,))).network
    return [network.latency_s() for _ in range(2000)]


def test_latencies_are_what_they_are_called() -> None:
    assert set(drawn(Latency("constant", 0.03))) == {0.03}
    uniform = drawn(Latency("uniform", 0.1, 0.3))
    assert 0.1 <= min(uniform) < 0.11 < 0.29 < max(uniform) <= 0.3
    heavy = drawn(Latency("heavy-tailed", 0.01, 5.0))
    assert statistics.median(heavy) < 0.03
    assert 1.0 < max(heavy) <= 5.0


def deliveries(**net: object) -> int:
    """How many of a thousand messages arrive."""
    it = world(network=Net(**net))  # type: ignore[arg-type]
    heard: list[fx.Event] = []
    sender, receiver = it.nodes[:2]
    receiver.up, receiver.handle = True, heard.append  # type: ignore[method-assign]
    for _ in range(1000):
        it.network.carry(sender, receiver.peer, Digest(it.spec.hash, 1, ()))
    while it.heap.step(100.0) is not None:
        pass
    assert it.network.carried.total() == 1000
    return len(heard)


def test_messages_are_lost_and_copied_as_often_as_the_scenario_says() -> None:
    assert deliveries() == 1000
    assert 650 < deliveries(loss=(0.3,)) < 750
    assert 1150 < deliveries(duplicated=(0.2,)) < 1250


def test_nothing_crosses_a_partition_until_it_is_mended() -> None:
    it = world()
    a, b, c = it.nodes[:3]
    some = frozenset((a.index,))
    it.network.cut(some)
    assert not it.network.linked(a, b)
    assert it.network.linked(b, c)
    it.network.mend(some)
    assert it.network.linked(a, b)


def test_a_healed_network_is_quick_whole_and_loses_nothing() -> None:
    it = world(network=Net(latency=(Latency("constant", 3.0),), loss=(1.0,)))
    it.network.cut(frozenset((0,)))
    it.network.heal()
    assert it.network.linked(it.nodes[0], it.nodes[1])
    assert it.network.latency_s() < 0.1


def test_what_is_published_reaches_everybody_who_can_be_reached_and_is_counted_once() -> None:
    it = world()
    heard: list[int] = []
    for node in it.nodes[:3]:
        node.up = True
        node.handle = lambda event, index=node.index: heard.append(index)  # type: ignore[method-assign]
    it.network.publish(it.nodes[0], Digest(it.spec.hash, 1, ()))
    while it.heap.step(100.0) is not None:
        pass
    assert sorted(heard) == [1, 2]
    assert it.network.published.total() == 1


# ---- clocks


def test_a_slow_clock_ends_its_timers_later() -> None:
    it = world()
    ends: list[tuple[int, float]] = []
    for node, rate in zip(it.nodes, (1.0, 0.5), strict=False):
        node.rate, node.up = rate, True
        node.handle = lambda event, index=node.index: ends.append((index, round(it.heap.now)))  # type: ignore[method-assign]
        node.perform([fx.StartTimer(fx.Moment(1, "repair"), 2.0)])
    while it.heap.step(100.0) is not None:
        pass
    assert ends == [(0, 2), (1, 4)]


def test_clocks_differ_by_the_factor_that_the_scenario_says() -> None:
    rates = [node.rate for node in world(network=Net(skew=(2.0,))).nodes]
    assert len(set(rates)) == 4
    assert all(0.5 <= rate <= 2.0 for rate in rates)


def test_a_node_that_stands_still_hears_everything_afterwards() -> None:
    it = world()
    node, heard = it.nodes[0], []
    node.up, node.handle = True, lambda event: heard.append(it.heap.now)  # type: ignore[method-assign]
    node.paused_until = 5.0
    node.later(1.0, fx.Connected(it.nodes[1].peer))
    while it.heap.step(100.0) is not None:
        pass
    assert len(heard) == 1
    assert heard[0] >= 5.0


def test_what_was_planned_in_an_earlier_life_does_not_happen() -> None:
    it = world()
    node, heard = it.nodes[0], []
    node.up, node.handle = True, heard.append  # type: ignore[method-assign]
    node.later(1.0, fx.Connected(it.nodes[1].peer))
    node.crash()
    assert it.heap.step(100.0) is None
    assert heard == []


# ---- beginnings


def test_checkpoint_0_made_directly_is_the_one_that_a_gathering_comes_to() -> None:
    direct, gathered = world(rounds=1), world(rounds=1, begins="gathering")
    direct.run()
    gathered.run()
    assert direct.invariants.heads[0].header == gathered.invariants.heads[0].header
    assert direct.invariants.heads[0].state == gathered.invariants.heads[0].state


# ---- many


def test_a_committee_drawn_from_a_hundred_decides_for_all_and_its_messages_are_counted() -> None:
    it = World(msgspec.structs.replace(load("thousand"), nodes=(100,), rounds=3), 1)
    told = it.run()
    assert told.certificates == 3
    assert told.verified == 0  # who sealed a record has put it on the shelf
    assert told.turns == {"committee": 3 * 31, "plain": 3 * 69}
    assert told.published == {"Certified": 3}
    assert told.received["topic"] == 3 * 99
    assert told.received["plain"] < told.received["committee"] / 20  # what was under way when a draw changed roles
    assert told.messages["committee", "Records"] / told.turns["committee"] > 3 * 30  # lists, prevotes, precommits


def test_large_worlds_share_heads_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    large = msgspec.structs.replace(load("thousand"), nodes=(40,), rounds=3)
    shared = World(large, 2)
    told = shared.run()
    assert len({id(node.head) for node in shared.nodes}) < 40  # of several valid certificates some hear the same one
    monkeypatch.setattr("tests.sim.world.LARGE", 1000)
    apart = World(large, 2)
    assert told == apart.run()
    assert len({id(node.head) for node in apart.nodes}) == 40
    assert shared.invariants.certificates == apart.invariants.certificates
