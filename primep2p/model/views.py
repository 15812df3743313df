"""What a node tells its owner: answers of the control socket, and events.

JSON-friendly: ids are strings, hashes are hex, times are seconds.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

__all__ = [
    "OTHER_KERNELS",
    "Accused",
    "AnyEvent",
    "Evaluated",
    "Event",
    "EvidenceView",
    "ExpelledView",
    "InviteUseView",
    "InviteView",
    "LogLine",
    "MemberView",
    "ModelPath",
    "NodeStatus",
    "PeerChanged",
    "PeerView",
    "PluginFailed",
    "RiskView",
    "RoundCertified",
    "RunDetail",
    "RunFinished",
    "RunPhase",
    "RunSummary",
    "StepChanged",
    "Stopped",
    "TrainingReported",
]

RunPhase = Literal["gathering", "joining", "catching-up", "running", "finished", "expelled"]


OTHER_KERNELS = "what this machine computes has other bytes than the protocol says: it trains, and has no vote"
"""Of a node, in its log and its status."""


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
    same_kernels: bool
    """What this machine computes has the bytes that the protocol says: else it trains, and has no vote."""
    runs: list["RunSummary"]
    backend: str = ""
    """What the certified aggregate is computed with; empty until that is known."""
    threads: int = 0
    """So many share that."""


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
    """Rounds in a row in which it was due and not seen."""
    connected: bool
    awaited: bool
    """The round waits for it now."""
    votes: bool
    """It is in the committee of the round under way."""
    trains: bool
    """It is in the cohort of the round under way."""
    rounds_done: int
    """Rounds in which it was due to train or vote, and seen."""
    rounds_missed: int
    rounds_blamed: int
    """Rounds in which its update was left out because of what it claims."""
    same_kernels: bool
    """What it computes has the bytes that the protocol says, by its own word: else it trains, and has no vote."""


class ExpelledView(View, frozen=True):
    """A peer that is never admitted again."""

    peer: str
    reason: Literal["convicted", "banned", ""]
    """Convicted of signing twice, or banned by the creator; empty where that is too long ago to be known here."""
    round: int
    """In whose checkpoint it was expelled; -1 where that is too long ago."""


class EvidenceView(View, frozen=True):
    """Two signatures of one peer that no honest node gives both."""

    peer: str
    slot: str
    """What it signed twice."""


class InviteUseView(View, frozen=True):
    """An invite by which somebody joined, and which has not expired."""

    invite: str
    until: int
    """The last round whose checkpoint it lets members in."""
    used: int


class RiskView(View, frozen=True):
    """The chance that within `rounds` rounds some draw gives a committee that can fork, or cannot decide, if
    `bad_share` of all members are bad."""

    bad_share: float
    rounds: int
    fork: float
    stall: float


class RunDetail(View, frozen=True):
    """A run in full."""

    run: str
    name: str
    phase: RunPhase
    pipeline: dict[str, object]
    """As in the file that the run was created from, with all its defaults."""
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
    origin: str
    """RUN@round that the first params are from, or the hash of its header where that is not known here; empty where the
    creator's trainer made them."""
    committee: list[str]
    """Who votes in the round under way, in the order in which they have their turn to propose."""
    cohort: int
    """So many train in it."""
    least_updates: int
    """A round with fewer ends without a model."""
    quorum: int
    survives_silent: int
    survives_liars: int
    risks: list[RiskView]
    """Of drawn committees; empty where every member votes."""
    first_members: int
    """So many the run waits for before it begins."""
    admission: str
    inviters: list[str]
    """Who may invite, where admission is "invite"."""
    invites: list[InviteUseView]
    obstacle: str
    """Why members do not admit this node, as far as can be seen from here; else empty."""
    members: list[MemberView]
    waiting_s: float
    """Seconds since the round last moved on this node."""
    waiting_since: float
    """The same as Unix time: since when the run waits for the members that are awaited."""
    rounds: list["RoundCertified"]
    """The newest last."""
    accusations: list[str]
    evidence: list[EvidenceView]
    expelled: list[ExpelledView]
    plugin_error: str
    """The last failure of this node's trainer with its last lines of stderr; empty when there was none."""


class InviteView(View, frozen=True):
    """An invite to hand over by a channel that both ends trust: whoever has the token can join by it."""

    run: str
    token: str
    uses: int
    until: int
    """The last round whose checkpoint it lets members in."""


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
