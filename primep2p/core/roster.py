"""Who is a member: computed from each certified header, chosen by nobody [M1-M8]."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from primep2p.core.admission import JOIN_LIFETIME
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.records import (
    MAX_EXPELLED,
    MAX_MEMBERS,
    Departure,
    InviteUse,
    Member,
    Newcomer,
    Parted,
    RoundPolicy,
    RunState,
)
from primep2p.wire.codec import digest, encode

__all__ = ["Turnout", "advance", "first_state", "peers_of", "state_hash"]

UNFORGIVING_MINIMUM = 4
"""The smallest committee that survives a liar: silence alone does not shrink a roster below it, unless asked to."""


@dataclass(frozen=True)
class Turnout:
    """What a round shows of its members, and who comes and goes by what members sign."""

    due: frozenset[PeerId]
    """Committee and cohort."""
    seen: frozenset[PeerId]
    blamed: frozenset[PeerId] = frozenset()
    revealer: PeerId = ""
    reveal: bytes = b""
    """What the first of the committee revealed, if it did."""
    newcomers: tuple[Newcomer, ...] = ()
    """Admissible ones; those that find no room wait."""
    expelled: tuple[Departure, ...] = ()
    """Convicted or banned, each once."""
    leaving: frozenset[PeerId] = frozenset()
    """Members that want to be none any more, by their own word."""
    parent: Hash = b""
    """Of the header before this round."""
    used: Mapping[PeerId, int] = field(default_factory=dict)
    """Buffered: the round up to which updates count no more, of those whose updates entered or were blamed [C4]."""


def peers_of(state: RunState) -> frozenset[PeerId]:
    """The roster's peers."""
    return frozenset(member.peer for member in state.members)


def state_hash(state: RunState) -> Hash:
    """What the header names [M1]."""
    return digest("state", encode(state))


def first_state(run: RunId, policy: RoundPolicy, newcomers: tuple[Newcomer, ...]) -> RunState:
    """The state of checkpoint 0, in which all who are named join."""
    minimum = policy.min_members or min(len(newcomers), UNFORGIVING_MINIMUM)
    return RunState(run, 0, _sorted([], newcomers, 0), minimum, (), _invites((), newcomers, 0))


def advance(
    state: RunState, turnout: Turnout, policy: RoundPolicy
) -> tuple[RunState, tuple[Newcomer, ...], tuple[Departure, ...]]:
    """The state after the next round, who joined and who left, sorted by peer.

    The convicted and the banned leave whatever the size, but for the last member, and so does who wants to. Silence
    drops the most silent first, and never below the minimum [M3, M4, M5, M8].
    """
    round = state.round + 1
    expelled = _but_for_the_last(state, turnout.expelled)
    gone = {departure.peer for departure in expelled}
    parted = _parted(state, turnout.leaving - gone, gone, round)
    leaving = {each.peer for each in parted if each.round == round}
    kept = [_after(member, turnout, round) for member in state.members if member.peer not in gone | leaving]
    welcome = _with_countable_invites((n for n in turnout.newcomers if n.peer not in gone), state.invites)
    newcomers = welcome[: max(0, MAX_MEMBERS - len(kept))]
    spare = max(0, len(kept) + len(newcomers) - state.min_members)
    silent = sorted((m for m in kept if m.missed >= policy.drop_after), key=lambda m: (-m.missed, m.peer))
    dropped = {m.peer for m in silent[:spare]}
    left = [*expelled, *(Departure(p, "dropped") for p in dropped), *(Departure(p, "left") for p in leaving)]
    after = RunState(
        state.run,
        round,
        _sorted([m for m in kept if m.peer not in dropped], newcomers, round),
        state.min_members,
        _remembered(state.expelled, gone),
        _invites(state.invites, newcomers, round),
        parted,
        (turnout.parent, *state.bases)[: policy.max_staleness] if policy.is_buffered else (),
    )
    return after, newcomers, tuple(sorted(left, key=lambda departure: departure.peer))


def _but_for_the_last(state: RunState, expelled: tuple[Departure, ...]) -> tuple[Departure, ...]:
    """A run without members could never go on: of all of them the first stays."""
    if peers_of(state) <= {departure.peer for departure in expelled}:
        return tuple(departure for departure in expelled if departure.peer != state.members[0].peer)
    return expelled


def _parted(state: RunState, leaving: frozenset[PeerId], gone: set[PeerId], round: int) -> tuple[Parted, ...]:
    """Who left lately, and who does now: of all that would stay the first does, and who finds no room waits [M8]."""
    staying = sorted(peers_of(state) - gone)
    if leaving.issuperset(staying):
        leaving -= set(staying[:1])
    lately = [each for each in state.parted if each.round + JOIN_LIFETIME > round and each.peer not in leaving]
    now = [Parted(peer, round) for peer in staying if peer in leaving]
    return tuple(sorted((*lately, *now[: max(0, MAX_MEMBERS - len(lately))]), key=lambda each: each.peer))


def _remembered(before: tuple[PeerId, ...], gone: set[PeerId]) -> tuple[PeerId, ...]:
    """Nobody who was expelled once gets in again by having others expelled: where the room ends, the newest are not
    remembered [M5]."""
    fresh = sorted(gone.difference(before))[: max(0, MAX_EXPELLED - len(before))]
    return tuple(sorted((*before, *fresh)))


def _after(member: Member, turnout: Turnout, round: int) -> Member:
    """A member's books after a round: only who was due can have missed it."""
    revealed = turnout.reveal if member.peer == turnout.revealer else b""
    due, seen = member.peer in turnout.due, member.peer in turnout.seen
    return Member(
        peer=member.peer,
        since=member.since,
        missed=0 if seen else member.missed + due,
        kernels=member.kernels,
        anchor=revealed or member.anchor,
        anchored=round if revealed else member.anchored,
        heard=round if seen else member.heard,
        rounds_done=member.rounds_done + (due and seen),
        rounds_missed=member.rounds_missed + (due and not seen),
        rounds_blamed=member.rounds_blamed + (member.peer in turnout.blamed),
        used=turnout.used.get(member.peer, member.used),
    )


def _sorted(members: list[Member], newcomers: Iterable[Newcomer], round: int) -> tuple[Member, ...]:
    fresh = [Member(n.peer, round, 0, n.kernels, n.anchor, n.anchored) for n in newcomers]
    return tuple(sorted((*members, *fresh), key=lambda member: member.peer))


def _with_countable_invites(newcomers: Iterable[Newcomer], counted: tuple[InviteUse, ...]) -> tuple[Newcomer, ...]:
    """A state of more invites than have room could not be read again: who brings one more waits until others are
    over [M6]."""
    known, welcome = {use.invite for use in counted}, []
    for newcomer in newcomers:
        if not newcomer.invite or newcomer.invite in known or len(known) < MAX_MEMBERS:
            known |= {newcomer.invite} - {b""}
            welcome.append(newcomer)
    return tuple(welcome)


def _invites(before: tuple[InviteUse, ...], newcomers: Iterable[Newcomer], round: int) -> tuple[InviteUse, ...]:
    """Uses of invites that are good for a later round: an old one needs no counting [M6]."""
    used = {use.invite: use for use in before}
    for newcomer in newcomers:
        if newcomer.invite:
            count = used[newcomer.invite].used if newcomer.invite in used else 0
            used[newcomer.invite] = InviteUse(newcomer.invite, newcomer.until, count + 1)
    return tuple(sorted((use for use in used.values() if use.until > round), key=lambda use: use.invite))
