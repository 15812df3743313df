"""Invites from whoever may make one to whoever uses it, and every reason why members would not admit this node."""

from dataclasses import replace

import msgspec
import pytest

from primep2p.core.admission import UNINVITED, request_of
from primep2p.core.chain import Head
from primep2p.keys import Identity
from primep2p.model.errors import CallError
from primep2p.model.records import Acceptance, Admission, InviteUse, RoundPolicy, RunSpec
from primep2p.services.runs.inviting import Invitation, accept, check_welcome, invite
from primep2p.wire.envelope import Envelopes, Opened
from primep2p.wire.token import Token, read_token, write_token
from tests.core.kit import NETWORK, Group, join_of, member, run_spec

SEED = bytes(range(32))
INVITER, NEW = member(1), 5
ADDRESSES = ("/ip4/127.0.0.1/tcp/4650",)
SPEC = run_spec(admission=Admission("invite", (), (INVITER.peer_id,)))
ME = member(NEW).peer_id


def token(spec: Opened[RunSpec] = SPEC, by: Envelopes = INVITER, *, uses: int = 1, until: int = 20) -> Token:
    return invite(by, spec, uses=uses, until=until, addresses=ADDRESSES, entropy=lambda count: SEED[:count])


def invitation(spec: Opened[RunSpec] = SPEC, **more: int) -> Invitation:
    return accept(member(NEW), token(spec, **more))


def refusal(spec: Opened[RunSpec], head: Head | None, invitation: Invitation | None, index: int = NEW) -> str:
    with pytest.raises(CallError) as refused:
        check_welcome(spec, head, member(index).peer_id, invitation)
    return refused.value.sentence


def head_of(spec: Opened[RunSpec], **state: object) -> Head:
    """A head of the run of `spec` in round 7 whose state says what matters here."""
    head = Group(3).head
    changed = msgspec.structs.replace(head.state, **state)
    ended = "rounds" if 0 < spec.record.policy.rounds <= 7 else ""
    header = msgspec.structs.replace(head.header, round=7, ended=ended)
    return replace(head, run=spec.hash, spec=spec.record, header=header, state=changed)


def test_an_inviter_makes_what_a_joiner_accepts_and_members_admit():
    made = token()
    assert (made.run, made.addresses, made.network) == (SPEC.hash, ADDRESSES, NETWORK)
    accepted = accept(member(NEW), read_token(write_token(made)))
    check_welcome(SPEC, None, ME, accepted)
    check_welcome(SPEC, head_of(SPEC), ME, accepted)
    request = request_of(SPEC.hash, SPEC.record, join_of(NEW, SPEC, invitation=accepted.raws), member(0).open_any)
    assert request.invite is not None
    assert (request.peer, request.invite.signer) == (ME, INVITER.peer_id)
    assert Invitation.of(accepted.raws, member(NEW)) == accepted
    assert Invitation.of(UNINVITED, member(NEW)) is None


def test_the_key_of_the_bearer_is_in_the_token_and_nowhere_in_what_a_join_brings():
    assert token().seed == SEED
    assert SEED not in b"".join(invitation().raws)


@pytest.mark.parametrize("index", [2, NEW])
def test_who_may_not_invite_is_told_who_may(index):
    with pytest.raises(CallError, match=f"only {member(0).peer_id} and {INVITER.peer_id} may invite"):
        token(by=member(index))


@pytest.mark.parametrize("mode", ["open", "allowlist"])
def test_a_run_that_takes_no_invites_says_so_at_both_ends(mode):
    spec = run_spec(admission=Admission(mode, (ME,) if mode == "allowlist" else ()))
    with pytest.raises(CallError, match=f"takes no invites: its admission is '{mode}'"):
        token(spec, member(0))
    assert refusal(spec, None, invitation()).endswith(f"takes no invites: its admission is '{mode}'")


def test_an_invite_of_another_network_is_refused():
    there = Envelopes("elsewhere", Identity(SEED))
    with pytest.raises(CallError, match="the invite is for the network 'kit', and this node is of 'elsewhere'"):
        accept(there, token())
    renamed = msgspec.structs.replace(token(), network="elsewhere")
    with pytest.raises(CallError, match="the invite is forged: its signature does not hold"):
        accept(there, renamed)


def test_an_invite_whose_parts_do_not_belong_together_is_refused():
    for forged in (
        msgspec.structs.replace(token(), run=bytes(32)),
        msgspec.structs.replace(token(), seed=bytes(32)),
        msgspec.structs.replace(token(), invite=member(1).seal(Acceptance(SPEC.hash, ME)).raw),
    ):
        with pytest.raises(CallError, match="the invite is forged"):
            accept(member(NEW), forged)


def test_without_an_invite_only_the_creator_and_members_are_welcome():
    assert refusal(SPEC, None, None).endswith("is by invite only")
    check_welcome(SPEC, None, SPEC.record.creator, None)
    check_welcome(SPEC, head_of(SPEC), member(2).peer_id, None)


def test_an_allowlist_says_whom_it_does_not_name():
    spec = run_spec(admission=Admission("allowlist", (member(4).peer_id,)))
    assert "admits only the peers that its creator listed" in refusal(spec, None, None)
    check_welcome(spec, None, member(4).peer_id, None)
    check_welcome(spec, None, spec.record.creator, None)


def test_an_invite_ends_with_its_last_round():
    assert refusal(SPEC, head_of(SPEC), invitation(until=7)) == (
        "the invite has expired: it was good up to round 7, and the run is at 7"
    )
    check_welcome(SPEC, head_of(SPEC), ME, invitation(until=8))


def test_an_invite_ends_with_its_last_use():
    twice = invitation(uses=2)

    def used(count: int) -> Head:
        return head_of(SPEC, invites=(InviteUse(twice.invite.hash, 20, count),))

    check_welcome(SPEC, used(1), ME, twice)
    assert refusal(SPEC, used(2), twice) == "the invite is used up: 2 members joined by it, and it was for no more"


def test_an_invite_of_another_run_or_by_one_who_may_not_invite_is_refused():
    other = run_spec(creator=2, admission=Admission("invite"))
    assert refusal(other, None, invitation()) == "the invite is for another run"
    sealed = member(3).seal(msgspec.structs.replace(invitation().invite.record))
    by_nobody = replace(invitation(), invite=sealed)
    assert refusal(SPEC, None, by_nobody).endswith(f"is by {member(3).peer_id}, who may not invite to this run")


def test_a_finished_run_admits_nobody_and_refuses_nobody_its_model():
    spec = run_spec(policy=RoundPolicy(rounds=7, first_members=1, min_updates=1), admission=Admission("invite"))
    check_welcome(spec, head_of(spec), ME, None)
    unfinished = run_spec(policy=RoundPolicy(rounds=8, first_members=1, min_updates=1), admission=Admission("invite"))
    assert refusal(unfinished, head_of(unfinished), None).endswith("is by invite only")


def test_whoever_was_expelled_is_told_whatever_it_brings():
    head = head_of(SPEC, expelled=(ME,))
    assert "this node was expelled from run" in refusal(SPEC, head, invitation())
    assert "this node was expelled from run" in refusal(SPEC, head, None)
