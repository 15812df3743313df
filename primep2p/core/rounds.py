"""One round on one member: train, collect, list, propose, vote, decide.

Decisions about the vote are those of `Consensus`; what a header must say follows from `checkpoints.derive`. What is
here is when to collect, what to ask for, and that nothing is signed twice in one slot.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from primep2p.core import effects as fx
from primep2p.core.apprentice import Apprentice
from primep2p.core.beacons import chain_of, is_of_chain
from primep2p.core.candidates import Candidate, Candidates
from primep2p.core.chain import Head, header_hash
from primep2p.core.checkpoints import Derivation
from primep2p.core.checks import check, fitting
from primep2p.core.collection import Collection, Draft
from primep2p.core.consensus import Action, Await, Cast, Consensus, Decide, Entered, Move, Propose, Timeout
from primep2p.core.gossip import Records
from primep2p.core.notices import Notices
from primep2p.core.pen import Pen
from primep2p.core.repair import REPAIR_S, TRAINING_REPAIR_S, Notes
from primep2p.core.restoring import read_journal
from primep2p.core.votes import has_room
from primep2p.core.vouching import Vouching
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.journal import JournalEntry
from primep2p.model.messages import Abstained, Digest, Proposed, Proven
from primep2p.model.messages import Records as RecordsMessage
from primep2p.model.records import Checkpoint, Collected, Evidence, Proposal, Update, Vote
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Round"]


class Round:
    """The round after `head`. Methods are events; what they want done is taken with `drain`."""

    def __init__(
        self,
        head: Head,
        envelopes: Envelopes,
        notices: Notices,
        connected: set[PeerId],
        now: float,
        apprentice: Apprentice | None = None,
    ) -> None:
        self.head = head
        self.round = head.round + 1
        self.me = envelopes.peer_id
        self.records = Records(envelopes)
        self.consensus = Consensus(head.committee, self.me, head.spec.policy)
        self.pen = Pen(envelopes, self.records, self.round)
        self.have_params = False
        self.have_optimiser = head.header.optimiser is None
        self.decision: tuple[Checkpoint, int] | None = None
        self.collection = Collection(head, notices)
        self.candidates = Candidates(head)
        self._vouching = Vouching(head, self.candidates, self.consensus.tally)
        self._notices = notices
        self._notes = Notes(head, self.records, notices)
        self._chain = chain_of(envelopes, head.run, head.spec.policy)
        self._connected = connected
        self._apprentice = apprentice or Apprentice()
        self._bad_lists: set[PeerId] = set()
        """Of whom one was refused."""
        self._gone: set[PeerId] = set()
        """Lost in this round, and not back."""
        self._policy = head.spec.policy
        self._is_buffered = self._policy.is_buffered
        self._started_at = now
        self._now = now
        self._out: list[fx.Effect] = []
        self._actions: deque[Action] = deque()
        self._acting = False
        self._training = False
        self._abstains = False
        """Members have been told that this node brings no update."""
        self._listed = False
        self._lists_due = False
        self._turn: Propose | None = None
        self._draft: Draft | None = None
        self._decided: tuple[int, Hash] | None = None
        self._timers: set[str] = set()
        self._quiet = False

    # ---- life

    def begin(self) -> None:
        """Start; after `restore` where there is something to restore."""
        self._timer("collect", self._policy.collect_s)
        self._repair_timer()
        self._out += [fx.Broadcast(mine) for mine in self._vouching.messages(self.records.by(self.me))]
        self._report()
        self._peers_changed(self._now)

    def restore(self, entries: Sequence[JournalEntry], foreign: list[Opened[msgspec.Struct]]) -> None:
        """Back to where the journal says. `foreign` are own records of this round or later ones that others hold: one
        that is not in the journal shows that the journal is not the newest, and nothing more is signed in this round
        [J2]. Nor is anything where an entry is damaged: it may have been any signature, or any lock [J3]."""
        self.pen.muted = True  # until all that was signed before is known
        past = read_journal(entries, self.head, self.me, self.records, self.candidates)
        journalled = {opened.hash for opened in past.signed}
        self._listed = past.has_listed
        for update in past.updates:
            self._out += self.collection.add_update(update)
        for header in past.headers:
            self._act(self.consensus.on_verdict(header, True))
        for move in past.moves:
            self.consensus.restore_move(move.view, move.header, move.prevotes, locked=move.locked)
        self.pen.muted = past.is_damaged or any(opened.hash not in journalled for opened in foreign)
        self.consensus.resume(*past.furthest)
        if self._listed:
            self._act(self.consensus.start())
        for opened in past.signed:
            self._dispatch(opened)

    def take_over(self, before: "Round") -> None:
        """What may still enter of the round before; in sync mode that is nothing."""
        for opened in before.collection.lasting(self.head):
            if opened.hash in before.collection.held:
                self.collection.take_over(opened)
            self._keep(opened)

    def drain(self) -> list[fx.Effect]:
        """What is to be done since the last time."""
        out, self._out = self._out, []
        return out

    # ---- events

    def on_record(self, opened: Opened[msgspec.Struct], now: float) -> None:
        """A verified record of this round."""
        self._now = now
        record = opened.record
        is_list = isinstance(record, Collected)
        if is_list and opened.signer in self._bad_lists:
            return  # a wrong reveal takes the longest to find: once for each member
        try:
            check(opened, self.head)
        except PeerError as error:
            if is_list and opened.signer in self.head.members:
                self._bad_lists.add(opened.signer)
            self._accuse(opened.signer, error.sentence)
            return
        if isinstance(record, Vote) and self.consensus.is_far(record.view):
            self._act(self.consensus.on_vote(opened.of(Vote)))
        else:
            self._keep(opened)
        self._settle()

    def on_proposed(self, sender: PeerId, message: Proposed, opened: Opened[Proposal], now: float) -> None:
        """A proposal of this round with what it takes to check it."""
        self._now = now
        proposal = opened.record
        try:
            check(opened, self.head)
        except PeerError as error:
            self._accuse(opened.signer, error.sentence)
            return
        if header_hash(message.header) != proposal.header:
            self._accuse(sender, "a proposal with another header than it names")
        elif self.consensus.is_far(proposal.view):
            self._act(self.consensus.on_proposal(proposal))
        elif self.records.has_room(opened) and self._consider(sender, message, opened):
            self._prove(sender, proposal, message.prevotes)
            self._keep(opened)
        self._settle()

    def on_evidence(self, culprit: PeerId) -> None:
        """A member signed two records in one slot."""
        self.collection.convict(culprit)

    def on_notice(self, now: float) -> None:
        """A notice came that a bundle may have to carry."""
        self._now = now
        self._settle()

    def on_digest(self, sender: PeerId, message: Digest) -> None:
        """A member says what it holds: send what it lacks, ask for what this node lacks. Whoever has no vote needs no
        votes: the certificate will do."""
        if sender in self.head.committee:
            records = self._vouching.messages(self._notes.lacking(message))
            notices = self._notices.lacking(set(message.have))
            self._out += [fx.Send(sender, each) for each in (*records, *notices)]
        if self._notes.lacks(message):
            self._out.append(fx.Send(sender, self.digest()))

    def on_connected(self, peer: PeerId, now: float) -> None:
        """A peer can be reached."""
        self._gone.discard(peer)
        if self._abstains and peer in self.head.committee:
            self._out.append(fx.Send(peer, Abstained(self.head.run, self.round)))
        self._peers_changed(now)

    def on_lost(self, peer: PeerId, now: float) -> None:
        """A peer can no longer be reached."""
        self._gone.add(peer)
        self._peers_changed(now)

    def _peers_changed(self, now: float) -> None:
        self._now = now
        self._act(self.consensus.on_away(frozenset(self.head.committee.members) - self._present))
        self._settle()

    @property
    def _present(self) -> frozenset[PeerId]:
        """Who may still do its part. Members of a roster that fits into one committee stay connected, so whoever is not
        is away; to those of a drawn one this node is only just connecting."""
        if self.head.is_drawn:
            return self.head.due - self._gone
        return frozenset(self._connected) | {self.me}

    def on_trained(self, event: fx.Trained, now: float) -> None:
        """This node's delta is stored: announce it, if it may still enter. Where it is for an earlier round, the next
        training begins at once, from the newest params."""
        if not self.head.may_enter(self.me, event.round):
            self.on_training_failed(event.round, now)
            return
        self._now = now
        self._abstains = False
        metrics = fitting(event.metrics, self.head)
        base = self.head.bases[event.round]
        update = Update(self.head.run, event.round, base, event.delta, event.examples, metrics)
        if (opened := self._sign(update)) is not None:
            self.collection.updates[opened.hash] = opened.of(Update)
            self.collection.hold(opened.hash)
            self._publish(opened)
        self.collection.settled.add(self.me)
        self._begin_training()
        self._settle()

    def on_training_failed(self, round: int, now: float) -> None:
        """This node has no delta for `round`, or none for the time being: nobody needs to wait for it [C3]. Where that
        is an earlier round, the next training begins."""
        if round < self.round:
            self._now = now
            self._begin_training()
            self._settle()
            return
        if not self._abstains and self.records.in_slot(self.me, ("update", self.round)) is None:
            self._abstains = True
            self._out.append(fx.Broadcast(Abstained(self.head.run, self.round)))
        self.on_abstained(self.me, now)

    def on_abstained(self, peer: PeerId, now: float) -> None:
        """A trainer brings no delta in this round, by its own word. What it brings all the same counts [C3]."""
        self._now = now
        self.collection.settled.add(peer)
        self._settle()

    def on_obtained(self, update: Hash, now: float) -> None:
        """An update's bytes are here, and right."""
        self._now = now
        self.collection.hold(update)
        self._settle()

    def on_refused(self, update: Hash, reason: str, now: float) -> None:
        """An update's bytes are wrong."""
        self._now = now
        if (trainer := self.collection.refuse(update)) is not None:
            self._accuse(trainer, reason)
        self._settle()

    def on_unobtained(self, update: Hash) -> None:
        """An update's bytes were not to be had; asked for again when somebody needs it, or at the next repair."""
        self.collection.miss(update)

    def on_params_held(self, now: float) -> None:
        """The head's params are here: training can begin, and aggregating unless there is more to the head."""
        self._now = now
        self.have_params = True
        if not self._waits_for_its_own():
            self._begin_training()
        self._settle()

    def _waits_for_its_own(self) -> bool:
        """Whether an update of this node's waits to enter. One of a member enters at a time: who trained on would be
        one behind from now on, and its work count for less. Not after a void round, which took nothing: perhaps it is
        for lack of an update that cannot be had [C4]."""
        return not self.head.header.void and self.collection.waits_with(self.me)

    def _begin_training(self) -> None:
        """From the head, once a round, unless it still trains what may enter."""
        is_here = self.have_params and self.me in self.head.cohort
        if not is_here or self._training or (self._is_buffered and self._apprentice.is_busy(self.head)):
            return
        self._training = True
        if self.records.in_slot(self.me, ("update", self.round)) is None and not self.pen.muted:
            self._apprentice.begin(self.round)
            self._out.append(fx.Train(self.round, self.head.header.params))

    def on_optimiser_held(self, now: float) -> None:
        """The optimiser's state that the head names is here: aggregating can begin."""
        self._now = now
        self.have_optimiser = True
        self._settle()

    def on_aggregated(self, event: fx.Aggregated, now: float) -> None:
        """The result for a set of inclusions is known."""
        self._now = now
        self.candidates.on_aggregated(event)
        self._settle()

    def on_moment(self, kind: str, now: float) -> None:
        """One of the round's own timers ran out."""
        self._now = now
        match kind:
            case "collect" | "grace":
                self._list()
            case "lists":
                self._lists_due = True
            case "repair":
                self._repair()
        self._settle()

    def on_step_end(self, timeout: Timeout, now: float) -> None:
        """A vote step ran out."""
        self._now = now
        self._act(self.consensus.on_timeout(timeout))
        self._settle()

    @property
    def awaited(self) -> frozenset[PeerId]:
        """Whom the round waits for: trainers without an update, then members without a list, then without a vote."""
        consensus, members = self.consensus, frozenset(self.head.committee.members)
        if self.me not in self.head.committee:
            return frozenset()  # it hears no votes; the certificate will tell
        if not self._listed:
            return self.head.cohort - self.collection.settled
        if len(self.collection.lists) < self.head.committee.q:
            return members - self.collection.lists.keys()
        if consensus.step == "propose":
            return frozenset((self.head.committee.proposer(consensus.view),))
        return members - consensus.tally.voters(consensus.view, consensus.step)

    def digest(self) -> Digest:
        """What this node holds of the round."""
        return self._notes.digest()

    # ---- records

    def _keep(self, opened: Opened[msgspec.Struct]) -> None:
        match self.records.accept(opened):
            case False:
                if (opened.signer, opened.hash) in self.collection.promised.updates:
                    self._out += self.collection.add_update(opened.of(Update))
                return
            case Evidence() as evidence:
                self.on_evidence(opened.signer)
                if has_room(evidence) and self._notices.add_evidence(evidence, self.records.open):
                    self._out.append(fx.Accuse(opened.signer, "equivocation", evidence))
                    proven = Proven(self.head.run, evidence)
                    self._out += [fx.Broadcast(proven), fx.Publish(proven)]
        self._quiet = False
        self._dispatch(opened)

    def _dispatch(self, opened: Opened[msgspec.Struct]) -> None:
        self._out.append(fx.Arrived(opened))
        match opened.record:
            case Update():
                self._out += self.collection.add_update(opened.of(Update))
            case Collected():
                self.collection.add_list(opened.of(Collected))
            case Vote():
                self._act(self.consensus.on_vote(opened.of(Vote)))
            case Proposal() as proposal:
                self._act(self.consensus.on_proposal(proposal))

    # ---- signing

    def _sign(self, record: msgspec.Struct, header: bytes = b"", bundle: bytes = b"") -> Opened[msgspec.Struct] | None:
        opened, effects = self.pen.sign(record, header, bundle)
        self._out += effects
        return opened

    def _publish(self, opened: Opened[msgspec.Struct]) -> None:
        """Tell everybody, and this node's own books."""
        self._out.append(fx.Broadcast(RecordsMessage(self.head.run, (opened.raw,))))
        self._keep(opened)

    # ---- collecting

    def _settle(self) -> None:
        """Whatever can go on now does. Idempotent."""
        if not self._listed:
            self._collect()
        if self._listed:
            self._wait_for_lists()
        self._try_propose()
        self._judge()
        self._certify()

    def _collect(self) -> None:
        if self.collection.is_enough and not self.collection.pending(self._present):
            self._list()
        elif not self._is_buffered and self.collection.is_enough:
            self._timer("grace", max(self._policy.grace_s, (self._now - self._started_at) / 2))
        elif self._is_buffered and self._is_due():
            self._timer("grace", self._policy.grace_s)

    def _is_due(self) -> bool:
        """Whether a buffered checkpoint is due: so many updates are here, or k members say so, of whom one is honest.
        What others still fetch then has as long as stragglers have."""
        return self.collection.is_wanted or len(self.collection.lists) >= self.head.committee.k

    def _list(self) -> None:
        """The end of collecting."""
        if self._listed:
            return
        self._listed = True
        if self.me in self.head.committee and (opened := self._sign(self._listing())) is not None:
            self._publish(opened)
        self._act(self.consensus.start())

    def _listing(self) -> Collected:
        reveal = self._chain.element(self.round) if self.me == self.head.revealer else None
        if reveal is not None and not is_of_chain(self.head.members[self.me], reveal, self.round):
            reveal = None  # it joined with another chain than this key's: nothing that it could reveal
        return self.collection.listing(reveal or b"")

    # ---- proposing

    def _wait_for_lists(self) -> None:
        """With a quorum of lists, stragglers have a short while; then what will be proposed can be foreseen, and every
        member aggregates at once instead of one after the other."""
        lists = self.collection.lists
        if self._draft is not None or len(lists) < self.head.committee.q:
            return
        if not self._lists_due and any(p in self._present and p not in lists for p in self.head.committee.members):
            self._timer("lists", self._policy.grace_s)
            return
        self._draft = self.collection.draft(self.records.open)
        if self._draft is not None:
            self._aggregate(self._draft[1])
            for trainer in self._draft[1].blamed:
                self._accuse(trainer, "it claims more examples than the run's max_weight_ratio allows")

    def _try_propose(self) -> None:
        turn, consensus = self._turn, self.consensus
        if turn is None or consensus.view != turn.view or consensus.step != "propose" or consensus.decided:
            return
        if turn.header is not None:
            self._put_forward(turn, self.candidates[turn.header])
        elif self._draft is not None:
            raw, derivation = self._draft
            if (result := self._aggregate(derivation)) is not None:
                hash_ = self.candidates.add(self.me, self.candidates.header(derivation, result), raw, derivation)
                self._put_forward(turn, self.candidates[hash_])

    def _put_forward(self, turn: Propose, candidate: Candidate) -> None:
        self._turn = None
        proposal = Proposal(self.head.run, self.round, 0, turn.view, turn.valid_view, header_hash(candidate.raw))
        opened = self._sign(proposal, candidate.raw, candidate.bundle_raw)
        if opened is None or (proposed := self._vouching.proposed(opened)) is None:
            return
        self._out.append(fx.Broadcast(proposed))
        self._keep(opened)

    # ---- judging

    def _consider(self, sender: PeerId, message: Proposed, opened: Opened[Proposal]) -> bool:
        """Whether the proposal's header may be judged here. The updates of its bundle are among those collected from
        now on, whatever their trainers told this node."""
        hash_ = opened.record.header
        try:
            if not self.candidates.consider(opened.signer, message.header, message.bundle, self.records.open):
                self._accuse(sender, "a header with another bundle than it names")
                return False
        except PeerError as error:
            self._accuse(opened.signer, error.sentence)
            self._act(self.consensus.on_verdict(hash_, False))
        for update in self.candidates[hash_].updates:
            self._keep(update)
            self._out += self.collection.add_update(update)
        return True

    def _prove(self, sender: PeerId, proposal: Proposal, prevotes: tuple[bytes, ...]) -> None:
        """A proposal put forward again brings the prevotes that vouch for it."""
        try:
            convinces = self._vouching.add_proof(proposal, prevotes, self.records.open)
        except PeerError as error:
            self._accuse(sender, error.sentence)
            return
        if convinces:
            self._act(self.consensus.on_proof(proposal.valid_view, proposal.header))

    def _judge(self) -> None:
        """Compare every candidate with the header that this node would have written [P2]."""
        for hash_, candidate, derivation in self.candidates.judgeable():
            if self.consensus.judged(hash_) or (result := self._aggregate(derivation)) is None:
                continue
            follows = self.candidates.header(derivation, result) == candidate.raw
            if not follows:
                self._accuse(candidate.proposer, "a header that does not follow from its bundle")
            self._act(self.consensus.on_verdict(hash_, follows))

    def _aggregate(self, derivation: Derivation) -> fx.Aggregated | None:
        """The result for these inclusions, if it is known; else whatever is missing is under way."""
        is_ready = self.have_params and self.have_optimiser
        result, effects = self.candidates.result(derivation, self.collection, is_ready=is_ready)
        self._out += effects
        return result

    # ---- acting on what consensus wants

    def _act(self, actions: list[Action]) -> None:
        """First in, first out: a vote that is counted may call for more before the rest of its list is done."""
        self._actions.extend(actions)
        if self._acting:
            return
        self._acting = True
        while self._actions:
            self._do(self._actions.popleft())
        self._acting = False

    def _do(self, action: Action) -> None:
        match action:
            case Cast(view, step, header):
                self._vote(Vote(self.head.run, self.round, 0, view, step, header))
            case Propose():
                self._turn = action
            case Move(view, header, locked):
                self._out.append(fx.Journal(self.round, self._vouching.moved(view, header, locked)))
            case Await(timeout, after_s):
                self._out.append(fx.StartTimer(fx.StepEnd(self.round, timeout), after_s))
            case Entered():
                self._enter()
            case Decide(view, header):
                self._decided = (view, header)

    def _vote(self, vote: Vote) -> None:
        self._report()
        if (opened := self._sign(vote)) is not None:
            self._publish(opened)

    def _enter(self) -> None:
        self.records.forget_views(self.consensus.keeps)
        self.consensus.tally.forget(self.consensus.keeps)
        self._draft = None
        self._list()
        self._report()

    def _certify(self) -> None:
        """The votes are there; the header may still have to come."""
        if self._decided is None or self.decision is not None:
            return
        view, header = self._decided
        if (checkpoint := self._vouching.checkpoint(view, header)) is not None:
            self.decision = checkpoint, view

    # ---- repair

    def _repair(self) -> None:
        """Nothing new since the last time: compare notes with the next members in turn."""
        self._repair_timer()
        if not self._quiet:
            self._quiet = True
            return
        self._out += self.collection.want_all()
        self._out += [fx.Send(member, self.digest()) for member in self._notes.next_members(self._connected)]

    def _repair_timer(self) -> None:
        after_s = REPAIR_S if self.consensus.started else TRAINING_REPAIR_S
        self._out.append(fx.StartTimer(fx.Moment(self.round, "repair"), after_s))

    def _timer(self, kind: str, after_s: float) -> None:
        if kind not in self._timers:
            self._timers.add(kind)
            self._out.append(fx.StartTimer(fx.Moment(self.round, kind), after_s))

    # ---- telling

    def _accuse(self, peer: PeerId, reason: str) -> None:
        self._out.append(fx.Accuse(peer, reason))

    def _report(self) -> None:
        consensus = self.consensus
        step = consensus.step if consensus.started else ("collect" if self.me in self.collection.settled else "train")
        self._out.append(fx.Stepped(self.round, consensus.view, step))
