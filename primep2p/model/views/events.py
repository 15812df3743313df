"""What happens on a node, as it is told to whoever watches. Ids are strings, hashes are hex, times are seconds."""

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

__all__ = [
    "KINDS",
    "Abstained",
    "Accused",
    "AnyEvent",
    "Evaluated",
    "Event",
    "EventsMissed",
    "JobChanged",
    "Left",
    "ListArrived",
    "LogLine",
    "MemberGathered",
    "MemberJoined",
    "MemberLeft",
    "ModelContradicted",
    "ModelNotPulled",
    "ModelPublished",
    "ModelPulled",
    "ModelPulling",
    "ModelRemoved",
    "Paused",
    "PeerChanged",
    "PluginFailed",
    "Proposed",
    "Rests",
    "Resumed",
    "RoundCertified",
    "RunFinished",
    "StepChanged",
    "TrainerStarted",
    "TrainerStopped",
    "TrainingReported",
    "TransferBegun",
    "TransferDone",
    "TransferFailed",
    "TransferMoved",
    "UpdateArrived",
    "Voted",
]


class Event(Struct, frozen=True, kw_only=True, tag_field="event"):
    """Something happened; `run` is empty for what concerns the node. `at_s` is Unix time.

    A number that a trainer reports may be none at all (NaN): JSON has null for it.
    """

    at_s: float = 0.0
    run: str = ""
    cursor: str = ""
    """Where it is among the node's events: who comes back with it goes on after it."""


class RoundCertified(Event, frozen=True, tag="round-certified"):
    """A round ended with a certificate. `metrics` are those that the header carries: means over the included
    updates. `seconds` is since the one before, on this node."""

    round: int
    header: str
    params: str
    participants: list[str]
    staleness: list[int]
    """Of the update of each participant: how many rounds later than its own it entered, 0 but in buffered runs."""
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
    """The last round of the run is certified; `ended` says what made it the last."""

    round: int
    ended: Literal["", "rounds", "time", "metric"] = ""


class ModelPublished(Event, frozen=True, tag="model-published"):
    """This node's shelf changed: the name offers this version from now on, or none where it is empty."""

    model: str
    version: str
    sequence: int


class ModelPulling(Event, frozen=True, tag="model-pulling"):
    """What a model is, is known: its params are fetched next, as transfers of that CID, or are here already. `asked` is
    what it was called in the call."""

    asked: str
    model: str
    params: str
    bytes: int


class ModelPulled(Event, frozen=True, tag="model-pulled"):
    """A version of somebody's model is here, whole and checked."""

    asked: str
    model: str
    params: str
    bytes: int
    seconds: float


class ModelNotPulled(Event, frozen=True, tag="model-not-pulled"):
    """A model could not be had."""

    asked: str
    reason: str


class ModelRemoved(Event, frozen=True, tag="model-removed"):
    """A version of somebody's model is not kept any more."""

    model: str


class ModelContradicted(Event, frozen=True, tag="model-contradicted"):
    """The owner of a name signed two records with one sequence number: its identity is used in two places. All nodes
    take the same one of the two."""

    model: str
    sequence: int


class Abstained(Event, frozen=True, tag="abstained"):
    """This node has told the committee not to wait for an update of its own in this round."""

    round: int


class Paused(Event, frozen=True, tag="paused"):
    """The owner lets this node rest in the run: it votes, and does not train."""


class Resumed(Event, frozen=True, tag="resumed"):
    """The owner lets this node train again."""


class Rests(Event, frozen=True, tag="rests"):
    """Whether this node trains in the run has changed: `reason` says why not; empty: it trains."""

    reason: str


class Left(Event, frozen=True, tag="left"):
    """This node has left the run; `round` is that of the newest checkpoint that it has, -1 where there is none. Where
    that is not `certified`, no checkpoint says so: it left on its own, and others drop it for its silence."""

    round: int
    certified: bool


class LogLine(Event, frozen=True, tag="log-line"):
    """A message for people."""

    level: str
    sentence: str


class UpdateArrived(Event, frozen=True, tag="update-arrived"):
    """A trainer's signed update is here, this node's own among them; its delta is fetched next where it is not."""

    round: int
    peer: str
    delta: str
    examples: int


class ListArrived(Event, frozen=True, tag="list-arrived"):
    """A member's signed list is here: so many updates it has collected."""

    round: int
    peer: str
    updates: int


class Proposed(Event, frozen=True, tag="proposed"):
    """A proposal is here."""

    round: int
    view: int
    peer: str
    header: str


class Voted(Event, frozen=True, tag="voted"):
    """A vote is here, this node's own among them; an empty `header` is a vote for none."""

    round: int
    view: int
    step: Literal["prevote", "precommit"]
    peer: str
    header: str


class MemberGathered(Event, frozen=True, tag="member-gathered"):
    """Somebody asks to be there when the run begins: `here` do so far, of the `first_members` that it waits for."""

    peer: str
    here: int
    first_members: int


class MemberJoined(Event, frozen=True, tag="member-joined"):
    """A checkpoint made a peer a member."""

    round: int
    peer: str


class MemberLeft(Event, frozen=True, tag="member-left"):
    """A checkpoint ended a membership: it was dropped, convicted or banned."""

    round: int
    peer: str
    reason: str


class TransferBegun(Event, frozen=True, tag="transfer-begun"):
    """A blob is being fetched: so many bytes, of which some may be here from an earlier try."""

    cid: str
    bytes: int
    bytes_here: int
    provider: str


class TransferMoved(Event, frozen=True, tag="transfer-moved"):
    """So much of a blob is here; the newest chunk came from `provider`. At most four a second for each blob."""

    cid: str
    bytes: int
    bytes_here: int
    provider: str


class TransferDone(Event, frozen=True, tag="transfer-done"):
    """A blob is here whole, from these peers, so many seconds after it was asked for."""

    cid: str
    bytes: int
    providers: list[str]
    seconds: float


class TransferFailed(Event, frozen=True, tag="transfer-failed"):
    """A blob could not be had, or nobody wants it any more."""

    cid: str
    bytes: int
    """0 where that is not known."""
    reason: str


class TrainerStarted(Event, frozen=True, tag="trainer-started"):
    """The trainer's process runs, and the trainer is made."""

    pid: int


class TrainerStopped(Event, frozen=True, tag="trainer-stopped"):
    """The trainer's process is gone, by its own doing or the daemon's."""

    pid: int


class EventsMissed(Event, frozen=True, tag="events-missed"):
    """Events of any kind that the reader had not had are not kept any more: so many, or null where its cursor is of
    another start of the daemon, which nobody counted. What follows is all that is kept."""

    count: int | None


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
    | ModelPublished
    | ModelPulling
    | ModelPulled
    | ModelNotPulled
    | ModelRemoved
    | ModelContradicted
    | Abstained
    | Paused
    | Resumed
    | Rests
    | Left
    | LogLine
    | UpdateArrived
    | ListArrived
    | Proposed
    | Voted
    | MemberGathered
    | MemberJoined
    | MemberLeft
    | TransferBegun
    | TransferMoved
    | TransferDone
    | TransferFailed
    | TrainerStarted
    | TrainerStopped
    | EventsMissed
)

KINDS: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)}
"""The tag of each kind of event."""
