"""Who may become a member: open, on a list, or by an invite [M2, M6]."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from primep2p.core.beacons import HASH_BYTES, chain_of
from primep2p.core.votes import Open
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import Acceptance, Invite, Join, Newcomer, RunSpec, RunState
from primep2p.wire.codec import digest
from primep2p.wire.envelope import Envelopes, Opened

__all__ = [
    "JOIN_LIFETIME",
    "UNINVITED",
    "Request",
    "admits",
    "check_newcomers",
    "join_of",
    "newcomers_of",
    "request_of",
]

JOIN_LIFETIME = 16
"""Rounds in which a Join is valid: enough for a joiner that is slow to be heard, too few to replay it for ever."""

MAX_JOIN_BYTES = 4096
"""Of an envelope, fields that a later version appends included: 256 notices have room in a bundle [E6]."""

ROOM_FOR_ADDRESSES = 3072
"""What all else in a Join leaves of that."""

UNINVITED = (b"", b"")
"""In place of an invite and its acceptance."""


@dataclass(frozen=True)
class Request:
    """A Join that is whole: where it brings an invite, that is signed by who may, and for this peer."""

    join: Opened[Join]
    invite: Opened[Invite] | None = None

    @property
    def peer(self) -> PeerId:
        """Who wants to join."""
        return self.join.signer

    @property
    def newcomer(self) -> Newcomer:
        """What the header says once it is admitted."""
        record, invite = self.join.record, self.invite
        return Newcomer(
            self.join.signer,
            record.kernels,
            record.anchor,
            record.round,
            invite.hash if invite else b"",
            invite.record.until if invite else 0,
        )


def join_of(
    envelopes: Envelopes,
    spec: Opened[RunSpec],
    *,
    round: int,
    addresses: tuple[str, ...],
    kernels: Hash,
    invitation: tuple[bytes, bytes] = UNINVITED,
) -> Opened[Join]:
    """This node's own Join, as of `round`. `invitation` is an invite and its acceptance, as envelopes."""
    fit = [
        address
        for address, end in zip(addresses, accumulate(map(_bytes_of, addresses)), strict=True)
        if end <= ROOM_FOR_ADDRESSES
    ]
    element = chain_of(envelopes, spec.hash, spec.record.policy).element(round)
    anchor = element or digest("reveal", spec.hash)  # too late for a chain: nothing will be revealed
    return envelopes.seal(Join(spec.hash, round, tuple(fit), kernels, anchor, *invitation))


def request_of(run: Hash, spec: RunSpec, join: Opened[Join], open_: Open) -> Request:
    """What `join` asks for. Raises PeerError where it is of another run, or its invite is not good for it: whose fault
    that is shows in nothing that others relay, so it is the joiner's [M6]."""
    if join.record.run != run:
        raise PeerError("a Join of another run")
    if len(join.raw) > MAX_JOIN_BYTES:
        raise PeerError("a Join of more bytes than a Join may have")
    if spec.admission.mode != "invite" or not join.record.invite:
        return Request(join)
    invite = open_(join.record.invite).of(Invite)
    acceptance = open_(join.record.acceptance).of(Acceptance)
    if invite.record.run != run or invite.signer not in (spec.creator, *spec.admission.inviters):
        raise PeerError("an invite of another run, or of somebody who may not invite")
    if (acceptance.record.run, acceptance.record.peer) != (run, join.signer):
        raise PeerError("an invite that was accepted for somebody else")
    if acceptance.signer != invite.record.bearer:
        raise PeerError("an invite that was not accepted with its own key")
    return Request(join, invite)


def admits(spec: RunSpec, state: RunState | None, request: Request, *, round: int) -> bool:
    """Whether the peer may become a member in the checkpoint of `round`, if there is room [M2]. `state` is None before
    checkpoint 0."""
    if not round - JOIN_LIFETIME <= request.join.record.round <= round:
        return False
    if not _is_free(state, request.peer) or request.join.record.round < _parted(state).get(request.peer, 0):
        return False
    match spec.admission.mode:
        case "open":
            return True
        case "allowlist":
            return request.peer in (spec.creator, *spec.admission.peers)
        case "invite":
            return request.peer == spec.creator or _is_good(request.invite, state, round)


def newcomers_of(
    spec: RunSpec, state: RunState | None, requests: Iterable[Request], *, round: int
) -> tuple[Newcomer, ...]:
    """Who is admitted of these, sorted by peer, each once; an invite lets no more in than it is for [M4, M6]."""
    first: dict[PeerId, Request] = {}
    for request in sorted(requests, key=lambda request: (request.peer, request.join.hash)):
        if admits(spec, state, request, round=round):
            first.setdefault(request.peer, request)
    used = _uses(state)
    newcomers = []
    for request in first.values():
        if request.invite is not None:
            hash_ = request.invite.hash
            if used.get(hash_, 0) >= request.invite.record.uses:
                continue
            used[hash_] = used.get(hash_, 0) + 1
        newcomers.append(request.newcomer)
    return tuple(newcomers)


def check_newcomers(spec: RunSpec, state: RunState | None, newcomers: Iterable[Newcomer], *, round: int) -> None:
    """Whether a certified header may let these in, as far as can be seen without their Joins. Raises PeerError [K1]."""
    before, parted = "", _parted(state)
    for newcomer in newcomers:
        listed = spec.admission.mode != "allowlist" or newcomer.peer in (spec.creator, *spec.admission.peers)
        invited = _is_invited(spec, newcomer, round)
        fresh = max(round - JOIN_LIFETIME, parted.get(newcomer.peer, 0)) <= newcomer.anchored <= round
        if not (listed and invited and fresh and _is_free(state, newcomer.peer) and newcomer.peer > before):
            raise PeerError(f"{newcomer.peer} cannot have joined")
        before = newcomer.peer


def _bytes_of(address: str) -> int:
    return len(address.encode()) + 3


def _is_free(state: RunState | None, peer: PeerId) -> bool:
    return state is None or (peer not in state.expelled and all(peer != member.peer for member in state.members))


def _parted(state: RunState | None) -> dict[PeerId, int]:
    """Who left, and when: a Join from before, which anybody may have kept, does not bring it back [M8]."""
    return {parted.peer: parted.round for parted in state.parted} if state else {}


def _is_good(invite: Opened[Invite] | None, state: RunState | None, round: int) -> bool:
    if invite is None or invite.record.until < round:
        return False
    return _uses(state).get(invite.hash, 0) < invite.record.uses


def _is_invited(spec: RunSpec, newcomer: Newcomer, round: int) -> bool:
    """With an invite that may be good, or without any where none is asked for: what a header says of others would fill
    the state's count of uses."""
    if (newcomer.invite, newcomer.until) == (b"", 0):
        return spec.admission.mode != "invite" or newcomer.peer == spec.creator
    return spec.admission.mode == "invite" and len(newcomer.invite) == HASH_BYTES and newcomer.until >= round


def _uses(state: RunState | None) -> dict[Hash, int]:
    return {use.invite: use.used for use in state.invites} if state else {}
