"""Answers about runs."""

from typing import Literal

from primep2p.model.records import Mode, Scalar
from primep2p.model.views.events import RoundCertified
from primep2p.model.views.view import View

__all__ = [
    "EndView",
    "EvidenceView",
    "ExpelledView",
    "InviteUseView",
    "InviteView",
    "MemberView",
    "RiskView",
    "RunDetail",
    "RunLeft",
    "RunPhase",
    "RunSummary",
]


RunPhase = Literal["gathering", "joining", "catching-up", "running", "finished", "expelled", "leaving", "left"]


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
    rests: str
    """Why this node does not train in it now; empty: it does."""
    note: str
    """What its owner may have forgotten, such as the data to train on."""


class RunLeft(RunSummary, frozen=True):
    """A run that this node leaves, or has left: `phase` says which."""

    remaining: int
    """Members without this node; 0 where the run has not begun."""
    least_updates: int
    """A round with fewer ends without a model."""
    waits_for: list[str]
    """Members that are not connected, where too few are for a checkpoint."""
    begins: bool
    """Whether a run that has not begun still can: it needs its creator."""


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


class EndView(View, frozen=True):
    """What ends a run, and how far it is."""

    rounds: int
    """It ends with the checkpoint of this round; 0: no round ends it."""
    metric: str
    """Of the target; empty: there is none."""
    at_least: float | None
    at_most: float | None
    """What most updates of a round must claim of the metric."""
    newest: float | None
    """The mean of what was claimed in the newest checkpoint; null where it has none."""
    until: float
    """Unix time after which it ends; 0: none does."""
    ended: Literal["", "rounds", "time", "metric"]
    """What has ended it; empty: nothing has."""


class RunDetail(View, frozen=True):
    """A run in full."""

    run: str
    name: str
    phase: RunPhase
    pipeline: dict[str, object]
    """As in the file that the run was created from, with all its defaults."""
    trainer: str
    trainer_config: dict[str, Scalar | list[Scalar]]
    """Settings of the trainer, the same for every member."""
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
    mode: Mode
    least_updates: int
    """A round with fewer ends without a model."""
    wanted_updates: int
    """In a buffered run a round ends soon after it has so many."""
    max_staleness: int
    """In a buffered run an update counts up to so many rounds after its own; else 0."""
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
    rests: str
    """Why this node does not train in it now; empty: it does."""
    ends: EndView
    plugin_error: str
    """The last failure of this node's trainer with its last lines of stderr; empty when there was none."""
    cursor: str
    """Of the newest event that is in this answer: events.watch goes on after it."""
    own_loop: bool = False
    """This node trains by jobs: its owner in a loop of their own, and no plugin."""


class InviteView(View, frozen=True):
    """An invite to hand over by a channel that both ends trust: whoever has the token can join by it."""

    run: str
    token: str
    uses: int
    until: int
    """The last round whose checkpoint it lets members in."""
