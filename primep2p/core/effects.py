"""What goes into the machines of a run, and what they want done. Both unions are closed."""

from dataclasses import dataclass

import msgspec

from primep2p.core.chain import Head
from primep2p.core.consensus import Timeout
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.journal import JournalEntry
from primep2p.model.messages import OverlayMessage
from primep2p.model.records import Checkpoint, Evidence, Metric
from primep2p.wire.envelope import Opened

__all__ = [
    "Accuse",
    "Aggregate",
    "Aggregated",
    "Arrived",
    "AskAgain",
    "AskRecords",
    "Broadcast",
    "CatchUp",
    "Commit",
    "Connected",
    "Effect",
    "Event",
    "Expired",
    "Finished",
    "HoldOptimiser",
    "HoldParams",
    "Journal",
    "Lost",
    "Moment",
    "Obtain",
    "Obtained",
    "OptimiserHeld",
    "ParamsHeld",
    "Publish",
    "Received",
    "RecordsHeard",
    "RecordsUnheard",
    "Refused",
    "Send",
    "StartTimer",
    "StepEnd",
    "Stepped",
    "Synced",
    "TimeUp",
    "Timer",
    "Train",
    "Trained",
    "TrainingFailed",
    "Unobtained",
]

# ---- events: what happened


@dataclass(frozen=True, slots=True)
class Received:
    """A connected peer sent a message over the overlay; or one that anybody `published`, which everybody hears."""

    sender: PeerId
    message: OverlayMessage
    published: bool = False


@dataclass(frozen=True, slots=True)
class Connected:
    """A peer can be reached."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer can no longer be reached."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Trained:
    """This node's trainer made a delta, which is stored durably."""

    round: int
    delta: Cid
    examples: int
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """This node's trainer made nothing of the round."""

    round: int


@dataclass(frozen=True, slots=True)
class Obtained:
    """The bytes of an update are here, and right."""

    update: Hash


@dataclass(frozen=True, slots=True)
class Refused:
    """The bytes of an update are not what the run's schema allows: its trainer's fault."""

    update: Hash
    reason: str


@dataclass(frozen=True, slots=True)
class Unobtained:
    """Nobody who was asked gave the bytes of an update."""

    update: Hash


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The inclusions named by `key` gave `params` and perhaps a state of the outer optimiser, both stored durably, or
    neither for a reason all peers come to."""

    round: int
    key: Hash
    params: Cid | None
    optimiser: Cid | None
    reason: str


@dataclass(frozen=True, slots=True)
class ParamsHeld:
    """The params of the head are here."""

    cid: Cid


@dataclass(frozen=True, slots=True)
class OptimiserHeld:
    """The optimiser's state that the head names is here."""

    cid: Cid


@dataclass(frozen=True, slots=True)
class Synced:
    """Checkpoints that a peer answered with, in a row."""

    sender: PeerId
    checkpoints: tuple[Checkpoint, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A timer other than a vote step's: the end of collecting (`collect`), of waiting for stragglers (`grace`), of
    waiting for lists (`lists`); time to compare notes with another member (`repair`)."""

    round: int
    kind: str


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The timer of a vote step."""

    round: int
    timeout: Timeout


@dataclass(frozen=True, slots=True)
class AskAgain:
    """A member did not say what it holds of this node's own records: time for the question again."""

    member: PeerId


Timer = Moment | StepEnd | AskAgain


@dataclass(frozen=True, slots=True)
class Expired:
    """A timer ran out."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class TimeUp:
    """By this node's clock the run's time is over."""


@dataclass(frozen=True, slots=True)
class RecordsHeard:
    """A member answered which records of this node's own it holds, of the round that it is in."""

    member: PeerId
    items: tuple[bytes, ...]
    round: int = 0


@dataclass(frozen=True, slots=True)
class RecordsUnheard:
    """A member did not answer that."""

    member: PeerId


Event = (
    Received
    | Connected
    | Lost
    | Trained
    | TrainingFailed
    | Obtained
    | Refused
    | Unobtained
    | Aggregated
    | ParamsHeld
    | OptimiserHeld
    | Synced
    | Expired
    | TimeUp
    | RecordsHeard
    | RecordsUnheard
)

# ---- effects: what to do, in order


@dataclass(frozen=True, slots=True)
class Journal:
    """Make the entry durable before doing what follows."""

    round: int
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Broadcast:
    """To everybody who votes and is connected; before checkpoint 0, to all who have joined."""

    message: OverlayMessage


@dataclass(frozen=True, slots=True)
class Publish:
    """By gossip, to the whole run and to those who want to be in it."""

    message: OverlayMessage


@dataclass(frozen=True, slots=True)
class Send:
    """To one peer, if it is connected."""

    peer: PeerId
    message: OverlayMessage


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Answer with Expired(timer) after so long. Timers of earlier rounds need not be stopped."""

    timer: Timer
    after_s: float


@dataclass(frozen=True, slots=True)
class Obtain:
    """Fetch the delta of an update and check it: Obtained, Refused or Unobtained."""

    round: int
    update: Hash
    delta: Cid
    providers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Train:
    """Train from these params: Trained or TrainingFailed. Ends any training for an earlier round."""

    round: int
    params: Cid


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the run's pipeline makes of the base, the optimiser's state and deltas in this order: Aggregated."""

    round: int
    key: Hash
    base: Cid
    optimiser: Cid | None
    """None before the first step, and where the pipeline has no state."""
    deltas: tuple[Cid, ...]
    weights: tuple[int, ...]
    seed: Hash
    """What stages that draw draw from."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Store the certified checkpoint, durably; the round is over. `view` is the one that certified it, -1 where this
    node was shown the certificate."""

    head: Head
    view: int


@dataclass(frozen=True, slots=True)
class HoldParams:
    """Have these params here, from whoever provides them: ParamsHeld."""

    cid: Cid
    providers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class HoldOptimiser:
    """Have this state of the optimiser here, from whoever provides it: OptimiserHeld."""

    cid: Cid
    providers: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class CatchUp:
    """`peer` is ahead: ask it for the chain from `first` on: Synced."""

    peer: PeerId
    first: int


@dataclass(frozen=True, slots=True)
class AskRecords:
    """Ask a member for this node's own records: RecordsHeard or RecordsUnheard."""

    member: PeerId


@dataclass(frozen=True, slots=True)
class Accuse:
    """`peer` broke a rule: count it; with evidence, keep that."""

    peer: PeerId
    reason: str
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """Tell the owner where the round is."""

    round: int
    view: int
    step: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """Tell the owner of a record that counts in the round, a member's or this node's own."""

    opened: Opened[msgspec.Struct]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last round of the run is certified."""

    round: int


Effect = (
    Journal
    | Broadcast
    | Publish
    | Send
    | StartTimer
    | Obtain
    | Train
    | Aggregate
    | Commit
    | HoldParams
    | HoldOptimiser
    | CatchUp
    | AskRecords
    | Accuse
    | Stepped
    | Arrived
    | Finished
)
