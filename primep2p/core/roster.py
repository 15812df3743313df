"""Who is a member: computed from each certified header, chosen by nobody [M1-M5]."""

from collections.abc import Iterable

from primep2p.core.sortition import ranked
from primep2p.core.votes import Committee
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.records import MAX_MEMBERS, Join, Member, RosterChange, RoundPolicy, RunSpec, RunState
from primep2p.wire.codec import digest, encode

__all__ = [
    "JOIN_LIFETIME",
    "admits",
    "advance",
    "check_newcomers",
    "committee_of",
    "first_state",
    "peers_of",
    "state_hash",
]

JOIN_LIFETIME = 16
"""Rounds in which a Join is valid: enough for a joiner that is slow to be heard, too few to replay it for ever."""

HASH_BYTES = 32

UNFORGIVING_MINIMUM = 4
"""The smallest committee that survives a liar: silence alone does not shrink a roster below it, unless asked to."""


def peers_of(state: RunState) -> frozenset[PeerId]:
    """The roster's peers."""
    return frozenset(member.peer for member in state.members)


def state_hash(state: RunState) -> Hash:
    """What the header names [M1]."""
    return digest("state", encode(state))


def committee_of(state: RunState, beacon: Hash, policy: RoundPolicy) -> Committee:
    """Who votes in the round after `state`, in rank order, with its quorum."""
    order = ranked(beacon, "committee", tuple(member.peer for member in state.members))
    return Committee.of(order, policy.consensus_threshold)


def admits(spec: RunSpec, state: RunState | None, peer: PeerId, join: Join, *, round: int) -> bool:
    """Whether `join` makes `peer` a member in the checkpoint of `round` [M2]. `state` is None before checkpoint 0."""
    if spec.admission.mode == "allowlist" and peer not in spec.admission.peers and peer != spec.creator:
        return False
    if not round - JOIN_LIFETIME <= join.round <= round:
        return False
    return state is None or not (peer in state.convicted or peer in peers_of(state))


def check_newcomers(spec: RunSpec, state: RunState | None, newcomers: Iterable[RosterChange]) -> None:
    """Whether a certified header may let these in, as far as can be seen without their Joins. Raises PeerError [K1]."""
    met: set[PeerId] = set()
    for change in newcomers:
        join = Join(b"", state.round if state else 0, (), change.kernels)
        admitted = admits(spec, state, change.peer, join, round=join.round)
        if not admitted or change.peer in met or len(change.kernels) != HASH_BYTES:
            raise PeerError(f"{change.peer} cannot have joined")
        met.add(change.peer)


def first_state(run: RunId, spec: RunSpec, joins: dict[PeerId, Join]) -> tuple[RunState, tuple[RosterChange, ...]]:
    """The state of checkpoint 0, in which all who are named join."""
    order = sorted(joins)
    minimum = spec.policy.min_members or min(len(order), UNFORGIVING_MINIMUM)
    members = tuple(Member(peer, since=0, missed=0, kernels=joins[peer].kernels) for peer in order)
    changes = tuple(RosterChange(peer, "joined", joins[peer].kernels) for peer in order)
    return RunState(run, 0, members, min_members=minimum), changes


def advance(
    state: RunState, *, seen: frozenset[PeerId], joined: Iterable[RosterChange], policy: RoundPolicy
) -> tuple[RunState, tuple[RosterChange, ...]]:
    """The state after the next round, and all roster changes of its header, sorted by peer.

    `joined` are the admissible joiners; those that find no room wait. Silence drops the most silent first [M3, M4].
    """
    round = state.round + 1
    kept = [Member(m.peer, m.since, 0 if m.peer in seen else m.missed + 1, m.kernels) for m in state.members]
    room = MAX_MEMBERS - len(kept)
    newcomers = sorted(joined, key=lambda change: change.peer)[:room]
    spare = max(0, len(kept) + len(newcomers) - state.min_members)
    silent = sorted((m for m in kept if m.missed >= policy.drop_after), key=lambda m: (-m.missed, m.peer))
    dropped = {m.peer for m in silent[:spare]}
    members = [m for m in kept if m.peer not in dropped]
    members += [Member(change.peer, since=round, missed=0, kernels=change.kernels) for change in newcomers]
    changes = [*newcomers, *(RosterChange(peer, "dropped") for peer in dropped)]
    after = RunState(
        state.run,
        round,
        tuple(sorted(members, key=lambda m: m.peer)),
        state.min_members,
        state.convicted,
    )
    return after, tuple(sorted(changes, key=lambda change: change.peer))
