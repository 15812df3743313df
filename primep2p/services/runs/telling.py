"""What happens in a round, as its owner is told."""

from collections.abc import Iterator

import msgspec

from primep2p.core.chain import Head, header_hash
from primep2p.core.roster import peers_of
from primep2p.model.records import Collected, Header, Proposal, RunState, Update, Vote
from primep2p.model.views.events import (
    AnyEvent,
    ListArrived,
    MemberJoined,
    MemberLeft,
    Proposed,
    RoundCertified,
    UpdateArrived,
    Voted,
)
from primep2p.store.seam import StoredCheckpoint
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["arrival", "certified", "past_rounds", "roster_changes"]


def arrival(run: str, opened: Opened[msgspec.Struct]) -> AnyEvent | None:
    """A record that counts in the round; None where it is of a kind that the owner is not told of."""
    peer = opened.signer
    match opened.record:
        case Update(round=round_, delta=delta, examples=examples):
            return UpdateArrived(run=run, round=round_, peer=peer, delta=delta, examples=examples)
        case Collected(round=round_, updates=updates):
            return ListArrived(run=run, round=round_, peer=peer, updates=len(updates))
        case Proposal(round=round_, view=view, header=header):
            return Proposed(run=run, round=round_, view=view, peer=peer, header=header.hex())
        case Vote(round=round_, view=view, step=step, header=header):
            return Voted(run=run, round=round_, view=view, step=step, peer=peer, header=header.hex())
    return None


def roster_changes(head: Head) -> Iterator[AnyEvent]:
    """Who came and went with a checkpoint."""
    run, header = head.run.hex(), head.header
    for newcomer in header.joined:
        yield MemberJoined(run=run, round=header.round, peer=newcomer.peer)
    for departure in header.left:
        yield MemberLeft(run=run, round=header.round, peer=departure.peer, reason=departure.reason)


def certified(stored: StoredCheckpoint, seconds: float, envelopes: Envelopes) -> RoundCertified:
    """A certified round, so many seconds after the one before."""
    header, state = decode(Header, stored.checkpoint.header), decode(RunState, stored.state)
    votes = [envelopes.peek(raw) for raw in stored.checkpoint.certificate.votes]
    first = envelopes.read(votes[0]) if votes else None
    entered = () if header.void else header.inclusions
    return RoundCertified(
        run=header.run.hex(),
        at_s=stored.at_s,
        round=header.round,
        header=header_hash(stored.checkpoint.header).hex(),
        params=header.params,
        participants=[inclusion.trainer for inclusion in entered],
        staleness=[inclusion.staleness for inclusion in entered],
        signers=[vote.signer for vote in votes],
        roster=sorted(peers_of(state)),
        metrics={metric.name: metric.value for metric in header.metrics},
        void=header.void,
        view=first.view if isinstance(first, Vote) else 0,
        seconds=seconds,
    )


def past_rounds(chain: list[StoredCheckpoint], envelopes: Envelopes) -> list[RoundCertified]:
    """Rounds as they were told when they were certified. How long the first of them took is not known."""
    befores = [chain[0], *chain] if chain else []
    return [
        certified(stored, max(0.0, stored.at_s - before.at_s), envelopes)
        for before, stored in zip(befores, chain, strict=False)
    ]
