"""What happens on a node, as it is told to whoever watches. Ids are strings, hashes are hex, times are seconds."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

__all__ = [
    "Accused",
    "AnyEvent",
    "Evaluated",
    "Event",
    "JobChanged",
    "LogLine",
    "PeerChanged",
    "PluginFailed",
    "RoundCertified",
    "RunFinished",
    "StepChanged",
    "TrainingReported",
]


class Event(Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something happened; `run` is empty for what concerns the node. `at_s` is Unix time.

    A number that a trainer reports may be none at all (NaN): JSON has null for it.
    """

    at_s: float = 0.0
    run: str = ""


class RoundCertified(Event, frozen=True, tag="round-certified"):
    """A round ended with a certificate. `metrics` are those that the header carries: means over the included
    updates. `seconds` is since the one before, on this node."""

    round: int
    header: str
    params: str
    participants: list[str]
    signers: list[str]
    roster: list[str]
    metrics: Mapping[str, float | None]
    void: str
    view: int
    seconds: float


class StepChanged(Event, frozen=True, tag="step-changed"):
    """The round moved on this node: train, collect, propose, prevote, precommit."""

    round: int
    view: int
    step: str


class TrainingReported(Event, frozen=True, tag="training-reported"):
    """The trainer reported progress through its context; `loss` is null where it told none that is finite."""

    round: int
    step: int
    steps: int
    loss: float | None


class Evaluated(Event, frozen=True, tag="evaluated"):
    """The trainer's evaluate gave metrics of the round's checkpoint on this node's own data."""

    round: int
    metrics: Mapping[str, float | None]


class PluginFailed(Event, frozen=True, tag="plugin-failed"):
    """The trainer raised, hung or returned nonsense: this node misses the round."""

    round: int
    sentence: str
    stderr: str


class JobChanged(Event, frozen=True, tag="job-changed"):
    """A round's training is handed to whoever asks: it is open to all, given to a worker, and in the end taken or
    missed; an update of it may be refused."""

    round: int
    job: str
    state: Literal["open", "given", "refused", "taken", "missed"]
    sentence: str = ""
    """To whom it is given, or why its update is refused."""


class PeerChanged(Event, frozen=True, tag="peer-changed"):
    """A peer connected or was lost."""

    peer: str
    connected: bool


class Accused(Event, frozen=True, tag="accused"):
    """A peer broke a rule."""

    peer: str
    reason: str


class RunFinished(Event, frozen=True, tag="run-finished"):
    """The last round of the run is certified."""

    round: int


class LogLine(Event, frozen=True, tag="log-line"):
    """A message for people."""

    level: str
    sentence: str


AnyEvent = (
    RoundCertified
    | StepChanged
    | TrainingReported
    | Evaluated
    | PluginFailed
    | JobChanged
    | PeerChanged
    | Accused
    | RunFinished
    | LogLine
)
