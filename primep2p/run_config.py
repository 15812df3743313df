"""What starts a run: the file that `run create` takes, and what the call carries."""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from primep2p.config import faulty, read_toml
from primep2p.model.pipeline import Bucketing, NearestNeighbours, Pipeline, TopK
from primep2p.model.records import MAX_REFS, Admission, RoundPolicy, Scalar
from primep2p.model.stopping import AtLeast, AtMost, Stop
from primep2p.strict import Fault, Faults, build

__all__ = ["JOBS", "RunConfig", "StopConfig", "check", "load_run", "misfits_of"]

JOBS = "jobs"
"""The trainer of a run whose members all train in loops of their own."""


class StopConfig(Struct, frozen=True, kw_only=True):
    """What ends a run beside policy.rounds; whatever comes first does."""

    metric: Annotated[str, Meta(max_length=64)] = ""
    """A metric that the trainer gives with its updates: the run ends when more than half of the updates of a round
    claim that it is as good as this asks; empty: no metric ends it."""
    at_least: float | None = None
    """The metric must not be below this."""
    at_most: float | None = None
    """Or not above this."""
    hours: Annotated[float, Meta(ge=0, le=876_000)] = 0.0
    """The run ends so many hours after it was created; 0: never. Each member looks at its own clock."""

    def stop(self, now_s: float) -> Stop:
        """What goes into the spec of a run that is created now, in Unix time."""
        target: AtLeast | AtMost | None = None
        if self.at_least is not None:
            target = AtLeast(self.metric, self.at_least)
        elif self.at_most is not None:
            target = AtMost(self.metric, self.at_most)
        return Stop(target, math.ceil(now_s + 3600 * self.hours) if self.hours else 0)

    @classmethod
    def of(cls, stop: Stop) -> "StopConfig":
        """The target of another run; its time is its own."""
        match stop.target:
            case AtLeast(metric, value):
                return cls(metric=metric, at_least=value)
            case AtMost(metric, value):
                return cls(metric=metric, at_most=value)
            case None:
                return cls()


class RunConfig(Struct, frozen=True, kw_only=True):
    """A run before it begins: its params are in a file, or the trainer makes them on the node that creates it."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    """For people; the run's id is a hash."""
    trainer: Annotated[str, Meta(max_length=64)] = ""
    """The name under which every member has this trainer; "jobs": each trains in a loop of its own."""
    plan: str = ""
    """In place of a trainer the file of a plan, relative to the run's own; see docs/plans.md. `run create` reads it."""
    trainer_config: dict[str, Scalar | list[Scalar]] = {}
    """Settings for the trainer, the same for every member."""
    pipeline: Pipeline = Pipeline()
    policy: RoundPolicy = RoundPolicy()
    admission: Admission = Admission()
    stop: StopConfig = StopConfig()
    params: str = ""
    """A safetensors file of float32 tensors, with which the run begins; relative to the file that says so. Empty: the
    trainer makes the first params."""


def load_run(path: Path) -> RunConfig:
    """The run in a TOML file, checked. Raises ConfigError."""
    try:
        config = build(RunConfig, read_toml(path))
        check(config)
        if config.plan:
            config = replace(config, plan=str(path.absolute().parent / Path(config.plan).expanduser()))
    except Fault as fault:
        raise faulty(str(path), fault, f"primep2p run check {path}") from fault
    params = str(path.absolute().parent / Path(config.params).expanduser()) if config.params else ""
    return replace(config, params=params)


def check(config: RunConfig) -> None:
    """Raises Fault where single values are fine and do not fit each other, or cannot travel in a record."""
    faults = Faults()
    for path, problem in _misfits(config):
        faults.add(path, problem)
    faults.done()


def _misfits(config: RunConfig) -> Iterator[tuple[str, str]]:
    """The path of each, and what is wrong."""
    if bool(config.trainer) == bool(config.plan):
        yield "trainer", "or plan must be set" if not config.trainer else "and plan cannot both be set"
    yield from _policy(config.policy)
    yield from _pipeline(config.pipeline)
    yield from _need(config.pipeline, config.policy)
    yield from _buffered(config.pipeline, config.policy)
    yield from _admission(config.admission)
    yield from _stop(config.stop)
    yield from misfits_of(config.trainer_config, "trainer_config")


def misfits_of(settings: Mapping[str, Scalar | list[Scalar]], path: str) -> Iterator[tuple[str, str]]:
    """Of a trainer's settings, found at `path`: where one is that no record has room for, and what is wrong."""
    for key, value in settings.items():
        for each in value if isinstance(value, list) else [value]:
            yield from _setting(f"{path}.{key}", each)


def _policy(policy: RoundPolicy) -> Iterator[tuple[str, str]]:
    if not Fraction(1, 2) <= Fraction(policy.consensus_threshold) <= 1:
        yield "policy.consensus_threshold", "must lie within 0.5 and 1"
    if Fraction(policy.sample_fraction) <= 0:
        yield "policy.sample_fraction", "must be above 0"
    if policy.min_updates > policy.max_cohort:
        yield "policy.min_updates", f"must not be above policy.max_cohort, which is {policy.max_cohort}"
    if policy.committee_size * policy.max_cohort > MAX_REFS:
        yield "policy.max_cohort", f"times policy.committee_size must not be above {MAX_REFS}"
    for key in ("min_updates", "min_members"):
        if getattr(policy, key) > policy.first_members:
            limit = f"must not be above policy.first_members, which is {policy.first_members}"
            yield f"policy.{key}", f"{limit}: set {key} = {policy.first_members} too"
    if policy.grace_s > policy.collect_s:
        yield "policy.grace_s", f"must not be above policy.collect_s, which is {policy.collect_s:g}"
    for key in ("propose_s", "vote_s"):
        if getattr(policy, key) > policy.step_cap_s:
            yield f"policy.{key}", f"must not be above policy.step_cap_s, which is {policy.step_cap_s:g}"


def _pipeline(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    if isinstance(pipeline.wire, TopK) and Fraction(pipeline.wire.ratio) <= 0:
        yield "pipeline.wire.ratio", "must be above 0"
    for place, stage in enumerate(pipeline.pre):
        if isinstance(stage, Bucketing | NearestNeighbours) and pipeline.is_weighted:
            problem = f'{stage.words} mixes updates: pipeline.rule.weighting must be "uniform"'
            yield f"pipeline.pre[{place}]:", problem


def _need(pipeline: Pipeline, policy: RoundPolicy) -> Iterator[tuple[str, str]]:
    """A run must not begin with rounds of which none could give a model. The cohort has as many as the pipeline needs,
    whatever the sample, if there are so many."""
    need = pipeline.need
    for key in ("first_members", "max_cohort"):
        if need.updates > (most := getattr(policy, key)):
            wants = f"{need.stage.words} needs {need.updates} updates a round ({need.because})"
            yield f"pipeline.{need.place}:", f"{wants}, and policy.{key} is {most}"


def _buffered(pipeline: Pipeline, policy: RoundPolicy) -> Iterator[tuple[str, str]]:
    """What only one of the modes has, and what a buffered checkpoint is to be made of."""
    if not policy.is_buffered:
        for key in ("updates_per_version", "max_staleness"):
            if getattr(policy, key) != getattr(RoundPolicy(), key):
                yield f"policy.{key}", 'has no effect unless policy.mode is "buffered"'
        return
    if Fraction(policy.sample_fraction) < 1:
        problem = 'must be 1 where policy.mode is "buffered": who trains is not drawn for each round'
        yield "policy.sample_fraction", problem
    reasons = {
        f"two thirds of {'policy.min_members' if policy.min_members else 'the members'}": policy.least_members,
        "policy.min_updates": policy.min_updates,
        f"what {pipeline.need.stage.words} needs": pipeline.need.updates,
    }
    reason, least = max(reasons.items(), key=lambda item: item[1])
    wanted = policy.updates_per_version or least
    if wanted < least:
        yield "policy.updates_per_version", f"must not be below {least}: {reason}"
    for key in ("first_members", "max_cohort"):
        if wanted > (most := getattr(policy, key)):
            limit = f"must not be above policy.{key}, which is {most}: a member has one update in a checkpoint"
            yield "policy.updates_per_version", limit


def _admission(admission: Admission) -> Iterator[tuple[str, str]]:
    if admission.mode == "allowlist" and not admission.peers:
        yield "admission.peers", 'must name a peer where admission.mode is "allowlist"'
    if admission.mode != "allowlist" and admission.peers:
        yield "admission.peers", 'has no effect unless admission.mode is "allowlist"'
    if admission.mode != "invite" and admission.inviters:
        yield "admission.inviters", 'has no effect unless admission.mode is "invite"'


def _stop(stop: StopConfig) -> Iterator[tuple[str, str]]:
    limits = [(key, limit) for key in ("at_least", "at_most") if (limit := getattr(stop, key)) is not None]
    for key, limit in limits:
        if not math.isfinite(limit):
            yield f"stop.{key}", "must be a finite number"
    if limits and not stop.metric:
        yield "stop.metric", f"must name the metric that stop.{limits[0][0]} is about"
    if stop.metric and len(limits) != 1:
        yield "stop.metric", "needs one of stop.at_least and stop.at_most"
    if not math.isfinite(stop.hours):
        yield "stop.hours", "must be a finite number"


def _setting(path: str, value: Scalar) -> Iterator[tuple[str, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, "must be a finite number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, "must fit into 64 bits"
