"""How a round's deltas become the next params: the stages that a run can be made of, and what each asks of a round.

A stage is an array that begins with its name; in files it is a table with a `name`. How each computes is in
`kernels/`, to the byte.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from primep2p.model.record import Record

__all__ = [
    "Adagrad",
    "Adam",
    "Arc",
    "Bfloat16",
    "Bucketing",
    "Bulyan",
    "CenteredClip",
    "Clip",
    "FedAvg",
    "Float32",
    "GeometricMedian",
    "Int8",
    "Krum",
    "Median",
    "MultiKrum",
    "NearestNeighbours",
    "Need",
    "Outer",
    "Pipeline",
    "Pre",
    "Rule",
    "Sgd",
    "TopK",
    "TrimmedMean",
    "Weighting",
    "Wire",
    "Yogi",
    "trimmed",
]

Weighting = Literal["examples", "uniform"]
"""The weight of an update: the examples that it claims, or the same for all."""

Count = Annotated[int, Meta(ge=0, le=1024)]
Liars = Annotated[int, Meta(ge=1, le=341)]
Iterations = Annotated[int, Meta(ge=1, le=100)]
Positive = Annotated[float, Meta(ge=1e-30, le=1e30)]
"""None of its squares vanishes in float64, nor itself in float32."""
Rate = Annotated[float, Meta(gt=0, le=1e6)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Share = Annotated[str, Meta(pattern=r"^0\.[0-9]{1,6}\Z", extra={"decimal": "a decimal below 1, such as 0.1"})]
"""Computed in exact fractions."""
Half = Annotated[str, Meta(pattern=r"^0\.[0-4][0-9]{0,5}\Z", extra={"decimal": "a decimal below 0.5, such as 0.1"})]


class Stage(Record, frozen=True, tag_field="name"):
    """A part of the pipeline."""

    @property
    def least_updates(self) -> int:
        """With fewer there is no result."""
        return 1

    @property
    def bound(self) -> str:
        """Where that number is from; empty where any number will do."""
        return ""

    @property
    def words(self) -> str:
        """Its name, and the settings that the bound is made of."""
        settings = [f"{name} = {getattr(self, name)}" for name in ("f", "m") if getattr(self, name, 0)]
        return f"{self.__struct_config__.tag}{' with ' if settings else ''}{' and '.join(settings)}"


class Middle(Stage, frozen=True):
    """Bears a liar from three updates on."""

    @property
    def least_updates(self) -> int:
        return 3

    @property
    def bound(self) -> str:
        return "of two it is the mean"


class Outnumbered(Stage, frozen=True):
    """Bears liars that are fewer than the others."""

    f: Liars = 1

    @property
    def least_updates(self) -> int:
        return 2 * self.f + 1

    @property
    def bound(self) -> str:
        return "2f + 1"


# ---- rules


class FedAvg(Stage, frozen=True, tag="fedavg"):
    """The weighted mean. McMahan et al., arXiv:1602.05629."""

    weighting: Weighting = "examples"


class Median(Middle, frozen=True, tag="median"):
    """Of each coordinate. Yin et al., arXiv:1803.01498."""


class TrimmedMean(Stage, frozen=True, tag="trimmed_mean"):
    """Of each coordinate, without the largest and the smallest values. Yin et al., arXiv:1803.01498."""

    trim_ratio: Half = "0.1"
    """The part that is cut at each end: so many updates, rounded down, and one at least."""

    @property
    def least_updates(self) -> int:
        return 3

    @property
    def bound(self) -> str:
        return "one is cut at each end"


class Krum(Stage, frozen=True, tag="krum"):
    """The update that is closest to its neighbours. Blanchard et al., NeurIPS 2017."""

    f: Liars = 1
    """So many updates may be of liars."""

    @property
    def least_updates(self) -> int:
        return 2 * self.f + 3

    @property
    def bound(self) -> str:
        return "2f + 3"


class MultiKrum(Stage, frozen=True, tag="multi_krum"):
    """The mean of the m updates that are closest to their neighbours. Blanchard et al., NeurIPS 2017."""

    f: Liars = 1
    m: Count = 0
    """0: all but f."""

    @property
    def least_updates(self) -> int:
        return max(2 * self.f + 3, self.m + self.f)

    @property
    def bound(self) -> str:
        return "2f + 3" if self.m <= self.f + 3 else "m + f"


class Bulyan(Stage, frozen=True, tag="bulyan"):
    """Krum's choices, then the mean of what is closest to the median, by coordinate. El Mhamdi et al., ICML 2018."""

    f: Liars = 1

    @property
    def least_updates(self) -> int:
        return 4 * self.f + 3

    @property
    def bound(self) -> str:
        return "4f + 3"


class GeometricMedian(Middle, frozen=True, tag="geometric_median"):
    """The point of the least sum of distances (RFA). Pillutla et al., arXiv:1912.13445."""

    nu: Positive = 1e-6
    """Distances below it count as it: no update gets all the weight."""
    iterations: Iterations = 8
    """Of the smoothed Weiszfeld algorithm, from the weighted mean on."""
    weighting: Weighting = "examples"


class CenteredClip(Stage, frozen=True, tag="centered_clip"):
    """The mean of steps of at most tau from a centre, which begins at no change. Karimireddy et al., 2012.10333."""

    tau: Positive = 10.0
    iterations: Iterations = 3


Rule = FedAvg | Median | TrimmedMean | Krum | MultiKrum | Bulyan | GeometricMedian | CenteredClip


def trimmed(rule: TrimmedMean, updates: int) -> int:
    """How many of so many are cut at each end. Exact: the share is a decimal."""
    return min(max(1, int(Fraction(rule.trim_ratio) * updates)), (updates - 1) // 2)


# ---- before the rule


class Clip(Stage, frozen=True, tag="clip"):
    """Scale updates down to a norm."""

    norm: Positive = 1.0


class Arc(Outnumbered, frozen=True, tag="arc"):
    """Scale the floor(2 f (n - f) / n) longest updates down to the longest other. Allouah et al., arXiv:2405.14432."""


class NearestNeighbours(Outnumbered, frozen=True, tag="nnm"):
    """Replace each update by the mean of the n - f closest to it, itself among them. Allouah et al., 2302.01772."""


class Bucketing(Stage, frozen=True, tag="bucketing"):
    """Replace the updates by the means of random buckets. Karimireddy et al., arXiv:2006.09365."""

    size: Annotated[int, Meta(ge=2, le=64)] = 2


Pre = Clip | Arc | NearestNeighbours | Bucketing


# ---- after the rule


class Sgd(Record, frozen=True, tag_field="name", tag="sgd"):
    """params += lr * v, where v = momentum * v + mean; with `nesterov` params += lr * (momentum * v + mean).

    FedAvgM (Hsu et al., arXiv:1909.06335); DiLoCo (Douillard et al., arXiv:2311.08105) with nesterov, 0.7 and 0.9.
    """

    learning_rate: Rate = 1.0
    momentum: Decay = 0.0
    nesterov: bool = False


class Adagrad(Record, frozen=True, tag_field="name", tag="adagrad"):
    """FedAdagrad of Reddi et al., arXiv:2003.00295, algorithm 2."""

    learning_rate: Rate = 0.1
    beta1: Decay = 0.0
    tau: Positive = 1e-3


class Adam(Record, frozen=True, tag_field="name", tag="adam"):
    """FedAdam of Reddi et al., arXiv:2003.00295, algorithm 2: without a correction of bias."""

    learning_rate: Rate = 0.01
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Positive = 1e-3


class Yogi(Record, frozen=True, tag_field="name", tag="yogi"):
    """FedYogi of Reddi et al., arXiv:2003.00295, algorithm 2."""

    learning_rate: Rate = 0.01
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Positive = 1e-3


Outer = Sgd | Adagrad | Adam | Yogi


# ---- on the wire


class Float32(Record, frozen=True, tag_field="name", tag="float32"):
    """As it is: 4 bytes a value."""


class Bfloat16(Record, frozen=True, tag_field="name", tag="bf16"):
    """The upper half, rounded to nearest even: 2 bytes a value."""


class Int8(Record, frozen=True, tag_field="name", tag="int8"):
    """-127 to 127 times a scale for each block: 1 byte a value."""


class TopK(Record, frozen=True, tag_field="name", tag="topk"):
    """The values of the largest size alone: 8 bytes for each. What is left out is sent later (error feedback, Stich et
    al., arXiv:1809.07599)."""

    ratio: Share = "0.01"


Wire = Float32 | Bfloat16 | Int8 | TopK


@dataclass(frozen=True)
class Need:
    """So many updates must enter a round, since a stage has no result with fewer [R2]."""

    updates: int
    stage: Stage
    place: str
    """Of the stage: `rule`, or `pre[0]` and so on."""
    bucket: int = 1
    """So many updates make one of those that the stage sees."""

    @property
    def because(self) -> str:
        """Where the number is from."""
        return f"{self.stage.bound}{self.in_buckets}"

    @property
    def in_buckets(self) -> str:
        """What stands behind a number of updates that go into buckets first; else nothing."""
        return f", in buckets of {self.bucket}" if self.bucket > 1 else ""


class Pipeline(Record, frozen=True):
    """From the deltas of a round to the next params. Each part is a table with its `name`, or that name alone."""

    rule: Rule = FedAvg()
    pre: Annotated[tuple[Pre, ...], Meta(max_length=4)] = ()
    """In this order, before the rule."""
    outer: Outer | None = None
    """What takes the rule's result to the params; None adds it."""
    wire: Wire = Float32()
    """How deltas travel."""
    max_weight_ratio: Annotated[float, Meta(ge=1)] = 10.0
    """An update that claims more than this many times the lower median of examples is left out."""

    @property
    def need(self) -> Need:
        """What asks most of a round [R2]."""
        need = Need(self.rule.least_updates, self.rule, "rule")
        for place, stage in reversed(list(enumerate(self.pre))):
            if isinstance(stage, Bucketing):
                need = Need((need.updates - 1) * stage.size + 1, need.stage, need.place, need.bucket * stage.size)
            elif stage.least_updates > need.updates:
                need = Need(stage.least_updates, stage, f"pre[{place}]")
        return need

    @property
    def least_updates(self) -> int:
        """A round with fewer has no result, and ends void."""
        return self.need.updates

    @property
    def is_weighted(self) -> bool:
        """Whether examples count beyond the check of what updates claim."""
        return isinstance(self.rule, FedAvg | GeometricMedian) and self.rule.weighting == "examples"

    @property
    def weighing(self) -> "Pipeline":
        """The same for updates whose weights say all, those of inclusions: 1 each where examples do not count."""
        if not isinstance(self.rule, FedAvg | GeometricMedian):
            return self
        return msgspec.structs.replace(self, rule=msgspec.structs.replace(self.rule, weighting="examples"))

    @property
    def takes_weights(self) -> bool:
        """Whether an update can count less than another one: not where ranks or distances alone decide, nor where each
        is mixed with others first."""
        mixes = any(isinstance(stage, NearestNeighbours | Bucketing) for stage in self.pre)
        return isinstance(self.rule, FedAvg | GeometricMedian) and not mixes
