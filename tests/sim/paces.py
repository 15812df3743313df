"""What a buffered run gains where trainings take unequally long: checkpoints and updates used in a virtual minute.

`python -m tests.sim.paces` prints a row for each mode and each number of updates that a checkpoint waits for.
"""

from __future__ import annotations

from dataclasses import dataclass

from primep2p.model.records import Mode
from tests.sim.scenario import Net, Policy, Scenario
from tests.sim.world import World

__all__ = ["Pace", "measure"]

MEMBERS = 9
SEEDS = 20
COLLECT_S = 600.0
"""Longer than any training: a round waits for all of its trainers, or for as many as it wants."""


@dataclass(frozen=True)
class Pace:
    """Per virtual minute, over some worlds."""

    checkpoints: float
    updates: float
    stale: float
    """Of the updates used the share that were from an earlier head."""
    weight: float
    """The mean of 1 / sqrt(1 + staleness)."""
    voids: int


def measure(
    mode: Mode, updates: int, *, seeds: int, rounds: int = 40, sigma: float = 1.0, grace_s: float = 0.2
) -> Pace:
    """Trainings take 5 s times a lognormal factor."""
    is_buffered = mode == "buffered"
    policy = Policy(
        min_members=3,
        min_updates=2,
        drop_after=1000,
        collect_s=COLLECT_S,
        grace_s=grace_s,
        mode=mode,
        updates_per_version=updates if is_buffered else 0,
    )
    scenario = Scenario(
        about="",
        nodes=(MEMBERS,),
        rounds=rounds,
        train_s=(5.0, 5.0),
        train_sigma=sigma,
        heals_s=0.0,
        limit_s=1e6,
        network=Net(),
        policy=policy,
    )
    seconds, certificates, ages, voids = 0.0, 0, list[int](), 0
    for seed in range(seeds):
        world = World(scenario, seed)
        told = world.run()
        seconds += told.seconds
        certificates += told.certificates - told.voids
        voids += told.voids
        heads = [head.header for head in world.invariants.heads.values() if not head.header.void]
        ages += [inclusion.staleness for header in heads for inclusion in header.inclusions]
    minutes = seconds / 60
    stale = sum(age > 0 for age in ages) / len(ages)
    weight = sum((1 + age) ** -0.5 for age in ages) / len(ages)
    return Pace(certificates / minutes, len(ages) / minutes, stale, weight, voids)


def main() -> None:
    print(
        "| mode | a round waits for | checkpoints a minute | updates used a minute | from earlier heads | mean weight |"
    )
    print("|---|---|---|---|---|---|")
    cases: list[tuple[Mode, int, float, str]] = [
        ("sync", 0, COLLECT_S, f"all {MEMBERS} (a long `grace_s`)"),
        ("sync", 0, 0.2, "2, and half the time so far"),
        *[("buffered", wanted, 0.2, str(wanted)) for wanted in (3, 5, 7)],
    ]
    for mode, wanted, grace_s, words in cases:
        pace = measure(mode, wanted, seeds=SEEDS, grace_s=grace_s)
        shares = f"{pace.stale:.0%} | {pace.weight:.2f}"
        print(f"| {mode} | {words} | {pace.checkpoints:.1f} | {pace.updates:.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
