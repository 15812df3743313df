"""Invites: made as a text to hand over, and used by whoever was given one [M6]."""

from collections.abc import Callable
from dataclasses import dataclass

from primep2p.core.admission import UNINVITED
from primep2p.core.chain import Head
from primep2p.keys import Identity
from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import PeerId
from primep2p.model.records import Acceptance, Invite, RunSpec
from primep2p.wire.envelope import Envelopes, Opened
from primep2p.wire.token import Token

__all__ = ["Invitation", "accept", "check_welcome", "invite"]


@dataclass(frozen=True)
class Invitation:
    """An invite that this node has accepted: without the key of its bearer, which nobody needs any more."""

    invite: Opened[Invite]
    acceptance: Opened[Acceptance]

    @property
    def raws(self) -> tuple[bytes, bytes]:
        """What a Join brings."""
        return self.invite.raw, self.acceptance.raw

    @classmethod
    def of(cls, raws: tuple[bytes, bytes], envelopes: Envelopes) -> "Invitation | None":
        """What a Join of this node's own brought; None where that was nothing."""
        if raws == UNINVITED:
            return None
        return cls(envelopes.open(Invite, raws[0]), envelopes.open(Acceptance, raws[1]))


def invite(
    envelopes: Envelopes,
    spec: Opened[RunSpec],
    *,
    uses: int,
    until: int,
    addresses: tuple[str, ...],
    entropy: Callable[[int], bytes],
) -> Token:
    """A new invite, signed by this node. Raises CallError where that may not invite."""
    admission, name = spec.record.admission, spec.hash.hex()[:12]
    if admission.mode != "invite":
        raise CallError(
            f"run {name} takes no invites: its admission is {admission.mode!r}",
            hint=f"others join with: primep2p run join {spec.hash.hex()}",
        )
    inviters = (spec.record.creator, *admission.inviters)
    if envelopes.peer_id not in inviters:
        raise CallError(
            f"only {' and '.join(dict.fromkeys(inviters))} may invite to run {name}", hint="ask for an invite there"
        )
    bearer = Identity(entropy(32))
    sealed = envelopes.seal(Invite(spec.hash, bearer.peer_id, uses, until))
    return Token(spec.hash, sealed.raw, bearer.seed, addresses, envelopes.network)


ANOTHER = "ask for another one, and hand over the whole line"


def accept(envelopes: Envelopes, token: Token) -> Invitation:
    """The invite in a token, and this node's acceptance of it. Raises CallError where it is of another network, or its
    parts do not belong together."""
    if token.network != envelopes.network:
        raise CallError(
            f"the invite is for the network {token.network!r}, and this node is of {envelopes.network!r}",
            hint="set node.network in node.toml, or use a node of that network",
        )
    bearer = Identity(token.seed)
    try:
        sealed = envelopes.open(Invite, token.invite)
    except PeerError as error:
        raise CallError("the invite is forged: its signature does not hold", hint=ANOTHER) from error
    if (sealed.record.run, sealed.record.bearer) != (token.run, bearer.peer_id):
        raise CallError("the invite is forged: it is for another run, or another key, than it says", hint=ANOTHER)
    acceptance = Envelopes(envelopes.network, bearer).seal(Acceptance(token.run, envelopes.peer_id))
    return Invitation(sealed, acceptance)


def check_welcome(spec: Opened[RunSpec], head: Head | None, me: PeerId, invitation: Invitation | None) -> None:
    """Whether members would admit this node now, as far as can be seen from here. Raises CallError that says why not.

    `head` is None before the run has begun."""
    record, name, run = spec.record, spec.hash.hex()[:12], spec.hash.hex()
    if head is not None and head.is_last:
        return  # nobody is admitted any more: whoever comes fetches the model
    if head is not None and me in head.state.expelled:
        raise CallError(f"this node was expelled from run {name}", hint="its members never admit it again")
    mode = record.admission.mode
    if mode != "invite" and invitation is not None:
        raise CallError(
            f"run {name} takes no invites: its admission is {mode!r}", hint=f"join with: primep2p run join {run}"
        )
    if me == record.creator or (head is not None and me in head.members):
        return
    if mode == "allowlist" and me not in record.admission.peers:
        raise CallError(
            f"run {name} admits only the peers that its creator listed, and this node is not one of them",
            hint=f"the creator is {record.creator}",
        )
    if mode != "invite":
        return
    if invitation is None:
        raise CallError(
            f"run {name} is by invite only",
            hint=f"ask {record.creator} for one, which `primep2p run invite` prints; then: primep2p run join INVITE",
        )
    _check_invite(invitation.invite, spec, head)


def _check_invite(invite: Opened[Invite], spec: Opened[RunSpec], head: Head | None) -> None:
    another = f"ask {invite.signer} for another one"
    if invite.record.run != spec.hash:
        raise CallError("the invite is for another run", hint=another)
    if invite.signer not in (spec.record.creator, *spec.record.admission.inviters):
        raise CallError(
            f"the invite is by {invite.signer}, who may not invite to this run",
            hint=f"ask {spec.record.creator} for one",
        )
    if head is None:
        return
    if invite.record.until <= head.round:
        raise CallError(
            f"the invite has expired: it was good up to round {invite.record.until}, and the run is at {head.round}",
            hint=another,
        )
    used = next((use.used for use in head.state.invites if use.invite == invite.hash), 0)
    if used >= invite.record.uses:
        many = "one member" if used == 1 else f"{used} members"
        raise CallError(f"the invite is used up: {many} joined by it, and it was for no more", hint=another)
