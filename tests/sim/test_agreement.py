"""Real machines under loss, crashes, partitions and liars: agreement and validity after every step, and progress."""

from collections.abc import Callable

import pytest

from primep2p.core import rounds
from primep2p.core.votes import Committee
from primep2p.model.ids import PeerId
from tests.core.mutants import WithoutLock
from tests.sim.scenarios import LIES, hostile, mixed, run
from tests.sim.world import Broken, Scenario, World

SEEDS = 200
BATCH = 10


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_members_agree_and_go_on_whatever_one_seed_throws_at_them(first: int) -> None:
    for seed in range(first, first + BATCH):
        run(mixed(seed))


@pytest.mark.parametrize("lie", LIES)
def test_one_liar_of_four_neither_stops_nor_bends_the_run(lie: str) -> None:
    world = World(Scenario(seed=1, liars={1: lie}))
    run(world)
    assert len(world.certified) == 5


def test_a_list_of_invented_updates_leaves_nobody_out() -> None:
    world = World(Scenario(seed=2, liars={1: "invents updates"}, rounds=6))
    run(world)
    assert not any(certified.header.void for certified in world.certified.values())


def test_a_forged_header_is_blamed_on_its_proposer() -> None:
    world = World(Scenario(seed=3, liars={2: "lies about inclusions"}, rounds=6))
    run(world)
    accused = {peer for _, peer, _, _ in world.accusations}
    assert accused == {world.nodes[2].peer}


def test_honest_members_accuse_nobody_honest() -> None:
    for seed in range(20):
        world = World(Scenario(seed=seed, loss=0.1, crashes=2, partitions=1))
        run(world)
        assert world.accusations == []


def test_the_same_seed_gives_the_same_world() -> None:
    first, second = mixed(6), mixed(6)
    run(first)
    run(second)
    assert (first.steps, first.now) == (second.steps, second.now)
    assert [c.hash for c in first.certified.values()] == [c.hash for c in second.certified.values()]


# ---- the simulation itself must be able to fail


def caught(make: Callable[[int], World]) -> str:
    """What a mutant was caught at, in at most SEEDS seeds; empty if it got away."""
    for seed in range(SEEDS):
        try:
            make(seed).run()
        except Broken as broken:
            return str(broken)
    return ""


def test_members_without_a_lock_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "Consensus", WithoutLock)
    assert "two certified checkpoints" in caught(hostile)


def test_a_quorum_that_is_one_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Committee.of

    def wrong(members: tuple[PeerId, ...], threshold: str) -> Committee:
        return Committee(members, right(members, threshold).q - 1)

    monkeypatch.setattr(Committee, "of", wrong)
    found = caught(hostile)
    assert "two certified checkpoints" in found or "leaves out an update" in found


def test_a_member_that_forgets_its_journal_is_caught() -> None:
    assert "signed two records" in caught(lambda seed: hostile(seed, forget_journal=True))


def test_the_hostile_network_alone_breaks_nothing() -> None:
    for seed in range(60):
        run(hostile(seed))
