"""When a run ends before somebody ends it: a target for what it learns, and a time [F1, F2]."""

from math import isfinite
from typing import Annotated

from msgspec import Meta

from primep2p.model.record import Record

__all__ = ["AtLeast", "AtMost", "Stop", "Target"]

MetricName = Annotated[str, Meta(min_length=1, max_length=64)]


class AtLeast(Record, frozen=True, tag_field="name", tag="at_least"):
    """What an update claims of `metric` must not be below `value`."""

    metric: MetricName
    value: float

    def is_met_by(self, claimed: float) -> bool:
        """Whether a claim is good enough."""
        return isfinite(claimed) and claimed >= self.value

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.metric} of at least {self.value:g}"


class AtMost(Record, frozen=True, tag_field="name", tag="at_most"):
    """What an update claims of `metric` must not be above `value`."""

    metric: MetricName
    value: float

    def is_met_by(self, claimed: float) -> bool:
        """Whether a claim is good enough."""
        return isfinite(claimed) and claimed <= self.value

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.metric} of at most {self.value:g}"


Target = AtLeast | AtMost


class Stop(Record, frozen=True):
    """What ends a run beside `rounds` of its policy; by default nothing does."""

    target: Target | None = None
    until: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Unix time in seconds, as the run's creator chose it; 0: for ever. Each member looks at its own clock."""
