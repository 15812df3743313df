"""Real machines under loss, crashes, partitions and liars: what must hold does after every step, and runs go on."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.core.kit import KERNELS
from tests.sim.adversaries import KINDS
from tests.sim.invariants import Broken
from tests.sim.paces import measure
from tests.sim.scenario import load
from tests.sim.soak import run
from tests.sim.world import Told, World

SEEDS = 200
BATCH = 20
ROOT = Path(__file__).parents[2]


def many(name: str, first: int, count: int, *, keys: str = "") -> list[Told]:
    """Some worlds of a scenario, all of which must hold."""
    scenario = load(name)
    return [run(name, scenario, seed, keys=keys) for seed in range(first, first + count)]


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_members_agree_and_go_on_whatever_one_seed_throws_at_them(first: int) -> None:
    for told in many("mixed", first, BATCH):
        assert told.certificates == told.rounds == 5


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_seven_members_bear_two_liars_that_work_together_and_a_crash(first: int) -> None:
    for told in many("seven", first, BATCH):
        assert told.certificates == told.rounds == 5


@pytest.mark.parametrize("name", ["mixed", "seven", "mortal"])
def test_with_real_keys_too(name: str) -> None:
    told = many(name, 5000, 10, keys="real")
    assert all(each.verified > 0 < each.signed for each in told)
    assert sum(each.verified for each in told) > sum(each.signed for each in told)


@pytest.mark.parametrize(
    "name",
    [
        "hostile",
        "hostile-seven",
        "mortal",
        "censored",
        "split-brain-survived",
        "gathering",
        "joining",
        "lossy",
        "silent",
        "replayed",
        "ending",
        "leaving",
    ],
)
def test_what_a_scenario_is_about_breaks_nothing(name: str) -> None:
    many(name, 0, 20)


@pytest.mark.parametrize("first", range(0, 60, BATCH))
def test_buffered_rounds_take_late_updates_once_whatever_a_seed_throws_at_them(first: int) -> None:
    tolds = many("buffered", first, BATCH)
    assert all(told.certificates == told.rounds == 8 for told in tolds)
    assert sum(told.stale for told in tolds) > BATCH


def test_what_a_buffered_run_takes_is_more_than_what_a_sync_run_waits_for() -> None:
    """Of nine who take unequally long, where a sync round waits for all."""
    sync = measure("sync", 0, seeds=1, rounds=12, grace_s=600.0)
    buffered = measure("buffered", 5, seeds=1, rounds=12)
    assert buffered.updates > 2 * sync.updates
    assert buffered.checkpoints > 3 * sync.checkpoints
    assert (sync.stale, sync.weight) == (0, 1)
    assert buffered.stale > 0.3


def test_drawn_committees_agree_through_loss_crashes_and_liars() -> None:
    many("drawn", 0, 8)


@pytest.mark.parametrize("seed", range(6))
def test_rounds_with_fewer_updates_than_the_rule_needs_are_void_and_the_run_goes_on(seed: int) -> None:
    world = World(load("needy"), seed)
    told = world.run()
    headers = [head.header for head in world.invariants.heads.values()]
    void = [header.round for header in headers if header.void]
    assert {h.void for h in headers} == {"", "too few updates: 4 of the 5 that krum with f = 1 needs"}
    assert 1 <= len(void) == told.voids < 6
    assert not headers[6].void
    for round in void:
        assert headers[round].params == headers[round - 1].params


@pytest.mark.parametrize("seed", range(6))
def test_members_whose_kernels_differ_train_and_the_others_decide(seed: int) -> None:
    world = World(load("odd"), seed)
    world.run()
    odd = {node.peer for node in world.nodes if node.kernels != KERNELS}
    heads = world.invariants.heads.values()
    assert len(odd) == 2
    assert not any(odd & set(head.committee.members) for head in heads)
    assert odd <= {inclusion.trainer for head in heads for inclusion in head.header.inclusions}


def test_a_run_of_equals_goes_on_though_none_of_them_computes_what_the_protocol_says() -> None:
    scenario = msgspec.structs.replace(load("odd"), nodes=(5,), odd=5)
    assert World(scenario, 1).run().certificates == 5


def test_a_run_stands_still_where_one_more_is_silent_than_it_survives() -> None:
    """So what the silent members are in all other worlds is as many as there can be."""
    scenario = load("silent")
    liars = msgspec.structs.replace(scenario.liars, count=(3,))
    with pytest.raises(Broken, match="no progress"):
        run("silent", msgspec.structs.replace(scenario, liars=liars), 1)


def test_those_who_join_later_become_members() -> None:
    world = World(load("joining"), 1)
    world.run()
    assert {node.peer for node in world.nodes} == {m.peer for m in world.invariants.heads[6].state.members}


def test_runs_end_by_each_of_what_their_spec_says_whatever_liars_claim() -> None:
    """When they do, and that they do, the invariants look at."""
    ended = set()
    for seed in range(20):
        world = World(load("ending"), seed)
        world.run()
        heads = world.invariants.heads
        ended.add(heads[max(heads)].header.ended)
    assert ended == {"time", "metric"}


def test_members_leave_and_come_back_and_nobody_else_can_make_them() -> None:
    left, back = 0, 0
    for seed in range(4):
        world = World(load("leaving"), seed)
        world.run()
        heads = world.invariants.heads.values()
        gone = {each.peer for head in heads for each in head.header.left if each.reason == "left"}
        left += len(gone)
        back += len(gone & {each.peer for head in heads if head.round > 0 for each in head.header.joined})
    assert left >= 12
    assert back >= 4


def test_a_flood_does_not_pile_up_in_honest_machines() -> None:
    told = many("flooded", 0, 6)
    assert 0 < max(each.held for each in told) < 200


def test_a_healed_network_decides_within_the_stated_views() -> None:
    """`World.run` compares each round with `World.views`; here: that there were rounds to compare."""
    worlds = [World(load("seven"), seed) for seed in range(10)]
    assert max(world.run().healed for world in worlds) > 0
    assert {world.views for world in worlds} == {2 * 3 + 1}


def test_honest_members_accuse_nobody_honest() -> None:
    honest = msgspec.structs.replace(load("buffered"), liars=load("lossy").liars)
    for scenario, seed in [*((load("lossy"), seed) for seed in range(5)), *((honest, seed) for seed in range(10))]:
        world = World(scenario, seed)
        world.run()
        assert world.accusations == []


def test_a_forged_header_is_blamed_on_its_proposer() -> None:
    forgers = [kind for name, kind in KINDS.items() if name.startswith("lies about") and kind.forgeries]  # type: ignore[attr-defined]
    assert len(forgers) == 9
    for kind in forgers:
        world = World(msgspec.structs.replace(load("honest"), rounds=20), 3)  # long enough for everybody's turn
        liar = world.nodes[2]
        liar.adversaries = [kind(liar, world.gang)]
        world.run()
        assert {peer for _, peer, _, _ in world.accusations} == {liar.peer}, kind.name


# ---- one number, one world


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = World(load("mixed"), 6), World(load("mixed"), 6)
    assert first.run() == second.run()
    assert first.invariants.certificates == second.invariants.certificates


def test_a_world_is_the_same_in_a_process_that_hashes_otherwise() -> None:
    """A set's order must not decide anything, in no machine and not here."""
    command = [sys.executable, "-m", "tests.sim", "seven", "--seed", "8", "--all"]
    stories = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": salt}, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for salt in ("1", "2")
    ]
    assert "commits round 5" in stories[0]
    assert stories[0] == stories[1]


def test_a_soak_counts_what_its_seeds_did() -> None:
    command = [sys.executable, "-m", "tests.sim", "seven", "--soak", "6", "--first", "40"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.startswith("seven: 6 seeds, 30 rounds, 30 certificates")
    assert "0 violations" in told
