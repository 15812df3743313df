"""Scenarios: a TOML file each, read strictly. What a file leaves open, the seed draws."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from primep2p.model.pipeline import Pipeline
from primep2p.model.records import Mode
from primep2p.strict import Fault, build
from tests.sim.adversaries import KINDS

__all__ = ["FOLDER", "Latency", "Liars", "Net", "Perturbation", "Policy", "Scenario", "load", "names", "read"]

FOLDER = Path(__file__).parent / "scenarios"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Span = tuple[Seconds, Seconds]
"""From, to: the seed draws between."""


class Latency(Struct, frozen=True):
    """How long a message takes: `least_s`; anything up to `most_s`; or mostly little and now and then much."""

    kind: Literal["constant", "uniform", "heavy-tailed"]
    least_s: Seconds
    most_s: Seconds = 0.0


class Net(Struct, frozen=True):
    """Of every array one is drawn."""

    latency: tuple[Latency, ...] = (Latency("uniform", 0.002, 0.05),)
    loss: tuple[Share, ...] = (0.0,)
    duplicated: tuple[Share, ...] = (0.0,)
    reordered: tuple[Share, ...] = (0.0,)
    """So many messages are overtaken by what is sent up to half a second later."""
    skew: tuple[Annotated[float, Meta(ge=1, le=4)], ...] = (1.0,)
    """A node's clock runs slow or fast by up to this factor."""
    malice: bool = False
    """The network is on the liars' side: see network.Malice."""


class Liars(Struct, frozen=True):
    """Who lies, and how. Liars of one world know each other and share their plans."""

    count: tuple[Count, ...] = (0,)
    kinds: tuple[str, ...] = ()
    """Names of adversaries; empty: any."""
    each: tuple[Count, ...] = (1,)
    """So many kinds in one liar."""
    alike: Share = 0.5
    """How often all liars of a world are of the same kinds."""


class Perturbation(Struct, frozen=True):
    """What happens to nodes or to what joins them, `times` times."""

    kind: Literal["crash", "pause", "partition", "cut off"]
    """Partition: the members in two parts. Cut off: one member from all others."""
    times: tuple[Count, ...] = (1,)
    at_s: Span = (0.3, 4.0)
    for_s: Span = (0.05, 3.0)


class Policy(Struct, frozen=True):
    """The run's policy, where it is not that of the simulation."""

    min_members: Count = 0
    """0: as many as there are, so that nobody is dropped."""
    min_updates: Annotated[int, Meta(ge=1)] = 1
    drop_after: Annotated[int, Meta(ge=1)] = 3
    collect_s: float = 5.0
    grace_s: float = 0.2
    propose_s: float = 4.0
    vote_s: float = 1.0
    step_cap_s: float = 30.0
    committee_size: Annotated[int, Meta(ge=1)] = 31
    sample_fraction: str = "1"
    max_cohort: Annotated[int, Meta(ge=1)] = 64
    mode: Mode = "sync"
    updates_per_version: Count = 0
    max_staleness: Count = 8


class Scenario(Struct, frozen=True):
    """One world for each seed."""

    about: str
    nodes: tuple[Annotated[int, Meta(ge=1, le=1000)], ...]
    rounds: Annotated[int, Meta(ge=1)] = 5
    seed: int = 1
    """Where the command names none."""
    keys: Literal["real", "fake"] = "fake"
    begins: Literal["gathering", "checkpoint 0"] = "checkpoint 0"
    odd: Count = 0
    """So many members have kernels that give other bytes than the protocol says."""
    joiners: Count = 0
    """More nodes that ask to become members later."""
    leavers: Count = 0
    """So many honest members leave at some time; every other one of them joins again."""
    target: float = 0.0
    """The run ends when the loss that is claimed is not above this; honest trainers claim 1 / round. 0: it does not."""
    over_s: Seconds = 0.0
    """By honest clocks, each a little off, the run's time is over then; 0: it is never."""
    train_s: Span = (0.05, 0.5)
    train_sigma: Annotated[float, Meta(ge=0)] = 0.0
    """Of the logarithm of what each training takes besides: lognormal, so that some take many times as long."""
    crash_at_write: tuple[Share, ...] = (0.0,)
    """How often an honest member dies at a write to its journal, before or after it."""
    heals_s: Seconds = 8.0
    """From then on the network loses nothing and is quick, and nobody is perturbed."""
    views: Count = 0
    """After that an honest member decides within so many views; 0: as many as `World.views` says."""
    limit_s: Seconds = 600.0
    """By then it is over."""
    network: Net = Net()
    liars: Liars = Liars()
    perturbation: tuple[Perturbation, ...] = ()
    policy: Policy = Policy()
    pipeline: Pipeline = Pipeline()


def names() -> list[str]:
    """Of all scenarios that are here."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """The scenario of that name, or in the file at that path."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    return read(tomllib.loads(path.read_text()))


def read(table: object) -> Scenario:
    """The scenario that a TOML table describes. Raises Fault, which names the path of what is wrong."""
    scenario = build(Scenario, table)
    for path, choices in _choices(scenario):
        if not choices:
            raise Fault(path, "is empty: the seed draws one of these")
    for index, kind in enumerate(scenario.liars.kinds):
        if kind not in KINDS:
            raise Fault(f"liars.kinds[{index}]", f"is no adversary: there are {', '.join(KINDS)}")
    if max(scenario.liars.count) >= min(scenario.nodes):
        raise Fault("liars.count", "leaves nobody honest")
    return scenario


def _choices(scenario: Scenario) -> list[tuple[str, tuple[object, ...]]]:
    """All that a seed draws from."""
    net, liars = scenario.network, scenario.liars
    named: list[tuple[str, tuple[object, ...]]] = [
        ("nodes", scenario.nodes),
        ("crash_at_write", scenario.crash_at_write),
    ]
    named += [
        (f"network.{name}", getattr(net, name)) for name in ("latency", "loss", "duplicated", "reordered", "skew")
    ]
    named += [("liars.count", liars.count), ("liars.each", liars.each)]
    return named + [(f"perturbation[{i}].times", each.times) for i, each in enumerate(scenario.perturbation)]
