"""core/runs: what a member hears in a round, from a liar that has its own key and everything that others signed."""

from collections.abc import Iterator
from functools import cache
from typing import get_args

from primep2p.core import effects as fx
from primep2p.core.allowances import HELD_BYTES_PER_MEMBER, HELD_PER_MEMBER
from primep2p.core.chain import Head
from primep2p.core.gossip import Records as Books
from primep2p.core.notices import MAX_BANS, MAX_REQUESTS
from primep2p.core.votes import convict, slot_of
from primep2p.model.errors import PeerError
from primep2p.model.messages import Certified, Chain, Digest, OverlayMessage, Proposed, Records, SyncAnswer
from primep2p.model.records import RoundPolicy
from primep2p.services.peers.members import MAX_FRAME_BYTES
from primep2p.wire.codec import decode, encode
from tests.core.kit import Group, Machine, join_of, member, verified
from tests.fuzz.kit import framed, of_types
from tests.fuzz.mutation import parts
from tests.fuzz.surface import MAX_INPUT_BYTES, Shape, Surface

MEMBERS, ME, LIAR = 4, 3, 0
"""By rank: the liar is the first proposer, and with four members one liar is what the run survives."""

STRANGER = 9
OWN_EVENT = 128
"""A part that begins with this or more is an event of this node's own, any other a message of the member of that rank,
or of a stranger."""

SHAPE = Shape(framed=True, prefix_bytes=1)
EFFECTS = get_args(fx.Effect)


@cache
def world() -> Group:
    """At checkpoint 0; nothing changes it."""
    return Group(MEMBERS, policy=RoundPolicy(first_members=1, min_updates=1, collect_s=60.0))


@cache
def later() -> tuple[Group, Head]:
    """The same run when others have certified the next round without this node."""
    group = Group(MEMBERS, policy=world().spec.record.policy)
    return group, group.go_on()


def fuzz(data: bytes) -> None:
    """Nothing raises; bytes that nobody signed change nothing; one liar makes no head, no second signature and no
    growth."""
    group = world()
    machine = Machine(group, group.ranks[ME])
    timers = _timers(machine)
    for part in parts(data, SHAPE):
        machine.now += 0.1
        before, done = snapshot(machine), len(machine.done)
        if part[:1] >= bytes([OWN_EVENT]):
            _own_event(machine, part[0], timers)
            continue
        if (event := _heard(group, part)) is None:
            continue
        effects = machine.handle(event)
        assert all(isinstance(effect, EFFECTS) for effect in effects)
        if _is_unsigned(event):
            assert snapshot(machine) == before
            assert all(_is_reply(effect, event.sender) for effect in machine.done[done:])
        _check(machine)
    _check_slots(machine)


def _heard(group: Group, part: bytes) -> fx.Received | fx.Synced | None:
    """As the overlay and sync hand it on; what does not decode gets no further."""
    rank = part[0] if part else 0
    sender = group.ranks[rank] if rank < MEMBERS else member(STRANGER)
    try:
        return fx.Received(sender.peer_id, decode(OverlayMessage, part[1:], limit=MAX_FRAME_BYTES))  # type: ignore[arg-type]
    except PeerError:
        pass
    try:
        answer: SyncAnswer = decode(SyncAnswer, part[1:])  # type: ignore[arg-type]
    except PeerError:
        return None
    return fx.Synced(sender.peer_id, answer.checkpoints) if isinstance(answer, Chain) else None


def _timers(machine: Machine) -> Iterator[fx.Timer]:
    """Those that the machine starts, the oldest first, each once."""
    at = 0
    while True:
        while at < len(machine.done):
            at += 1
            if isinstance(effect := machine.done[at - 1], fx.StartTimer):
                yield effect.timer
        yield fx.Moment(0, "none")


def _own_event(machine: Machine, number: int, timers: Iterator[fx.Timer]) -> None:
    peer = machine.group.ranks[number % MEMBERS].peer_id
    match number % 5:
        case 0:
            machine.train()
        case 1 | 2:
            machine.handle(fx.Expired(next(timers)))
        case 3 if peer != machine.who.peer_id:
            machine.run.connected.discard(peer)
            machine.handle(fx.Lost(peer))
        case 4 if peer != machine.who.peer_id:
            machine.handle(fx.Connected(peer))


def _is_unsigned(event: fx.Received | fx.Synced) -> bool:
    """Whether nothing that was sent is signed by anybody."""
    match event:
        case fx.Received(message=Records(items=items)):
            return not any(map(_opens, items))
        case fx.Received(message=Proposed(proposal=proposal)):
            return not _opens(proposal)
        case _:
            return False


def _is_reply(effect: fx.Effect, sender: str) -> bool:
    """What a claim that nobody signed may cause: it is refused, or taken as a hint that one of the two is behind."""
    return isinstance(effect, fx.Accuse | fx.CatchUp | fx.Send) and effect.peer == sender


def _opens(raw: bytes) -> bool:
    try:
        verified(raw)
    except PeerError:
        return False
    return True


def snapshot(machine: Machine) -> tuple[object, ...]:
    """All that a peer's message can change."""
    run, round = machine.run, machine.run.round
    ahead = {peer: tuple(held) for peer, held in run.allowances.held.items() if held}
    if round is None:
        return run.head.hash, ahead, tuple(run.notices.hashes())
    consensus, books = round.consensus, round.collection
    tally = {
        (key, header): tuple(votes)
        for key, headers in consensus.tally._votes.items()
        for header, votes in headers.items()
        if votes
    }
    return (
        run.head.hash,
        ahead,
        tuple(run.notices.hashes()),
        tuple(round.records.hashes()),
        tuple(books.updates),
        tuple(books.lists),
        tuple(books.equivocators),
        (consensus.view, consensus.step, consensus.locked, consensus.valid, consensus.decided),
        tally,
        tuple(round.candidates._by_hash),
    )


def _check(machine: Machine) -> None:
    """One liar of four certifies nothing that the others did not, and fills nothing."""
    run = machine.run
    _, head = later()
    if run.head.round == head.round:
        assert run.head.hash == head.hash or _signers(run.head) - {machine.who.peer_id, world().ranks[LIAR].peer_id}
    for held in run.allowances.held.values():
        assert len(held) <= HELD_PER_MEMBER
        assert sum(len(encode(message)) for message in held) <= HELD_BYTES_PER_MEMBER + MAX_INPUT_BYTES
    assert len(run.notices.raws()) <= MAX_REQUESTS + MAX_BANS + MEMBERS
    assert len(run.notices.addresses) <= len(run.notices.raws())
    for culprit, evidence in run.notices.evidence.items():  # the seeds hold contradicting votes of everybody
        assert culprit in run.head.members
        assert convict(evidence, run.head.run, verified) == culprit
    if run.round is not None:
        _check_books(run.round.records)


def _signers(head: Head) -> set[str]:
    return {verified(raw).signer for raw in head.checkpoint.certificate.votes}


def _check_books(books: Books) -> None:
    assert all(len(held) <= 2 for held in books._slots.values())
    assert len(books.hashes()) == sum(len(held) for held in books._slots.values())


def _check_slots(machine: Machine) -> None:
    """Whatever it heard, it signed one record a slot."""
    slots: dict[object, bytes] = {}
    for opened in machine.signed:
        slot = slot_of(opened.record)
        assert slots.setdefault(slot, opened.hash) == opened.hash, slot


# ---- seeds: a round as it goes, and what a member may hear besides


def corpus() -> list[bytes]:
    group = world()
    updates, lists, bundle = group.full()
    header = group.header(bundle)
    proposed = group.proposed(group.ranks[0], bundle)
    hash_ = verified(proposed.proposal).record.header  # type: ignore[attr-defined]
    votes = [group.vote(who, hash_, step=step) for step in ("prevote", "precommit") for who in group.ranks[:3]]
    said = [(_rank(opened.signer), Records(group.run, (opened.raw,))) for opened in (*updates, *lists)]
    said += [(0, proposed), *((_rank(vote.signer), Records(group.run, (vote.raw,))) for vote in votes)]
    shown = Certified(group.run, group.checkpoint(header))
    round_ = [_part(rank, message) for rank, message in said]
    own = [bytes([OWN_EVENT + number]) for number in range(5)]
    late = [_part(1, message) for message in _next_round()]
    nil = [group.vote(who, b"", step="precommit", view=view) for who in group.ranks[:3] for view in range(3)]
    return [
        framed(own[2], *round_),
        framed(*round_, own[3], own[1]),
        framed(*round_[: len(round_) - 2], _part(2, shown), *late),
        framed(*late, _part(1, shown), *own),
        framed(*(_part(_rank(vote.signer), Records(group.run, (vote.raw,))) for vote in nil), *own),
        framed(_part(0, Records(group.run, tuple(o.raw for o in (*updates, *lists, *votes)))), _part(0, proposed)),
        framed(*(_part(STRANGER, message) for message in _strangers())),
        framed(_part(1, Chain((shown.checkpoint, *_chain()), b"state"))),
        framed(*(bytes([LIAR]) + raw for raw in of_types(get_args(OverlayMessage)))),
    ]


def _strangers() -> list[OverlayMessage]:
    group = world()
    joins = [join_of(number, group.spec, address="/ip4/192.0.2.7/tcp/4650") for number in range(20, 24)]
    return [
        Records(group.run, tuple(join.raw for join in joins)),
        Digest(group.run, 1, (bytes(8), joins[0].hash[:8])),
        Digest(group.run, 9, ()),
        Digest(group.run, 0, ()),
    ]


def _next_round() -> list[OverlayMessage]:
    group, _ = later()
    updates, lists, bundle = group.full()
    return [
        *(Records(group.run, (opened.raw,)) for opened in (*updates, *lists)),
        group.proposed(group.ranks[0], bundle),
    ]


def _chain():  # type: ignore[no-untyped-def]
    group, _ = later()
    return [group.checkpoint(group.header(group.full()[2]))]


def _rank(peer: str) -> int:
    return world().head.committee.members.index(peer)


def _part(rank: int, message: object) -> bytes:
    return bytes([rank]) + encode(message)  # type: ignore[arg-type]


def _signers_of() -> dict[str, object]:
    liar = world().ranks[LIAR]
    strangers: list[object] = [member(number) for number in (STRANGER, *range(20, 24))]
    return {sealer.peer_id: sealer for sealer in (liar, *strangers)}  # type: ignore[attr-defined]


SURFACE = Surface(fuzz, corpus, SHAPE, signers=_signers_of(), examples_per_test=40)
