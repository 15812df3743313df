"""A run on one member: round after round, from certificate to certificate.

Routes what arrives to the round under way, holds what is for the next one, helps who is behind, and asks whoever is
ahead. Never raises for what a peer sent.
"""

from collections.abc import Sequence

import msgspec

from primep2p.core import effects as fx
from primep2p.core.allowances import Allowances
from primep2p.core.apprentice import Apprentice
from primep2p.core.chain import Head, follow
from primep2p.core.checks import check_size
from primep2p.core.notices import Notices
from primep2p.core.rounds import Round
from primep2p.core.sortition import ranked
from primep2p.core.votes import slot_of
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.journal import JournalEntry
from primep2p.model.messages import Abstained, Certified, Digest, OverlayMessage, Proposed, Proven, Records
from primep2p.model.records import Ban, Checkpoint, Evidence, Join, Leave, Proposal, RoundRecord, Update
from primep2p.wire.codec import digest
from primep2p.wire.envelope import Envelopes, Opened, Peeked

__all__ = ["Run"]

NEIGHBOURS = 4
"""Members of a large roster that each stays connected to for gossip's sake, beside those whom its round needs: with
those who chose it, some eight, and the graph is connected with any chance that matters."""

SHOWN = -1
"""The view of a certificate that this node was shown."""


class Run:
    """The machine of one run. `head` is the newest certified checkpoint that this node has."""

    def __init__(self, head: Head, envelopes: Envelopes) -> None:
        self.head = head
        self.round: Round | None = None
        self.finished = False
        self.connected: set[PeerId] = set()
        self.notices = Notices(head)
        self.allowances = Allowances()
        self._apprentice = Apprentice()
        self._envelopes = envelopes
        self._me = envelopes.peer_id
        self._foreign: list[Opened[msgspec.Struct]] = []
        self._first_round = 0
        self._out: list[fx.Effect] = []

    def begin(
        self,
        now: float,
        *,
        entries: Sequence[JournalEntry] = (),
        foreign: Sequence[bytes] = (),
        evidence: Sequence[Evidence] = (),
        first_round: int = 0,
    ) -> list[fx.Effect]:
        """Start or restart. `entries` is the journal of the round after the head; `foreign` are records of this node's
        own, of that round or later ones, which other members hold; `evidence` is what this node keeps; before
        `first_round` it signs nothing [J2]."""
        self._first_round = first_round
        self._foreign = self._own_among(foreign)
        for each in evidence:
            self.notices.add_evidence(each, self._envelopes.open_any)
        self._enter_round(now, entries)
        return self._drain()

    @property
    def audience(self) -> frozenset[PeerId]:
        """Who hears what this node broadcasts: those who vote."""
        return frozenset(self.head.committee.members)

    @property
    def companions(self) -> frozenset[PeerId]:
        """With which others to stay connected: in a small run with all; in a large one with some neighbours, and for
        the round's sake a trainer with those who vote, and these with trainers and with each other."""
        head, others = self.head, frozenset(self.head.members) - {self._me}
        if not head.is_drawn:
            return others
        order = ranked(digest("neighbours", self._me.encode()), "gossip", tuple(sorted(others)))
        due: frozenset[PeerId] = frozenset()
        if self._me in head.committee:
            due = head.due
        elif self._me in head.cohort:
            due = frozenset(head.committee.members)
        return (due | frozenset(order[:NEIGHBOURS])) - {self._me}

    def _own_among(self, raws: Sequence[bytes]) -> list[Opened[msgspec.Struct]]:
        """Records of this run that this node signed in a slot; whatever else members answered with shows nothing."""
        own = []
        for raw in raws:
            try:
                opened = self._envelopes.open_any(raw)
                slot_of(opened.record)
            except PeerError:
                continue
            if opened.signer == self._me and getattr(opened.record, "run", None) == self.head.run:
                own.append(opened)
        return own

    def handle(self, event: fx.Event, now: float) -> list[fx.Effect]:
        """What `event` calls for, in order."""
        match event:
            case fx.Received(sender, message, published):
                self._on_received(sender, message, now, published)
            case fx.Connected(peer):
                self._on_connected(peer, now)
            case fx.Lost(peer):
                self.connected.discard(peer)
                if self.round:
                    self.round.on_lost(peer, now)
            case fx.Synced(sender, checkpoints):
                self._on_synced(sender, checkpoints, now)
            case fx.TimeUp():
                self.notices.time_is_up = True
            case _:
                self._on_own(event, now)
        self._after(now)
        return self._drain()

    # ---- what peers send

    def _on_received(self, sender: PeerId, message: OverlayMessage, now: float, published: bool = False) -> None:
        if message.run != self.head.run:
            return
        try:
            match message:
                case Records(items=items):
                    for raw in items:
                        self._on_record(sender, raw, now, published)
                        self._after(now)
                case Proposed():
                    self._on_proposed(sender, message, now)
                case Digest():
                    self._on_digest(sender, message, now)
                case Certified(checkpoint=checkpoint):
                    self._on_certified(sender, checkpoint, now)
                case Proven(evidence=evidence):
                    self._on_proven(sender, evidence, now)
                case Abstained(round=number):
                    self._on_abstained(sender, number, message, now)
        except PeerError as error:
            self._out.append(fx.Accuse(sender, error.sentence))

    def _on_record(self, sender: PeerId, raw: bytes, now: float, published: bool) -> None:
        peeked = self._envelopes.peek(raw)
        if peeked.kind == "proposal":
            raise PeerError("a proposal without what it puts forward")
        if peeked.kind in ("join", "ban", "leave"):
            self._on_notice(peeked, now, is_firsthand=sender == peeked.signer and not published)
            return
        if peeked.signer not in self.head.members:
            return  # it may be a member of a later roster: catching up will tell
        if self.round is not None and self.round.records.knows(peeked.hash):
            return
        opened = self._if_due(sender, peeked, Records(self.head.run, (raw,)), now)
        if opened is not None and self.round is not None:
            self.round.on_record(opened, now)

    def _on_proposed(self, sender: PeerId, message: Proposed, now: float) -> None:
        peeked = self._envelopes.peek(message.proposal)
        if self.round is None or peeked.signer not in self.head.members:
            return
        if (opened := self._if_due(sender, peeked, message, now)) is not None:
            self.round.on_proposed(sender, message, opened.of(Proposal), now)

    def _if_due(
        self, sender: PeerId, peeked: Peeked, message: OverlayMessage, now: float
    ) -> Opened[msgspec.Struct] | None:
        """The verified record if it is of the round under way. Of the next round it is held; what others say about who
        is behind. Signatures, which cost most, are checked last: old records may come by the thousand."""
        record = self._envelopes.read(peeked)
        if not isinstance(record, RoundRecord) or record.run != self.head.run:
            raise PeerError("a record of another run, or of none of its rounds")
        due = self.head.round + 1
        is_late = isinstance(record, Update) and self.head.may_enter(peeked.signer, record.round)
        if record.round == due or is_late:
            check_size(peeked.kind, peeked.raw, self.head)
            return self._envelopes.verify(peeked)
        if record.round == due + 1:
            self._envelopes.verify(peeked)
            if sender in self.head.members:  # they send what they sign themselves: nobody fills another one's room
                self.allowances.hold(sender, message)
        elif record.round > due:
            self._catch_up(sender, now)
        elif record.round == 0:
            self._help(sender, now)  # it still waits for checkpoint 0
        return None

    def _on_digest(self, sender: PeerId, message: Digest, now: float) -> None:
        due = self.head.round + 1
        if message.round > due:
            self._catch_up(sender, now)
        elif message.round < due:
            self._help(sender, now)
        elif self.round is not None and sender in self.head.members and self.allowances.may_help(sender, now):
            self.round.on_digest(sender, message)

    def _help(self, peer: PeerId, now: float) -> None:
        """It is behind: show it the head."""
        if self.allowances.may_help(peer, now):
            self._out.append(fx.Send(peer, Certified(self.head.run, self.head.checkpoint)))

    def _on_certified(self, sender: PeerId, checkpoint: Checkpoint, now: float) -> None:
        ahead = checkpoint.certificate.round - (self.head.round + 1)
        if ahead > 0:
            self._catch_up(sender, now)
        elif ahead == 0:
            self._adopt(follow(self.head, checkpoint, self._open), now=now)

    def _on_synced(self, sender: PeerId, checkpoints: tuple[Checkpoint, ...], now: float) -> None:
        """A stretch of chain: only its end begins a round. Where it is longer than one checkpoint there may be more."""
        before = self.head.round
        try:
            for checkpoint in checkpoints:
                if checkpoint.certificate.round == self.head.round + 1:
                    self._replace_head(follow(self.head, checkpoint, self._open))
        except PeerError as error:
            self._out.append(fx.Accuse(sender, error.sentence))
        if self.head.round == before:
            return  # whoever gave nothing new is not asked again at once, however often it claims to be ahead
        self.allowances.caught_up(self._member(sender))
        if self.head.round > before + 1 and not self.head.is_last:
            self._catch_up(sender, now)
        self._enter_round(now, [])

    def _on_notice(self, peeked: Peeked, now: float, *, is_firsthand: bool) -> None:
        """Somebody wants to become a member, or to be none any more, or the creator bans somebody. Whoever hears it
        from its signer alone passes it on to those who vote; what is known, has no room, or is a member's Join or a
        stranger's Leave, costs no signature."""
        is_member = peeked.signer in self.head.members
        if self.notices.knows(peeked.hash) or (peeked.kind != "ban" and is_member == (peeked.kind == "join")):
            return
        if not self._adds(peeked):
            return
        if is_firsthand:
            self._out.append(fx.Broadcast(Records(self.head.run, (peeked.raw,))))
        if self.round is not None:
            self.round.on_notice(now)

    def _adds(self, peeked: Peeked) -> bool:
        match peeked.kind:
            case "ban":
                return self._adds_ban(peeked)
            case "leave":
                return self._adds_leave(peeked)
            case _:
                return self._adds_join(peeked)

    def _adds_ban(self, peeked: Peeked) -> bool:
        if peeked.signer != self.head.spec.creator:
            raise PeerError("a ban by somebody who may not ban")
        return self.notices.add_ban(self._envelopes.verify(peeked).of(Ban), promised=self._is_promised(peeked))

    def _adds_join(self, peeked: Peeked) -> bool:
        promised = self._is_promised(peeked)
        if not self.notices.has_room and not promised:
            return False
        join = self._envelopes.verify(peeked).of(Join)
        return self.notices.add_join(join, self._envelopes.open_any, promised=promised)

    def _adds_leave(self, peeked: Peeked) -> bool:
        if self.notices.has_leave_of(peeked.signer) and not self._is_promised(peeked):
            return False
        return self.notices.add_leave(self._envelopes.verify(peeked).of(Leave))

    def _is_promised(self, peeked: Peeked) -> bool:
        """Whether k members list this notice."""
        return self.round is not None and peeked.hash in self.round.collection.promised.notices

    def _on_proven(self, sender: PeerId, evidence: Evidence, now: float) -> None:
        """A member shows that another one signed twice. Strangers' words are not worth two signatures."""
        if sender not in self.head.members:
            return
        culprit = self.notices.add_evidence(evidence, self._open)
        if culprit is None:
            return
        self._out.append(fx.Accuse(culprit, "equivocation", evidence))
        if self._me in self.head.committee:
            self._out.append(fx.Broadcast(Proven(self.head.run, evidence)))
        if self.round is not None:
            self.round.on_evidence(culprit)
            self.round.on_notice(now)

    def _on_abstained(self, sender: PeerId, round: int, message: Abstained, now: float) -> None:
        """A trainer says that it brings no update: what it may say of itself alone."""
        if self.round is None or sender not in self.head.members:
            return
        if round == self.round.round:
            self.round.on_abstained(sender, now)
        elif round == self.round.round + 1:
            self.allowances.hold(sender, message)

    def _on_connected(self, peer: PeerId, now: float) -> None:
        self.connected.add(peer)
        if self.round is not None:
            self.round.on_connected(peer, now)
            if peer in self.head.members:
                self._out.append(fx.Send(peer, self.round.digest()))

    def _catch_up(self, peer: PeerId, now: float) -> None:
        if self.allowances.may_catch_up(self._member(peer), now):
            self._out.append(fx.CatchUp(peer, self.head.round + 1))

    def _member(self, peer: PeerId) -> PeerId | None:
        return peer if peer in self.head.members else None

    # ---- what this node's own services answer

    def _is_awaited(self, round: int) -> bool:
        """Whether a training's end counts: that of the one under way, or of one for this round that had failed."""
        is_under_way = self._apprentice.end(round)
        return is_under_way or (self.round is not None and self.round.round == round)

    def _on_own(self, event: fx.Event, now: float) -> None:
        round = self.round
        is_done = isinstance(event, fx.Trained | fx.TrainingFailed) and self._is_awaited(event.round)
        if round is None:
            return
        match event:
            case fx.Trained() if is_done:
                round.on_trained(event, now)
            case fx.TrainingFailed(number) if is_done:
                round.on_training_failed(number, now)
            case fx.Obtained(update):
                round.on_obtained(update, now)
            case fx.Refused(update, reason):
                round.on_refused(update, reason, now)
            case fx.Unobtained(update):
                round.on_unobtained(update)
            case fx.Aggregated(round=number) if number == round.round:
                round.on_aggregated(event, now)
            case fx.ParamsHeld(cid) if cid == self.head.header.params:
                round.on_params_held(now)
            case fx.OptimiserHeld(cid) if cid == self.head.header.optimiser:
                round.on_optimiser_held(now)
            case fx.Expired(fx.Moment(number, kind)) if number == round.round:
                round.on_moment(kind, now)
            case fx.Expired(fx.StepEnd(number, timeout)) if number == round.round:
                round.on_step_end(timeout, now)

    # ---- from round to round

    def _after(self, now: float) -> None:
        """A round that decided something else than its end gives its effects; one that is over gives way."""
        while self.round is not None and not self.finished:
            self._out += self.round.drain()
            if self.round.decision is None:
                return
            checkpoint, view = self.round.decision
            publish = self.head.committee.proposer(view) == self._me
            try:
                head = follow(self.head, checkpoint, self._open)
            except PeerError as error:  # more members lie than the run survives: there is nothing to follow
                self.round.decision = None
                signers = (self._envelopes.peek(raw).signer for raw in checkpoint.certificate.votes)
                self._out += [fx.Accuse(signer, error.sentence) for signer in signers]
                return
            self._adopt(head, view=view, publish=publish, now=now)

    def _adopt(self, head: Head, *, now: float, view: int = SHOWN, publish: bool = False) -> None:
        if self.round is not None:
            self._out += self.round.drain()
        self._replace_head(head, view=view, publish=publish)
        self._enter_round(now, [])

    def _replace_head(self, head: Head, *, view: int = SHOWN, publish: bool = False) -> None:
        self.head = head
        self.notices.follow(head)
        self._out.append(fx.Commit(head, view))
        if publish:
            self._out.append(fx.Publish(Certified(head.run, head.checkpoint)))

    def _enter_round(self, now: float, entries: Sequence[JournalEntry]) -> None:
        head, before = self.head, self.round
        self.round = None
        if head.is_last:
            self.finished = True
            self._out.append(fx.HoldParams(head.header.params, self._holders()))
            self._out.append(fx.Finished(head.round))
            return
        if self._me not in head.members:
            self.allowances.take_held()
            return
        self.round = Round(head, self._envelopes, self.notices, self.connected, now, self._apprentice)
        if before is not None:
            self.round.take_over(before)
        foreign = [opened for opened in self._foreign if getattr(opened.record, "round", 0) > head.round]
        if entries or foreign:
            self.round.restore(entries, foreign)
        if head.round + 1 < self._first_round:
            self.round.pen.muted = True
        self.round.begin()
        self._out += self.round.drain()
        self._out.append(fx.HoldParams(head.header.params, self._holders()))
        if head.header.optimiser is not None and self._me in head.committee:  # who has no vote aggregates nothing
            self._out.append(fx.HoldOptimiser(head.header.optimiser, self._holders()))
        for sender, message in self.allowances.take_held():
            self._on_received(sender, message, now)

    def _holders(self) -> tuple[PeerId, ...]:
        """Who has the params and the state that the head names: whoever signed for them; or, of a void round's, others
        too: it has its parent's, which who signs for it need not have."""
        signers = [self._envelopes.peek(raw).signer for raw in self.head.checkpoint.certificate.votes]
        others = self.head.committee.members if self.head.header.void else ()
        return tuple(peer for peer in dict.fromkeys((*signers, *others)) if peer != self._me)

    def _open(self, raw: bytes) -> Opened[msgspec.Struct]:
        if self.round is not None:
            return self.round.records.open(raw)
        return self._envelopes.open_any(raw)

    def _drain(self) -> list[fx.Effect]:
        out, self._out = self._out, []
        return out
