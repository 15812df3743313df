"""Runs, heads and records with real keys, from fixed seeds: what the tests of the core are made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from types import MappingProxyType

import msgspec

from primep2p.core import admission
from primep2p.core import effects as fx
from primep2p.core.beacons import chain_of, first_beacon
from primep2p.core.chain import Head, follow, header_hash
from primep2p.core.checkpoints import bundle_of, derive, header_of, named_by_k, open_bundle
from primep2p.core.genesis import certified_start
from primep2p.core.roster import first_state, state_hash
from primep2p.core.runs import Run
from primep2p.keys import Identity
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.messages import OverlayMessage, Proposed, Records
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import (
    KERNELS_DIGEST,
    Acceptance,
    Admission,
    Ban,
    Bundle,
    Certificate,
    Checkpoint,
    Collected,
    Evidence,
    Header,
    Invite,
    Join,
    Leave,
    Metric,
    Newcomer,
    Proposal,
    RoundPolicy,
    RunSpec,
    Step,
    TensorSpec,
    Update,
    UpdateRef,
    Vote,
)
from primep2p.model.stopping import Stop
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import digest, encode
from primep2p.wire.envelope import Envelopes, Opened, Peeked

NETWORK = "kit"
KERNELS = KERNELS_DIGEST

Notice = Opened[Join] | Opened[Ban] | Opened[Leave]


def cid(*parts: object) -> Cid:
    """A content id for something that exists in name only."""
    return cid_of(repr(parts).encode())


@cache
def member(index: int) -> Envelopes:
    """Peer number `index` of this world; the same in every test."""
    return Envelopes(NETWORK, _identity(index))


def _identity(index: int) -> Identity:
    return Identity(sha256(f"kit/{index}".encode()).digest())


class Counting(Envelopes):
    """Peer number `index`, and how many signatures it has checked."""

    def __init__(self, index: int) -> None:
        super().__init__(NETWORK, _identity(index))
        self.checked = 0

    def verify(self, peeked: Peeked) -> Opened[msgspec.Struct]:
        """Counted."""
        self.checked += 1
        return super().verify(peeked)


def verified(raw: bytes) -> Opened[msgspec.Struct]:
    """The record in an envelope, whoever signed it."""
    return member(0).verify(member(0).peek(raw))


def run_spec(
    *,
    creator: int = 0,
    policy: RoundPolicy | None = None,
    pipeline: Pipeline | None = None,
    admission: Admission | None = None,
    stop: Stop | None = None,
) -> Opened[RunSpec]:
    """The spec of a run that peer `creator` signed."""
    return member(creator).seal(
        RunSpec(
            creator=member(creator).peer_id,
            name="kit",
            nonce=bytes(16),
            tensors=(TensorSpec("w", "float32", (2,)),),
            trainer="fake",
            trainer_config={},
            params=cid("initial"),
            pipeline=pipeline or Pipeline(),
            policy=policy or RoundPolicy(first_members=1, min_updates=1),
            admission=admission or Admission(),
            stop=stop or Stop(),
        )
    )


def join_of(
    index: int,
    spec: Opened[RunSpec],
    *,
    round: int = 0,
    address: str = "",
    invitation: tuple[bytes, bytes] = admission.UNINVITED,
) -> Opened[Join]:
    """Peer `index` asks to become a member."""
    addresses = (address,) if address else ()
    return admission.join_of(
        member(index), spec, round=round, addresses=addresses, kernels=KERNELS, invitation=invitation
    )


def newcomer(index: int, spec: Opened[RunSpec], *, round: int = 0) -> Newcomer:
    """What a header says of peer `index` that joins without an invite."""
    return admission.Request(join_of(index, spec, round=round)).newcomer


BEARER = 900
"""Whose key is the bearer key of invites here."""


def invite_of(spec: Opened[RunSpec], *, by: int = 0, uses: int = 1, until: int = 20, bearer: int = BEARER) -> bytes:
    """An invite that peer `by` signed."""
    return member(by).seal(Invite(spec.hash, member(bearer).peer_id, uses, until)).raw


def accepted(invite: bytes, spec: Opened[RunSpec], index: int, *, bearer: int = BEARER) -> tuple[bytes, bytes]:
    """The invitation that peer `index` makes of an invite, with the key that `bearer` has."""
    return invite, member(bearer).seal(Acceptance(spec.hash, member(index).peer_id)).raw


def ban_of(spec: Opened[RunSpec], peer: PeerId, *, by: int = 0) -> Opened[Ban]:
    """A ban that peer `by` signed."""
    return member(by).seal(Ban(spec.hash, peer))


def leave_of(spec: Opened[RunSpec], who: Envelopes, *, round: int = 1) -> Opened[Leave]:
    """The wish of `who` to leave."""
    return who.seal(Leave(spec.hash, round))


def first_header(spec: Opened[RunSpec], joins: Mapping[PeerId, Opened[Join]]) -> tuple[Header, bytes]:
    """What checkpoint 0 says where these have joined [G1], and its bundle."""
    newcomers = tuple(admission.Request(joins[peer]).newcomer for peer in sorted(joins))
    bundle = encode(Bundle((), (), tuple(joins[peer].raw for peer in sorted(joins))))
    header = Header(
        run=spec.hash,
        round=0,
        parent=spec.hash,
        bundle=digest("bundle", bundle),
        inclusions=(),
        params=spec.record.params,
        optimiser=None,
        seen=tuple(sorted(joins)),
        joined=newcomers,
        left=(),
        blamed=(),
        state=state_hash(first_state(spec.hash, spec.record.policy, newcomers)),
        reveal=b"",
        beacon=first_beacon(spec.hash),
    )
    return header, bundle


def first_proposed(
    spec: Opened[RunSpec], members: Iterable[int], *, creator: int = 0, joins: dict[PeerId, Opened[Join]] | None = None
) -> tuple[Proposed, Header]:
    """What the creator says when it names `members`."""
    if joins is None:
        joins = {member(i).peer_id: join_of(i, spec) for i in members}
    header, bundle = first_header(spec, joins)
    raw = encode(header)
    proposal = member(creator).seal(Proposal(spec.hash, 0, 0, 0, -1, header_hash(raw)))
    return Proposed(spec.hash, proposal.raw, raw, bundle), header


def records_in(message: OverlayMessage) -> tuple[bytes, ...]:
    """The envelopes that a message is there to carry."""
    match message:
        case Records(items=items):
            return items
        case Proposed(proposal=proposal):
            return (proposal,)
        case _:
            return ()


def certificate(voters: Iterable[Envelopes], header: bytes, *, run: Hash, round: int, view: int = 0) -> Certificate:
    """Precommits of `voters` for the header with these bytes."""
    vote = Vote(run, round, 0, view, "precommit", header_hash(header))
    ordered = sorted(voters, key=lambda envelopes: envelopes.peer_id)
    return Certificate(run, round, header_hash(header), tuple(envelopes.seal(vote).raw for envelopes in ordered))


class Group:
    """A run of `n` members at checkpoint 0, and what any of them may sign in the rounds after it.

    `rank` 0 is the proposer of view 0 of the first round, and so on.
    """

    def __init__(
        self,
        n: int,
        *,
        policy: RoundPolicy | None = None,
        pipeline: Pipeline | None = None,
        admission: Admission | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.spec = run_spec(policy=policy, pipeline=pipeline, admission=admission, stop=stop)
        self.run = self.spec.hash
        self.by_peer = {member(i).peer_id: member(i) for i in range(n)}
        message, _ = first_proposed(self.spec, range(n))
        checkpoint = Checkpoint(
            message.header, certificate(self.by_peer.values(), message.header, run=self.run, round=0)
        )
        self.head: Head = certified_start(self.spec, checkpoint, member(0))

    @property
    def ranks(self) -> list[Envelopes]:
        """The committee, in the order of its turns to propose."""
        return [self.by_peer[peer] for peer in self.head.committee.members]

    @property
    def members(self) -> list[Envelopes]:
        """The roster by peer id."""
        return [self.by_peer[peer] for peer in sorted(peer.peer for peer in self.head.state.members)]

    def update(
        self, who: Envelopes, *, what: object = "", examples: int = 10, metrics: tuple[Metric, ...] = ()
    ) -> Opened[Update]:
        """An update of the round under way."""
        delta = cid("delta", who.peer_id, self.head.round + 1, what)
        return who.seal(Update(self.run, self.head.round + 1, self.head.hash, delta, examples, metrics))

    def listing(
        self,
        who: Envelopes,
        updates: Iterable[Opened[Update]],
        notices: Iterable[Notice] = (),
        *,
        accused: Iterable[PeerId] = (),
        over: bool = False,
    ) -> Opened[Collected]:
        """A list of the round under way, as an honest member writes it."""
        round = self.head.round + 1
        refs = sorted((UpdateRef(update.signer, update.hash) for update in updates), key=lambda ref: ref.trainer)
        hashes = tuple(sorted(notice.hash for notice in notices))
        mine = chain_of(who, self.run, self.spec.record.policy).element(round) or b""
        reveal = mine if who.peer_id == self.head.revealer else b""
        return who.seal(Collected(self.run, round, tuple(refs), hashes, reveal, tuple(sorted(accused)), over))

    def vote(self, who: Envelopes, header: bytes, *, step: Step = "prevote", view: int = 0) -> Opened[Vote]:
        """A vote of the round under way for a header's hash, or nil."""
        return who.seal(Vote(self.run, self.head.round + 1, 0, view, step, header))

    def evidence(self, who: Envelopes) -> Evidence:
        """Two votes of `who` in one slot of the round under way."""
        return Evidence(self.vote(who, b"").raw, self.vote(who, bytes(32)).raw)

    def bundle(
        self,
        lists: Sequence[Opened[Collected]],
        updates: Iterable[Opened[Update]],
        notices: Iterable[Notice] = (),
        votes: Iterable[Opened[Vote]] = (),
        evidence: Mapping[PeerId, Evidence] = MappingProxyType({}),
    ) -> bytes:
        """The bundle that an honest proposer makes of these lists."""
        promised = named_by_k((entry.record for entry in lists), self.head.committee.k)
        return encode(
            bundle_of(
                lists,
                promised,
                {update.hash: update for update in updates},
                {notice.hash: notice.raw for notice in notices},
                votes,
                evidence,
            )
        )

    def header(self, bundle: bytes) -> bytes:
        """The one header that follows from a bundle, with params that stand for the right ones."""
        derivation = derive(open_bundle(bundle, self.head, verified), self.head)
        params = None if derivation.void else self.params(derivation.key)
        optimiser = None if derivation.void else self.optimiser(derivation.key)
        return encode(header_of(self.head, derivation, params, optimiser, ""))

    @staticmethod
    def params(key: Hash) -> Cid:
        """What aggregating the inclusions named by `key` gives here."""
        return cid("params", key)

    def optimiser(self, key: Hash) -> Cid | None:
        """What state of the outer optimiser it leaves, where the run has one."""
        return cid("optimiser", key) if self.spec.record.pipeline.outer is not None else None

    def aggregated(self, round: int, key: Hash) -> fx.Aggregated:
        """Both."""
        return fx.Aggregated(round, key, self.params(key), self.optimiser(key), "")

    def proposed(
        self, who: Envelopes, bundle: bytes, *, header: bytes | None = None, view: int = 0, valid_view: int = -1
    ) -> Proposed:
        """A proposal of the round under way."""
        raw = self.header(bundle) if header is None else header
        proposal = who.seal(Proposal(self.run, self.head.round + 1, 0, view, valid_view, header_hash(raw)))
        return Proposed(self.run, proposal.raw, raw, bundle)

    def full(self) -> tuple[list[Opened[Update]], list[Opened[Collected]], bytes]:
        """A round in which all is well: the cohort's updates, the committee's lists, the bundle."""
        updates = [self.update(who) for who in self.members if who.peer_id in self.head.cohort]
        lists = [self.listing(who, updates) for who in self.members if who.peer_id in self.head.committee]
        return updates, lists, self.bundle(lists, updates)

    def checkpoint(self, header: bytes, voters: Iterable[Envelopes] | None = None, *, view: int = 0) -> Checkpoint:
        """A header with the precommits of `voters`, of the whole committee if not told."""
        everybody = self.ranks if voters is None else voters
        return Checkpoint(header, certificate(everybody, header, run=self.run, round=self.head.round + 1, view=view))

    def go_on(self, bundle: bytes | None = None) -> Head:
        """To the next round, with a full checkpoint."""
        raw = self.header(bundle or self.full()[2])
        self.head = follow(self.head, self.checkpoint(raw), verified)
        return self.head


class Machine:
    """A member's `Run` with a desk for what it wants done: aggregation and blobs answer at once, training on demand."""

    def __init__(self, group: Group, who: Envelopes, *, connected: bool = True) -> None:
        self.group = group
        self.who = who
        self.now = 0.0
        self.run = Run(group.head, who)
        self.done: list[fx.Effect] = []
        self.holds_back: Callable[[fx.Effect], bool] = lambda effect: False
        """Effects that are not answered."""
        if connected:
            self.run.connected.update(group.by_peer.keys() - {who.peer_id})
        self.perform(self.run.begin(self.now))

    def handle(self, event: fx.Event) -> list[fx.Effect]:
        """The effects of an event and of all that follows from it at once."""
        before = len(self.done)
        self.perform(self.run.handle(event, self.now))
        return self.done[before:]

    def perform(self, effects: list[fx.Effect]) -> None:
        """Answer what can be answered."""
        for effect in effects:
            self.done.append(effect)
            if self.holds_back(effect):
                continue
            match effect:
                case fx.HoldParams(params, _):
                    self.handle(fx.ParamsHeld(params))
                case fx.Obtain():
                    self.handle(fx.Obtained(effect.update))
                case fx.HoldOptimiser(optimiser, _):
                    self.handle(fx.OptimiserHeld(optimiser))
                case fx.Aggregate(round=round, key=key):
                    self.handle(self.group.aggregated(round, key))

    def hear(self, sender: Envelopes, *items: Opened[msgspec.Struct]) -> list[fx.Effect]:
        """Records from a peer."""
        return self.handle(fx.Received(sender.peer_id, Records(self.group.run, tuple(item.raw for item in items))))

    def told(self, sender: Envelopes, message: Proposed) -> list[fx.Effect]:
        """A proposal from a peer."""
        return self.handle(fx.Received(sender.peer_id, message))

    def train(self, *, examples: int = 10) -> list[fx.Effect]:
        """This node's trainer is done."""
        round = self.group.head.round + 1
        return self.handle(fx.Trained(round, cid("delta", self.who.peer_id, round, ""), examples, ()))

    def expire(self, kind: str) -> list[fx.Effect]:
        """One of the round's timers runs out."""
        return self.handle(fx.Expired(fx.Moment(self.run.head.round + 1, kind)))

    @property
    def signed(self) -> list[Opened[msgspec.Struct]]:
        """All that this node has journalled as signed."""
        entries = [e.entry for e in self.done if isinstance(e, fx.Journal)]
        return [verified(entry.envelope) for entry in entries if hasattr(entry, "envelope")]

    def votes(self, step: Step, *, view: int = 0) -> list[bytes]:
        """What it voted for."""
        records = [opened.record for opened in self.signed]
        return [r.header for r in records if isinstance(r, Vote) and (r.step, r.view) == (step, view)]

    @property
    def accused(self) -> list[PeerId]:
        """Whom it accused."""
        return [effect.peer for effect in self.done if isinstance(effect, fx.Accuse)]
