"""What a node tells its owner: answers of the control socket, and events.

JSON-friendly: ids are strings, hashes are hex, times are seconds.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

__all__ = [
    "Accused",
    "AnyEvent",
    "Evaluated",
    "Event",
    "LogLine",
    "MemberView",
    "ModelPath",
    "NodeStatus",
    "PeerChanged",
    "PeerView",
    "PluginFailed",
    "RoundCertified",
    "RunDetail",
    "RunFinished",
    "RunPhase",
    "RunSummary",
    "StepChanged",
    "Stopped",
    "TrainingReported",
]

RunPhase = Literal["gathering", "joining", "catching-up", "running", "finished"]


class View(Struct, frozen=True, kw_only=True):
    """Read-only."""


class NodeStatus(View, frozen=True):
    """A daemon at a glance."""

    peer_id: str
    version: str
    pid: int
    network: str
    home: str
    addresses: list[str]
    connected: list[str]
    uptime_s: float
    rss_bytes: int
    runs: list["RunSummary"]


class RunSummary(View, frozen=True):
    """A run in one line. `phase` says what this node does in it; `head` is the newest certified header."""

    run: str
    name: str
    phase: RunPhase
    round: int
    head: str
    params: str
    members: int
    connected: int


class MemberView(View, frozen=True):
    """A member as this node sees it."""

    peer: str
    since: int
    missed: int
    connected: bool
    awaited: bool
    """The round waits for it now."""


class RunDetail(View, frozen=True):
    """A run in full."""

    run: str
    name: str
    phase: RunPhase
    trainer: str
    creator: str
    round: int
    view: int
    step: str
    head: str
    head_round: int
    params: str
    pin: str
    """ID@round:hash, to give to someone who joins."""
    committee: list[str]
    """Who votes in the round under way, in the order in which they have their turn to propose."""
    quorum: int
    survives_silent: int
    survives_liars: int
    first_members: int
    """So many the run waits for before it begins."""
    members: list[MemberView]
    waiting_s: float
    """Seconds since the round last moved on this node."""
    waiting_since: float
    """The same as Unix time: since when the run waits for the members that are awaited."""
    rounds: list["RoundCertified"]
    """The newest last."""
    accusations: list[str]
    evidence: int
    plugin_error: str
    """The last failure of this node's trainer with its last lines of stderr; empty when there was none."""


class PeerView(View, frozen=True):
    """A peer that this node is connected to, or has something against."""

    peer: str
    connected: bool
    runs: list[str]
    """Runs of this node in which it is a member."""
    faults: list[str]
    """What it was accused of."""


class ModelPath(View, frozen=True):
    """Where the certified params of a round lie on this node, as a safetensors file: read it, never write to it."""

    run: str
    round: int
    cid: str
    path: str


class Stopped(View, frozen=True):
    """The daemon is on its way out; it is gone when the process `pid` is."""

    pid: int


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
    | PeerChanged
    | Accused
    | RunFinished
    | LogLine
)
