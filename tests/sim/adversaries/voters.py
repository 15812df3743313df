"""Liars who vote, or do not."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from primep2p.core import effects as fx
from primep2p.model.ids import NIL, PeerId
from primep2p.model.messages import OverlayMessage, Proposed, Records
from primep2p.model.records import Proposal, Vote
from primep2p.wire.codec import encode
from tests.sim.adversaries.base import Adversary, adversary
from tests.sim.adversaries.proposers import EquivocatingProposer
from tests.sim.beginning import join_of


@adversary
class Silent(Adversary):
    """Says nothing and answers nothing."""

    name = "silent"

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        return ()

    def publishes(self, message: OverlayMessage) -> bool:
        return False

    def serves(self, asker: object, blob: object) -> bool:
        return False

    def recalls(self, peer: PeerId, items: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return ()


class Voter(Adversary):
    """Votes otherwise than its machine did."""

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if not isinstance(message, Records):
            return (message,)
        items = tuple(out for raw in message.items for out in self._instead(peer, raw))
        return (Records(message.run, items),) if items else ()

    def _instead(self, peer: PeerId, raw: bytes) -> Iterable[bytes]:
        vote = self.node.record(raw)
        if not isinstance(vote, Vote) or vote.round == 0 or self.node.envelopes.peek(raw).signer != self.node.peer:
            return (raw,)
        header = self.votes_for(peer, vote)
        if header is None:
            return ()
        return (raw,) if header == vote.header else (self.vote(vote, header),)

    def vote(self, vote: Vote, header: bytes) -> bytes:
        """The same for another header."""
        return self.node.envelopes.seal(msgspec.structs.replace(vote, header=header)).raw

    def votes_for(self, peer: PeerId, vote: Vote) -> bytes | None:
        """What it votes for before one peer; None: it keeps its vote to itself."""
        raise NotImplementedError

    def known(self) -> list[bytes]:
        """Headers that may be voted for, and nil."""
        known = [hash_ for hash_, _, _ in self.round.candidates.judgeable()] if self.round is not None else []
        return [*known, NIL]


@adversary
class EquivocatingVoter(Voter):
    """What its friend proposed to each side; else to one side what the machine voted, to the other something else."""

    name = "equivocating voter"

    def votes_for(self, peer: PeerId, vote: Vote) -> bytes | None:
        agreed = self.gang.header_for(vote.round, vote.view, peer)
        if agreed is not None:
            return agreed
        if self.gang.side_of(peer) == 0:
            return vote.header
        others = [header for header in self.known() if header != vote.header]
        return self.chance.choice(others) if others else NIL


@adversary
class NilVoter(Voter):
    """Never agrees."""

    name = "votes nil"

    def votes_for(self, peer: PeerId, vote: Vote) -> bytes | None:
        return NIL


@adversary
class HalfSilentVoter(Voter):
    """Precommits before one side only."""

    name = "precommits for some"

    def votes_for(self, peer: PeerId, vote: Vote) -> bytes | None:
        return None if vote.step == "precommit" and self.gang.side_of(peer) == 1 else vote.header


@adversary
class StorySeller(Adversary):
    """In the first view a vote for the header before the favourite, and nil before all others; later yes to everything.
    With a malicious network the favourite decides alone, and only locks keep the others with it."""

    name = "tells two stories"

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if isinstance(message, Records) and isinstance(self.node.record(message.items[0]), Vote):
            return ()
        return (message,)

    def hears(self, event: fx.Event) -> bool:
        match event:
            case fx.Received(_, Proposed(run=run, proposal=raw)):
                proposal = self.node.record(raw)
                if isinstance(proposal, Proposal):
                    self._vote(run, proposal)
        return True

    def _vote(self, run: bytes, proposal: Proposal) -> None:
        malice = self.world.network.malice
        favourite = malice.favourite(proposal.round).peer if malice is not None else self.gang.target()
        for peer in self.others():
            header = proposal.header if proposal.view > 0 or peer == favourite else NIL
            for step in ("prevote", "precommit"):
                vote = Vote(run, proposal.round, 0, proposal.view, step, header)  # type: ignore[arg-type]
                self.node.post(peer, Records(run, (self.node.envelopes.seal(vote).raw,)))


@adversary
class SplitBrain(EquivocatingProposer):
    """Two right headers for two sides, and at once every liar's votes, both steps, for what each side was told. Whole
    quorums come of it where more lie than the committee survives."""

    name = "split brain"

    def says(self, peer: PeerId, message: OverlayMessage) -> Iterable[OverlayMessage]:
        if isinstance(message, Records):
            vote = self.node.record(message.items[0])
            if isinstance(vote, Vote) and (vote.round, vote.view) in self.gang.headers:
                return ()  # said already
        return super().says(peer, message)

    def other_story(self, message: Proposed) -> Proposed:
        known = message.proposal in self._stories
        story = super().other_story(message)
        proposal = self.node.record(message.proposal)
        if not known and isinstance(proposal, Proposal) and (proposal.round, proposal.view) in self.gang.headers:
            for liar in self.gang.nodes:
                for plan in liar.adversaries:
                    if isinstance(plan, SplitBrain):
                        plan.vote_for_both(message.run, proposal)
        return story

    def vote_for_both(self, run: bytes, proposal: Proposal) -> None:
        """Prevote and precommit, before anybody has counted anything."""
        for peer in self.others():
            header = self.gang.header_for(proposal.round, proposal.view, peer)
            for step in ("prevote", "precommit"):
                vote = Vote(run, proposal.round, 0, proposal.view, step, header or NIL)  # type: ignore[arg-type]
                self.node.post(peer, Records(run, (self.node.envelopes.seal(vote).raw,)))


@adversary
class FalseMemory(Adversary):
    """Tells who wakes up of records that it never signed."""

    name = "lies to who wakes up"

    def recalls(self, peer: PeerId, items: tuple[bytes, ...]) -> tuple[bytes, ...]:
        own = join_of(self.world, self.node.envelopes, self.gang.round + 1).raw
        signed = self.node.envelopes.peek(own).envelope
        return (b"junk", own, encode(msgspec.structs.replace(signed, signer=peer)), *items)
