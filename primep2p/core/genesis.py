"""How a run begins: the creator gathers joins and proposes checkpoint 0, every member that it names precommits it.

A member signs one checkpoint 0 a run, ever; so there are no views here, and nothing to lock. Everything is sent again
until the certificate is there.
"""

from primep2p.core import effects as fx
from primep2p.core.admission import Request, admits, check_newcomers, newcomers_of, request_of
from primep2p.core.beacons import first_beacon
from primep2p.core.chain import Head, header_hash
from primep2p.core.roster import first_state, state_hash
from primep2p.core.votes import MAX_VOTE_BYTES, Committee, open_certificate
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.journal import JournalEntry, Signed
from primep2p.model.messages import Certified, OverlayMessage, Proposed, Records
from primep2p.model.records import (
    MAX_FIRST_MEMBERS,
    Bundle,
    Certificate,
    Checkpoint,
    Header,
    Join,
    Leave,
    Newcomer,
    Proposal,
    RunSpec,
    RunState,
    Vote,
)
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Gathering", "certified_start"]

RESEND_S = 1.0
"""A few small messages between a few members, until the run begins."""


def certified_start(spec: Opened[RunSpec], checkpoint: Checkpoint, envelopes: Envelopes) -> Head:
    """The head that checkpoint 0 makes. Raises PeerError unless all that it names have signed it [G1]."""
    header, hash_ = decode(Header, checkpoint.header), header_hash(checkpoint.header)
    state = _state_of(spec, header)
    members = Committee(tuple(member.peer for member in state.members), q=len(state.members))
    open_certificate(checkpoint.certificate, members, envelopes.open_any, run=spec.hash, round=0, header=hash_)
    return Head(spec.hash, spec.record, header, hash_, state, checkpoint)


def _first_header(spec: Opened[RunSpec], bundle: Hash, newcomers: tuple[Newcomer, ...]) -> tuple[Header, RunState]:
    """What checkpoint 0 says and stands for, once it is known who begins [G1]."""
    state = first_state(spec.hash, spec.record.policy, newcomers)
    header = Header(
        run=spec.hash,
        round=0,
        parent=spec.hash,
        bundle=bundle,
        inclusions=(),
        params=spec.record.params,
        optimiser=None,
        seen=tuple(newcomer.peer for newcomer in newcomers),
        joined=newcomers,
        left=(),
        blamed=(),
        state=state_hash(state),
        reveal=b"",
        beacon=first_beacon(spec.hash),
    )
    return header, state


def _state_of(spec: Opened[RunSpec], header: Header) -> RunState:
    """The state that a header of checkpoint 0 stands for. Raises PeerError where it says anything else [G1]."""
    check_newcomers(spec.record, None, header.joined, round=0)
    expected, state = _first_header(spec, header.bundle, header.joined)
    if header != expected:
        raise PeerError("a checkpoint 0 that does not follow from the run's spec")
    if len(header.joined) < spec.record.policy.first_members:
        raise PeerError("a checkpoint 0 with fewer members than the run asks for")
    if len(header.joined) > MAX_FIRST_MEMBERS:
        raise PeerError(f"a checkpoint 0 with more than {MAX_FIRST_MEMBERS} members")
    if spec.record.creator not in header.seen:  # or any crowd could begin somebody else's run, without asking
        raise PeerError("a checkpoint 0 that the run's creator has no part in")
    return state


class Gathering:
    """The machine of a run that has no certified checkpoint yet. Ends when `head` is set."""

    def __init__(self, spec: Opened[RunSpec], join: Opened[Join], envelopes: Envelopes) -> None:
        self.head: Head | None = None
        self.requests: dict[PeerId, Request] = {}
        self._spec = spec
        self._join = join
        self._envelopes = envelopes
        self._me = envelopes.peer_id
        self._proposed: Proposed | None = None
        self._header: bytes = b""
        self._members: tuple[PeerId, ...] = ()
        self._votes: dict[PeerId, Opened[Vote]] = {}
        self._have_params = False
        self._leave: Opened[Leave] | None = None
        """This node takes its Join back."""
        self._asked: set[PeerId] = set()
        """For the chain, since the last repair."""
        self._out: list[fx.Effect] = []

    def begin(self, entries: list[JournalEntry]) -> list[fx.Effect]:
        """Start, or go on from the journal of round 0. Raises PeerError where that is damaged: this node may have
        signed a checkpoint 0 that it does not know any more, and signs one only, ever [J3]."""
        for entry in entries:
            self._restore(entry)
        self._on_join(self._join)
        self._out.append(fx.HoldParams(self._spec.record.params, (self._spec.record.creator,)))
        self._out.append(fx.StartTimer(fx.Moment(0, "repair"), RESEND_S))
        return self._drain()

    def handle(self, event: fx.Event) -> list[fx.Effect]:
        """What `event` calls for, in order."""
        try:
            match event:
                case fx.Received(_, Records(run=run, items=items)) if run == self._spec.hash:
                    for raw in items:
                        self._on_record(raw)
                case fx.Received(_, Proposed(run=run) as message) if run == self._spec.hash:
                    self._on_proposed(message)
                case fx.Received(sender, Certified(run=run, checkpoint=checkpoint)) if run == self._spec.hash:
                    self._on_certified(sender, checkpoint)
                case fx.Synced(_, (first, *_)):
                    self._end(certified_start(self._spec, first, self._envelopes))
                case fx.ParamsHeld():
                    self._have_params = True
                    self._advance()
                case fx.Expired(fx.Moment(0, "repair")):
                    self._out.append(fx.StartTimer(fx.Moment(0, "repair"), RESEND_S))
                    self._asked.clear()
                    self._advance()  # this node's own Join may be back
                    self._resend()
                case fx.Connected(peer) if peer in self.audience:
                    self._out += [fx.Send(peer, message) for message in self._standing()]
                case _:
                    pass
        except PeerError as error:
            if isinstance(event, fx.Received | fx.Synced):
                self._out.append(fx.Accuse(event.sender, error.sentence))
        return self._drain()

    def renew(self, join: Opened[Join]) -> None:
        """This node's own Join, anew: it brings another invite, or the node has changed its mind. The next repair sends
        it. Raises PeerError."""
        self._join, self._leave = join, None
        self.requests[self._me] = request_of(self._spec.hash, self._spec.record, join, self._envelopes.open_any)

    def withdraw(self, leave: Opened[Leave]) -> None:
        """This node takes its Join back, unless a checkpoint 0 names it already: that needs it, and it leaves after
        that. The next repair says so [M8]."""
        self._leave = leave
        self._on_leave(leave)

    @property
    def is_withdrawn(self) -> bool:
        """Whether the run can begin without this node: it wants to leave, and nobody is known to count on it."""
        return self._leave is not None and self._me not in self._members

    @property
    def audience(self) -> frozenset[PeerId]:
        """Who should hear of it: the creator, and all who have joined."""
        return frozenset((self._spec.record.creator, *self.requests, *self._members))

    @property
    def addresses(self) -> dict[PeerId, tuple[str, ...]]:
        """Where those who joined say that they are."""
        return {peer: request.join.record.addresses for peer, request in self.requests.items()}

    # ---- what arrives

    def _on_record(self, raw: bytes) -> None:
        opened = self._envelopes.open_any(raw)
        if isinstance(opened.record, Join):
            self._on_join(opened.of(Join))
        elif isinstance(opened.record, Leave):
            self._on_leave(opened.of(Leave))
        elif isinstance(opened.record, Vote):
            self._on_vote(opened.of(Vote))

    def _on_leave(self, leave: Opened[Leave]) -> None:
        """Somebody takes its Join back. A checkpoint 0 that is proposed stays as it is: it needs all that it names."""
        if leave.record.run == self._spec.hash and leave.signer not in self._members:
            self.requests.pop(leave.signer, None)

    def _on_join(self, join: Opened[Join]) -> None:
        known = self.requests.get(join.signer)
        if known is None and len(self.requests) >= MAX_FIRST_MEMBERS:
            return
        if known is not None and (known.join.hash == join.hash or self._has_place(join.signer)):
            return  # but whose invite somebody else has used up may come with another one
        request = request_of(self._spec.hash, self._spec.record, join, self._envelopes.open_any)
        if admits(self._spec.record, None, request, round=0):
            self.requests[join.signer] = request
            self._advance()

    def _on_proposed(self, message: Proposed) -> None:
        """The creator's word for who begins. Checked in full before this node signs [G2]."""
        proposal = self._envelopes.open(Proposal, message.proposal)
        header, bundle = decode(Header, message.header), decode(Bundle, message.bundle)
        if proposal.signer != self._spec.record.creator or proposal.record.round != 0:
            raise PeerError("a checkpoint 0 that the run's creator did not propose")
        if header_hash(message.header) != proposal.record.header or digest("bundle", message.bundle) != header.bundle:
            raise PeerError("a checkpoint 0 with another header or bundle than it names")
        if self._proposed is not None:
            return  # the first is the one; this node's vote goes out again in any case
        if bundle.lists or bundle.updates or bundle.votes or bundle.evidence:
            raise PeerError("a checkpoint 0 whose bundle holds more than joins")
        _state_of(self._spec, header)
        if self._newcomers([self._request(raw) for raw in bundle.notices]) != header.joined:
            raise PeerError("a checkpoint 0 whose members have not all joined, or that the run does not admit")
        if self._me not in header.seen:
            return  # it goes on without this node, which can join later
        self._take(message, header)

    def _take(self, message: Proposed, header: Header) -> None:
        self._proposed, self._header = message, message.header
        self._members = header.seen
        self._votes = {peer: vote for peer, vote in self._votes.items() if peer in self._members}
        self._advance()

    def _on_vote(self, vote: Opened[Vote]) -> None:
        if len(vote.raw) > MAX_VOTE_BYTES:  # no certificate could hold it, and whoever relays may have made it so
            raise PeerError("a vote of more bytes than a vote may have")
        record = vote.record
        if (record.run, record.round, record.phase, record.view, record.step) != (
            self._spec.hash,
            0,
            0,
            0,
            "precommit",
        ):
            raise PeerError("a vote that has no place before checkpoint 0")
        if vote.signer in self.audience and vote.signer not in self._votes:
            self._votes[vote.signer] = vote
            self._out.append(fx.Arrived(vote))
        self._advance()

    def _on_certified(self, sender: PeerId, checkpoint: Checkpoint) -> None:
        if checkpoint.certificate.round == 0:
            self._end(certified_start(self._spec, checkpoint, self._envelopes))
        elif sender not in self._asked:
            self._asked.add(sender)
            self._out.append(fx.CatchUp(sender, 0))  # the run has begun without this node's knowing

    # ---- what follows

    def _advance(self) -> None:
        if self.head is not None:
            return
        if self._proposed is None and self._spec.record.creator == self._me:
            self._propose()
        if self._proposed is None:
            return
        if self._have_params and self._me not in self._votes:
            self._vote()
        self._certify()

    def _propose(self) -> None:
        """Name all who have joined, once they are enough."""
        is_enough = len(self.requests) >= self._spec.record.policy.first_members
        if not (self._have_params and is_enough and self._me in self.requests):
            return
        mine = self.requests[self._me]
        others = [request for peer, request in self.requests.items() if peer != self._me]
        newcomers = self._newcomers([mine, *others])
        if len(newcomers) < self._spec.record.policy.first_members:
            return
        joins = tuple(self.requests[newcomer.peer].join.raw for newcomer in newcomers)
        bundle = encode(Bundle((), (), joins))
        header, _ = _first_header(self._spec, digest("bundle", bundle), newcomers)
        raw = encode(header)
        proposal = self._envelopes.seal(Proposal(self._spec.hash, 0, 0, 0, -1, header_hash(raw)))
        self._out.append(fx.Journal(0, Signed(proposal.raw, raw, bundle)))
        message = Proposed(self._spec.hash, proposal.raw, raw, bundle)
        self._out.append(fx.Broadcast(message))
        self._proposed, self._header = message, raw
        self._members = header.seen

    def _newcomers(self, requests: list[Request]) -> tuple[Newcomer, ...]:
        return newcomers_of(self._spec.record, None, requests, round=0)

    def _has_place(self, peer: PeerId) -> bool:
        return any(newcomer.peer == peer for newcomer in self._newcomers(list(self.requests.values())))

    def _request(self, raw: bytes) -> Request:
        join = self._envelopes.open(Join, raw)
        return request_of(self._spec.hash, self._spec.record, join, self._envelopes.open_any)

    def _vote(self) -> None:
        vote = self._envelopes.seal(Vote(self._spec.hash, 0, 0, 0, "precommit", header_hash(self._header)))
        message = self._proposed
        if message is None:
            return
        self._out.append(fx.Journal(0, Signed(vote.raw, message.header, message.bundle)))
        self._votes[self._me] = vote
        self._out.append(fx.Arrived(vote))
        self._out.append(fx.Broadcast(Records(self._spec.hash, (vote.raw,))))

    def _certify(self) -> None:
        hash_ = header_hash(self._header)
        votes = [v for p, v in sorted(self._votes.items()) if p in self._members and v.record.header == hash_]
        if not self._members or len(votes) < len(self._members):
            return
        certificate = Certificate(self._spec.hash, 0, hash_, tuple(vote.raw for vote in votes))
        checkpoint = Checkpoint(self._header, certificate)
        self._end(certified_start(self._spec, checkpoint, self._envelopes))
        self._out.append(fx.Broadcast(Certified(self._spec.hash, checkpoint)))

    def _end(self, head: Head) -> None:
        if self.head is None:
            self.head = head
            self._out.append(fx.Commit(head, 0))
            if self._spec.record.creator == self._me:
                self._out.append(fx.Publish(Certified(head.run, head.checkpoint)))

    def _resend(self) -> None:
        """Everything again."""
        self._out += [fx.Broadcast(message) for message in self._standing()]

    def _standing(self) -> list[OverlayMessage]:
        """All that this node has said: its join or that it takes it back, its vote, what it proposes as the creator."""
        items = [self._leave.raw if self._leave is not None and self.is_withdrawn else self._join.raw]
        if self._me in self._votes:
            items.append(self._votes[self._me].raw)
        said: list[OverlayMessage] = [Records(self._spec.hash, tuple(items))]
        if self._proposed is not None and self._spec.record.creator == self._me:
            said.append(self._proposed)
        return said

    def _restore(self, entry: JournalEntry) -> None:
        if not isinstance(entry, Signed):
            raise PeerError("a journal entry that cannot be read")
        opened, header = self._envelopes.open_any(entry.envelope), decode(Header, entry.header)
        if opened.signer != self._me or getattr(opened.record, "header", b"") != header_hash(entry.header):
            raise PeerError("a journal entry that is not what this node signed")
        if header.bundle != digest("bundle", entry.bundle):
            raise PeerError("a journal entry with another bundle than its header names")
        if isinstance(opened.record, Proposal):
            self._proposed = Proposed(self._spec.hash, entry.envelope, entry.header, entry.bundle)
        elif isinstance(opened.record, Vote):
            self._votes[self._me] = opened.of(Vote)
            if self._proposed is None:
                self._proposed = Proposed(self._spec.hash, b"", entry.header, entry.bundle)
        self._header = entry.header
        self._members = header.seen

    def _drain(self) -> list[fx.Effect]:
        out, self._out = self._out, []
        return out
