"""What members send each other and what they sign.

Each record is an array in msgpack. A later version appends fields at the end: an older node ignores them, its
signature check covers them. The numbers in brackets are rules of docs/protocol.md.
"""

from typing import Annotated, Literal

from msgspec import Meta

from primep2p.model.ids import Cid, Hash, PeerId, RunId, Signature
from primep2p.model.pipeline import Pipeline
from primep2p.model.record import Record
from primep2p.model.stopping import Stop

__all__ = [
    "FULL_COMMITTEE",
    "KERNELS_DIGEST",
    "KERNELS_VERSION",
    "MAX_CHUNKS",
    "MAX_COHORT",
    "MAX_COMMITTEE",
    "MAX_EXPELLED",
    "MAX_FIRST_MEMBERS",
    "MAX_MEMBERS",
    "MAX_REFS",
    "MAX_STALENESS",
    "PROTOCOL_VERSION",
    "Acceptance",
    "Admission",
    "Ban",
    "Bundle",
    "Certificate",
    "Checkpoint",
    "Collected",
    "Departure",
    "End",
    "Envelope",
    "Evidence",
    "Header",
    "Inclusion",
    "Invite",
    "InviteUse",
    "Join",
    "Leave",
    "Manifest",
    "Member",
    "Metric",
    "Mode",
    "Newcomer",
    "Parted",
    "Proposal",
    "RoundPolicy",
    "RoundRecord",
    "RunSpec",
    "RunState",
    "Scalar",
    "Step",
    "TensorSpec",
    "Update",
    "UpdateRef",
    "Vote",
]

PROTOCOL_VERSION = 4
KERNELS_VERSION = 2

KERNELS_DIGEST = bytes.fromhex("d70c7ddf9337dc30ec59ff1ed913e640c95d738897bdf908a93b41d68abb0785")
"""What kernels of this version make of fixed vectors: who gets something else would not compute the group's
checkpoints, and has no vote [S4]."""

FULL_COMMITTEE = 16
"""The whole roster votes up to here; of a larger one a committee is drawn [S3]. A round costs n(n-1) messages of each
kind: 16 is where that is still cheap for a laptop."""

MAX_COMMITTEE = 64
"""Votes in a certificate: 64 of them take 20 kB, and a few milliseconds to check."""

MAX_COHORT = 1024
"""Updates in a bundle: their records take 0.5 MB."""

MAX_REFS = 7_500
"""Committee times cohort: what all lists name has room in a bundle of 4 MiB, whatever else it has to carry [E6]."""

MAX_STALENESS = 64
"""What members keep of updates from earlier bases is bounded."""

MAX_MEMBERS = 4096
"""The state names them all, in about 1 MB."""

MAX_FIRST_MEMBERS = 64
"""Checkpoint 0 needs everybody that it names at the same time."""

MAX_EXPELLED = 4096
"""Peers that the state remembers never to admit again."""

MAX_CHUNKS = 65_536
"""64 GiB in chunks of 1 MiB: the largest blob."""

Round = Annotated[int, Meta(ge=0, le=2**53)]
View = Annotated[int, Meta(ge=0, le=2**31)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Examples = Annotated[int, Meta(ge=1, le=2**40)]
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
Scalar = bool | int | float | str
Decimal = Annotated[
    str,
    Meta(pattern=r"^(0\.[0-9]{1,6}|1(\.0{1,6})?)\Z", extra={"decimal": "a decimal up to 1, such as 0.66"}),
]
"""Computed in exact fractions."""


class Envelope(Record, frozen=True):
    """A signed record: the signature covers domain, network, kind, signer and the payload's exact bytes [E1]."""

    kind: Annotated[str, Meta(max_length=32)]
    signer: PeerId
    payload: bytes
    signature: Signature


class Manifest(Record, frozen=True):
    """The chunk hashes of a blob; the blob's CID is the hash of this record's bytes [B1]."""

    size_bytes: Annotated[int, Meta(ge=0)]
    chunk_bytes: Annotated[int, Meta(ge=1024, le=16 * 2**20)]
    chunks: Annotated[tuple[Hash, ...], Meta(max_length=MAX_CHUNKS)]


# ---- a run and its members


class TensorSpec(Record, frozen=True):
    """One tensor of the model: its name, numpy's name of its dtype, its shape."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    dtype: Literal["float32"]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**40)], ...], Meta(max_length=8)]


Mode = Literal["sync", "buffered"]
"""Whether a round waits for updates from its own head, or takes what is ready, from earlier heads too."""


class RoundPolicy(Record, frozen=True):
    """When steps end. All times are in seconds; a vote step's time-out grows linearly with the view, to its cap."""

    rounds: Round = 0
    """The run is finished when this round is certified; 0: it goes on."""
    first_members: Annotated[int, Meta(ge=1, le=MAX_FIRST_MEMBERS)] = 4
    """Checkpoint 0 is proposed when so many have joined."""
    min_members: Annotated[int, Meta(ge=0, le=MAX_MEMBERS)] = 0
    """Dropping for silence never goes below this; 0: 4 if the first roster has 4 or more, else its size."""
    min_updates: Annotated[int, Meta(ge=1, le=MAX_COHORT)] = 2
    """A round with fewer ends without a model; so it does with fewer than the pipeline needs."""
    drop_after: Annotated[int, Meta(ge=1, le=1000)] = 3
    consensus_threshold: Decimal = "0.66"
    """Within [0.5, 1]."""
    collect_s: Seconds = 600.0
    """From the round's start until collecting ends, whoever has delivered."""
    grace_s: Seconds = 0.2
    """The least wait for stragglers once there is enough; the most is half the time so far."""
    propose_s: Seconds = 4.0
    vote_s: Seconds = 1.0
    step_cap_s: Seconds = 30.0
    committee_size: Annotated[int, Meta(ge=FULL_COMMITTEE, le=MAX_COMMITTEE)] = 31
    """Members drawn to vote from a roster of more than FULL_COMMITTEE."""
    sample_fraction: Decimal = "1"
    """The part of the roster that trains in a round, drawn anew each time; above 0."""
    max_cohort: Annotated[int, Meta(ge=1, le=MAX_COHORT)] = 64
    """No more train in a round, however large the roster: what a member of the committee fetches is bounded."""
    mode: Mode = "sync"
    updates_per_version: Annotated[int, Meta(ge=0, le=MAX_COHORT)] = 0
    """Buffered: collecting ends with so many updates; 0: with as many as a checkpoint needs."""
    max_staleness: Annotated[int, Meta(ge=0, le=MAX_STALENESS)] = 8
    """Buffered: an update counts up to so many rounds after the one that it was trained for."""

    @property
    def is_buffered(self) -> bool:
        """Whether updates from earlier heads count (FedBuff, Nguyen et al., arXiv:2106.06639)."""
        return self.mode == "buffered"

    @property
    def late_rounds(self) -> int:
        """An update counts up to so many rounds after its own [C4]."""
        return self.max_staleness if self.is_buffered else 0

    @property
    def least_members(self) -> int:
        """Buffered: a checkpoint has updates of so many members or more, two thirds of the least roster: the quickest
        few do not learn alone [R2]."""
        roster = self.min_members or min(self.first_members, 4)
        return -(-2 * roster // 3) if self.is_buffered else 1


class Admission(Record, frozen=True):
    """Who may join."""

    mode: Literal["open", "allowlist", "invite"] = "open"
    peers: Annotated[tuple[PeerId, ...], Meta(max_length=4096)] = ()
    """Whom an allowlist names."""
    inviters: Annotated[tuple[PeerId, ...], Meta(max_length=64)] = ()
    """Who may sign invites beside the creator."""


class RunSpec(Record, frozen=True):
    """All that a run is before its first checkpoint. Signed by its creator; its hash is the run's id."""

    creator: PeerId
    name: Name
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]
    """Two runs with the same settings are two runs."""
    tensors: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=100_000)]
    trainer: Name
    trainer_config: dict[str, Scalar | list[Scalar]]
    params: Cid
    pipeline: Pipeline
    policy: RoundPolicy
    admission: Admission
    protocol: int = PROTOCOL_VERSION
    kernels: int = KERNELS_VERSION
    origin: Annotated[bytes, Meta(max_length=32)] = b""
    """The hash of the header, of another run, whose params these are; empty where the creator's trainer made them."""
    stop: Stop = Stop()

    @property
    def least_updates(self) -> int:
        """With fewer a round ends without a model [R2]."""
        return max(self.policy.min_updates, self.pipeline.least_updates, self.policy.least_members)

    @property
    def wanted_updates(self) -> int:
        """With so many, collecting soon ends [C2]."""
        return max(self.policy.updates_per_version if self.policy.is_buffered else 0, self.least_updates)


class Join(Record, frozen=True):
    """A peer asks to be a member. Valid for a few rounds from `round`, so that it cannot be replayed for ever [M2]."""

    run: RunId
    round: Round
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=16)]
    kernels: Hash
    """The digest of this node's self-check: what its kernels make of fixed vectors [S4]."""
    anchor: Hash
    """The element for `round` of the hash chain whose later elements this peer will reveal [S2]."""
    invite: Annotated[bytes, Meta(max_length=1024)] = b""
    """An Invite's envelope, where admission asks for one; else empty."""
    acceptance: Annotated[bytes, Meta(max_length=1024)] = b""
    """The Acceptance's envelope that goes with it."""


class Invite(Record, frozen=True):
    """Whoever has the key of `bearer` may join, or so many who have it, in checkpoints up to that of round `until`.
    Signed by the run's creator, or an inviter that its spec names [M6]."""

    run: RunId
    bearer: PeerId
    uses: Annotated[int, Meta(ge=1, le=MAX_MEMBERS)]
    until: Round


class Acceptance(Record, frozen=True):
    """`peer` uses the invite: signed by its bearer key, so that nobody can use an invite that it overhears [M6]."""

    run: RunId
    peer: PeerId


class Ban(Record, frozen=True):
    """`peer` shall leave and not come back. Signed by the run's creator [M7]."""

    run: RunId
    peer: PeerId


class Leave(Record, frozen=True):
    """Its signer is to be no member any more, if it has been one since `round` or longer: once it is one again, an old
    word of its own does not take it out [M8]."""

    run: RunId
    round: Round


class Member(Record, frozen=True):
    """A peer in the roster."""

    peer: PeerId
    since: Round
    missed: int
    """Rounds in a row in which it was due and not seen."""
    kernels: Hash
    anchor: Hash
    """The last element of its hash chain that is known, and the round that it is for."""
    anchored: Round
    heard: Round = 0
    """The last round in which it was seen."""
    rounds_done: int = 0
    """Rounds in which it was due to train or vote, and seen."""
    rounds_missed: int = 0
    rounds_blamed: int = 0
    """Rounds in which its update was left out because of what it claims [P4]."""
    used: Round = 0
    """Buffered: of its updates those for this round and earlier ones count no more [C4]."""


class InviteUse(Record, frozen=True):
    """How many joined by an invite that is still good."""

    invite: Hash
    until: Round
    used: int


class Parted(Record, frozen=True):
    """A peer that left in the checkpoint of `round`: its Joins from before let it in no more [M8]."""

    peer: PeerId
    round: Round


class RunState(Record, frozen=True):
    """What the chain so far decides about its members; each header names the hash of this record's bytes [M1]."""

    run: RunId
    round: Round
    members: Annotated[tuple[Member, ...], Meta(max_length=MAX_MEMBERS)]
    """Sorted by peer id."""
    min_members: int
    expelled: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_EXPELLED)] = ()
    """Convicted or banned, sorted: never admitted again."""
    invites: Annotated[tuple[InviteUse, ...], Meta(max_length=MAX_MEMBERS)] = ()
    """Sorted by hash."""
    parted: Annotated[tuple[Parted, ...], Meta(max_length=MAX_MEMBERS)] = ()
    """Who left so lately that an old Join of theirs could still count, sorted by peer."""
    bases: Annotated[tuple[Hash, ...], Meta(max_length=MAX_STALENESS)] = ()
    """Buffered: of the headers before the one that names this state, the newest first [C4]."""


# ---- a round


class Metric(Record, frozen=True):
    """A number that a trainer reports."""

    name: Name
    value: float


class Update(Record, frozen=True):
    """A trainer's delta for one round, as a blob."""

    run: RunId
    round: Round
    """The one after `base`, whichever round it enters."""
    base: Hash
    """The header that the delta starts from."""
    delta: Cid
    examples: Examples
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=32)] = ()


class UpdateRef(Record, frozen=True):
    """An update by its trainer and hash."""

    trainer: PeerId
    update: Hash


class Collected(Record, frozen=True):
    """A committee member's list: the updates whose bytes it holds and has checked, the notices it knows [C1]."""

    run: RunId
    round: Round
    updates: Annotated[tuple[UpdateRef, ...], Meta(max_length=MAX_COHORT)]
    """Sorted by trainer."""
    notices: Annotated[tuple[Hash, ...], Meta(max_length=256)] = ()
    """Hashes of joins, bans and leaves, sorted."""
    reveal: Annotated[bytes, Meta(max_length=32)] = b""
    """Of the committee's first member the element of its hash chain for this round; else empty [S2]."""
    accused: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_COMMITTEE)] = ()
    """Members against whom it holds evidence, sorted [V6]."""
    over: bool = False
    """By its clock the run's time is over [F2]."""


class Bundle(Record, frozen=True):
    """What a header follows from: a quorum of lists and the records that they name, as envelopes [P1]."""

    lists: Annotated[tuple[bytes, ...], Meta(max_length=MAX_COMMITTEE)]
    updates: Annotated[tuple[bytes, ...], Meta(max_length=MAX_COHORT)]
    notices: Annotated[tuple[bytes, ...], Meta(max_length=256)] = ()
    votes: Annotated[tuple[bytes, ...], Meta(max_length=MAX_COMMITTEE)] = ()
    """Precommits of the round before: their signers were there."""
    evidence: Annotated[tuple[bytes, ...], Meta(max_length=MAX_COMMITTEE)] = ()
    """Evidence records, by culprit."""


class Inclusion(Record, frozen=True):
    """An update that enters the checkpoint, and its weight [P4]."""

    trainer: PeerId
    update: Hash
    delta: Cid
    weight: Annotated[int, Meta(ge=1, le=2**60)]
    staleness: Annotated[int, Meta(ge=0, le=MAX_STALENESS)] = 0
    """So many rounds before this one is that which it was trained for."""


class Newcomer(Record, frozen=True):
    """A peer that becomes a member; what it is admitted with is from its Join."""

    peer: PeerId
    kernels: Hash
    anchor: Hash
    anchored: Round
    invite: Annotated[bytes, Meta(max_length=32)] = b""
    """The hash of the invite that it used, else empty."""
    until: Round = 0
    """The last round of that invite."""


class Departure(Record, frozen=True):
    """A peer that is no member any more, or that is banned before it was one."""

    peer: PeerId
    reason: Literal["dropped", "convicted", "banned", "left"]


End = Literal["", "rounds", "time", "metric"]
"""What ends a run with a checkpoint, if anything does [F1, F2]."""


class Header(Record, frozen=True):
    """A candidate for the next checkpoint. No view, no proposer, no clock: it follows from the bundle [P2]."""

    run: RunId
    round: Round
    parent: Hash
    bundle: Hash
    inclusions: Annotated[tuple[Inclusion, ...], Meta(max_length=MAX_COHORT)]
    """Sorted by trainer."""
    params: Cid
    optimiser: Cid | None
    """The state of the outer optimiser; none for plain averaging."""
    seen: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_MEMBERS)]
    joined: Annotated[tuple[Newcomer, ...], Meta(max_length=MAX_MEMBERS)]
    """Sorted by peer, as all that follows."""
    left: Annotated[tuple[Departure, ...], Meta(max_length=MAX_MEMBERS)]
    blamed: Annotated[tuple[PeerId, ...], Meta(max_length=MAX_COHORT)]
    state: Hash
    reveal: Annotated[bytes, Meta(max_length=32)]
    """What the list of the committee's first member reveals; empty where it is not in the bundle, or reveals none."""
    beacon: Hash
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=32)] = ()
    void: Annotated[str, Meta(max_length=200)] = ""
    """Why this round ends without a model; empty for a full checkpoint."""
    ended: End = ""
    """Where this is the run's last checkpoint: why."""


class Proposal(Record, frozen=True):
    """A header put forward in a view; `valid_view` is -1, or the view whose quorum of prevotes vouches for it."""

    run: RunId
    round: Round
    phase: Annotated[int, Meta(ge=0, le=2)]
    view: View
    valid_view: Annotated[int, Meta(ge=-1, le=2**31)]
    header: Hash


Step = Literal["prevote", "precommit"]


class Vote(Record, frozen=True):
    """An endorsement of a header, or of nil (empty)."""

    run: RunId
    round: Round
    phase: Annotated[int, Meta(ge=0, le=2)]
    view: View
    step: Step
    header: Annotated[bytes, Meta(max_length=32)]


RoundRecord = Update | Collected | Proposal | Vote
"""What members sign in the course of a round."""


class Certificate(Record, frozen=True):
    """A quorum of precommits for one header in one view, as envelopes. Nothing derives from its bytes [V5]."""

    run: RunId
    round: Round
    header: Hash
    votes: Annotated[tuple[bytes, ...], Meta(max_length=MAX_MEMBERS)]


class Checkpoint(Record, frozen=True):
    """A header's bytes with the certificate that makes it count."""

    header: bytes
    certificate: Certificate


class Evidence(Record, frozen=True):
    """Two envelopes by one signer that no honest node signs both of [V6]."""

    first: bytes
    second: bytes
