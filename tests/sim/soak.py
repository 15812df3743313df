"""Many seeds on all cores: a process for each batch, so that work and memory of each are bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from tests.core.mutants import MUTANTS
from tests.sim.invariants import Broken
from tests.sim.scenario import Scenario, load
from tests.sim.world import Told, World

__all__ = ["Sum", "again", "batch", "mutant", "run", "soak", "summary"]

BATCH = 50
"""Seeds of one process: enough that starting it costs nothing, few enough that the cores end together."""

SHOWN = 10
"""Violations that are printed; all are counted."""


def again(name: str, seed: int, extra: str = "") -> str:
    """The line that runs one world again."""
    return f"python -m tests.sim {name} --seed {seed}{extra}"


def mutant(name: str) -> AbstractContextManager[object]:
    """Machines that are wrong in this; with an empty name, right ones."""
    return MUTANTS[name]() if name else nullcontext()


def run(name: str, scenario: Scenario, seed: int, *, keys: str = "") -> Told:
    """One world. Raises Broken, with the line that runs it again."""
    world = World(scenario, seed, keys=keys)
    try:
        return world.run()
    except Broken as broken:
        raise Broken(
            f"{broken} ({name}, seed {seed}: {world.describe()}); run it again with: {again(name, seed)}"
        ) from broken


@dataclass
class Sum:
    """What came of many worlds."""

    seeds: int = 0
    rounds: int = 0
    certificates: int = 0
    voids: int = 0
    updates: int = 0
    stale: int = 0
    milliseconds: int = 0
    """Of virtual time."""
    steps: int = 0
    signed: int = 0
    verified: int = 0
    equivocations: int = 0
    held: int = 0
    healed: int = 0
    views: Counter[int] = field(default_factory=Counter)
    """Commits by members, by the number of views that the round took."""
    healings: Counter[int] = field(default_factory=Counter)
    """Worlds by the most views that a decision took once the network had healed."""
    violations: list[str] = field(default_factory=list)

    def add(self, told: Told) -> None:
        """One world that held."""
        self.milliseconds += round(1000 * told.seconds)
        for name in (
            "rounds",
            "certificates",
            "voids",
            "updates",
            "stale",
            "steps",
            "signed",
            "verified",
            "equivocations",
        ):
            setattr(self, name, getattr(self, name) + getattr(told, name))
        self.held = max(self.held, told.held)
        self.healed = max(self.healed, told.healed)
        self.views.update(told.views)
        self.healings[told.healed] += 1

    def merge(self, other: dict[str, object]) -> None:
        """What a batch printed."""
        for name, value in other.items():
            match getattr(self, name), value:
                case Counter() as counter, dict():
                    counter.update({int(key): int(count) for key, count in value.items()})
                case list() as known, list():
                    known.extend(value)
                case int() as known, int():
                    setattr(self, name, max(known, value) if name in ("held", "healed") else known + value)


def batch(name: str, first: int, seeds: int, *, keys: str) -> int:
    """Some seeds in this process; prints their sum as one line of JSON."""
    scenario, total = load(name), Sum()
    for seed in range(first, first + seeds):
        total.seeds += 1
        try:
            total.add(run(name, scenario, seed, keys=keys))
        except Broken as broken:
            total.violations.append(str(broken))
    print(json.dumps(vars(total)))
    return 0


def soak(name: str, first: int, seeds: int, *, keys: str) -> int:
    """All seeds; prints counts, and each violation with the line that runs it again."""
    load(name)  # a mistake in it is one sentence here, not one for each process
    started, total, cores = time.perf_counter(), Sum(), os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=cores) as pool:
        batches = [
            pool.submit(_batch_apart, name, at, min(BATCH, first + seeds - at), keys)
            for at in range(first, first + seeds, BATCH)
        ]
        for done in as_completed(batches):
            if done.exception() is not None:  # a bug, here or in a machine: its traceback is on stderr
                pool.shutdown(cancel_futures=True)
                print(f"{name}: a batch ended without a result, after {total.seeds} seeds", file=sys.stderr)
                return 2
            total.merge(done.result())
            if sys.stderr.isatty():
                print(f"\r{total.seeds} seeds, {len(total.violations)} violations", end="", file=sys.stderr)
    for violation in total.violations[:SHOWN]:
        print(violation)
    seconds = time.perf_counter() - started
    print(_report(name, total, seconds, cores))
    return 1 if total.violations else 0


def _batch_apart(name: str, first: int, seeds: int, keys: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.sim", name, "--first", str(first), "--batch", str(seeds), "--keys", keys]
    done = subprocess.run(command if keys else command[:-2], stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def _report(name: str, total: Sum, seconds: float, cores: int) -> str:
    rate = total.seeds / seconds if seconds else 0.0
    views = ", ".join(f"{count} in {views}" for views, count in sorted(total.views.items()))
    healings = ", ".join(f"{count} in {views}" for views, count in sorted(total.healings.items()) if views)
    return "\n".join(
        (
            f"{name}: {total.seeds} seeds, {total.rounds} rounds, {total.certificates} certificates, "
            f"{total.voids} void, {len(total.violations)} violations",
            f"views       {views}",
            f"after heal  {healings or 'no round was left'}; the most is {total.healed}",
            f"records     {total.signed} signed, {total.verified} verified, at most {total.held} held by one machine, "
            f"{total.equivocations} equivocations found",
            f"time        {seconds:.1f} s on {cores} cores, {rate:.1f} seeds a second, {total.steps} steps",
        )
    )


def summary(told: Told) -> str:
    """One world in a few lines."""
    lines = [
        f"{told.rounds} rounds, {told.certificates} certificates, {told.voids} void, in {told.seconds:.1f} virtual s",
        f"{told.updates} updates entered, {told.stale} of them from earlier heads; a virtual minute has "
        f"{60 * told.certificates / told.seconds:.1f} checkpoints and {60 * told.updates / told.seconds:.1f} updates",
        f"{told.steps} steps, {told.signed} signatures made, {told.verified} verified",
        f"most views after healing: {told.healed}; most records held by one machine: {told.held}",
    ]
    for role, turns in sorted(told.turns.items()):
        sent = {kind: count for (whose, kind), count in told.messages.items() if whose == role}
        kinds = ", ".join(f"{count / turns:.1f} {kind}" for kind, count in sorted(sent.items()))
        heard = told.received[role] / turns
        lines.append(
            f"{role}: a member sends {sum(sent.values()) / turns:.1f} messages a round ({kinds}), gets {heard:.1f}"
        )
    topic = ", ".join(f"{count} {kind}" for kind, count in sorted(told.published.items()))
    lines.append(f"topic: {topic or 'nothing'} published, {told.received['topic']} times heard")
    return "\n".join(lines)
