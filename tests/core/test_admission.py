"""Who may join: on a list, by an invite, or anybody; for how long a Join is good."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.admission import (
    JOIN_LIFETIME,
    UNINVITED,
    Request,
    admits,
    check_newcomers,
    newcomers_of,
    request_of,
)
from primep2p.core.chain import follow
from primep2p.core.roster import Turnout, advance, first_state, state_hash
from primep2p.model.errors import PeerError
from primep2p.model.records import Admission, Header, InviteUse, Join, Newcomer, RoundPolicy, RunSpec, RunState
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened
from tests.core.kit import (
    BEARER,
    KERNELS,
    Group,
    accepted,
    invite_of,
    join_of,
    member,
    newcomer,
    run_spec,
    verified,
)

SPEC = run_spec()
OPEN = SPEC.record


def state_of(*members: int, expelled: tuple[int, ...] = (), round: int = 5) -> RunState:
    state = first_state(SPEC.hash, OPEN.policy, tuple(newcomer(i, SPEC) for i in members))
    gone = tuple(sorted(member(i).peer_id for i in expelled))
    return msgspec.structs.replace(state, round=round, expelled=gone)


def asking(index: int, *, round: int = 0) -> Request:
    return Request(join_of(index, SPEC, round=round))


@pytest.mark.parametrize(
    ("age", "admitted"), [(0, True), (1, True), (JOIN_LIFETIME, True), (JOIN_LIFETIME + 1, False), (-1, False)]
)
def test_a_join_is_good_for_so_many_rounds_and_never_before_its_own(age: int, admitted: bool) -> None:
    assert admits(OPEN, state_of(0, round=19 + age), asking(9, round=20), round=20 + age) is admitted


def test_neither_members_nor_expelled_peers_are_admitted() -> None:
    state = state_of(0, 1, expelled=(5,))
    assert [admits(OPEN, state, asking(i, round=5), round=6) for i in (0, 5, 6)] == [False, False, True]


def test_an_allowlist_admits_those_on_it_and_the_creator() -> None:
    spec = run_spec(admission=Admission("allowlist", (member(3).peer_id,))).record
    assert [admits(spec, None, asking(i), round=0) for i in (3, 4, 0)] == [True, False, True]


def test_newcomers_of_a_header_are_checked_as_far_as_can_be_seen() -> None:
    good, state = newcomer(9, SPEC, round=5), state_of(0)
    check_newcomers(OPEN, state, [good], round=6)
    bad: list[list[Newcomer]] = [
        [good, good],
        [newcomer(0, SPEC, round=5)],
        [newcomer(9, SPEC, round=7)],
        [msgspec.structs.replace(newcomer(9, SPEC), anchored=6 - JOIN_LIFETIME - 1)],
    ]
    for newcomers in bad:
        with pytest.raises(PeerError):
            check_newcomers(OPEN, state, newcomers, round=6)


def test_a_newcomer_whose_kernels_no_state_can_say_cannot_be_read() -> None:
    with pytest.raises(PeerError):
        decode(Newcomer, encode(msgspec.structs.replace(newcomer(9, SPEC), kernels=b"x")))


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8)), max_size=10), st.randoms())
def test_newcomers_are_sorted_each_once_and_the_same_in_whatever_order_their_joins_came(asked, chance) -> None:  # type: ignore[no-untyped-def]
    requests = [asking(index, round=round) for index, round in asked]
    state = state_of(0, 1, expelled=(2,))
    found = newcomers_of(OPEN, state, requests, round=6)
    chance.shuffle(requests)
    assert newcomers_of(OPEN, state, requests, round=6) == found
    expected = {member(index).peer_id for index, round in asked if index > 2 and round <= 6}
    assert [newcomer.peer for newcomer in found] == sorted(expected)
    check_newcomers(OPEN, state, found, round=6)


# ---- invites

INVITING = run_spec(admission=Admission("invite", inviters=(member(1).peer_id,)))
INVITE = invite_of(INVITING)


def request(index: int, invitation: tuple[bytes, bytes], *, round: int = 0, spec: object = None) -> Request:
    chosen = INVITING if spec is None else spec
    join = join_of(index, chosen, round=round, invitation=invitation)  # type: ignore[arg-type]
    return request_of(INVITING.hash, INVITING.record, join, verified)


def welcome(asked: Request, *, round: int = 0, state: RunState | None = None) -> bool:
    return admits(INVITING.record, state, asked, round=round)


def after(*uses: InviteUse) -> RunState:
    first = first_state(INVITING.hash, INVITING.record.policy, (newcomer(0, INVITING),))
    return msgspec.structs.replace(first, invites=uses)


@pytest.mark.parametrize("inviter", [0, 1])
def test_an_invite_of_the_creator_or_of_an_inviter_lets_its_bearer_in(inviter: int) -> None:
    assert welcome(request(7, accepted(invite_of(INVITING, by=inviter), INVITING, 7)))


def test_without_an_invite_only_the_creator_is_let_in() -> None:
    assert [welcome(request(i, UNINVITED)) for i in (0, 1, 7)] == [True, False, False]


NO_GOOD = {
    "of a stranger": lambda: accepted(invite_of(INVITING, by=7), INVITING, 7),
    "of another run": lambda: accepted(invite_of(SPEC), INVITING, 7),
    "accepted in another run": lambda: accepted(INVITE, SPEC, 7),
    "accepted with another key than its own": lambda: accepted(INVITE, INVITING, 7, bearer=7),
    "accepted with the inviter's own key": lambda: accepted(INVITE, INVITING, 7, bearer=0),
    "that another peer accepted": lambda: accepted(INVITE, INVITING, 8),
    "that nobody accepted": lambda: (INVITE, b""),
    "that is junk": lambda: (b"junk", b"junk"),
    "that is an acceptance": lambda: accepted(INVITE, INVITING, 7)[::-1],
}


@pytest.mark.parametrize("invitation", NO_GOOD.values(), ids=NO_GOOD)
def test_an_invite_is_refused(invitation) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PeerError):
        request(7, invitation())


def test_an_invite_with_a_forged_signature_is_refused() -> None:
    forged = invite_of(INVITING, by=7).replace(member(7).peer_id.encode(), member(0).peer_id.encode())
    with pytest.raises(PeerError):
        request(7, accepted(forged, INVITING, 7))


def test_an_invite_that_was_overheard_is_of_no_use_to_somebody_else() -> None:
    overheard = join_of(7, INVITING, invitation=accepted(INVITE, INVITING, 7)).record
    stolen = member(8).seal(msgspec.structs.replace(overheard))
    with pytest.raises(PeerError, match="for somebody else"):
        request_of(INVITING.hash, INVITING.record, stolen, verified)


def test_a_join_of_another_run_asks_for_nothing_here() -> None:
    with pytest.raises(PeerError, match="another run"):
        request(7, accepted(INVITE, INVITING, 7), spec=SPEC)


def test_an_open_run_does_not_look_at_invites() -> None:
    join: Opened[Join] = join_of(7, SPEC, invitation=(b"junk", b"junk"))
    asked = request_of(SPEC.hash, OPEN, join, verified)
    assert admits(OPEN, None, asked, round=0)
    assert (asked.newcomer.invite, asked.newcomer.until) == (b"", 0)


def test_an_invite_is_good_up_to_its_last_round() -> None:
    invitation = accepted(invite_of(INVITING, until=9), INVITING, 7)
    asked = request(7, invitation, round=5)
    assert [welcome(asked, round=round, state=after()) for round in (8, 9, 10)] == [True, True, False]


def test_an_invite_for_two_lets_in_two_of_a_round_in_the_order_of_their_ids() -> None:
    invite = invite_of(INVITING, uses=2)
    requests = [request(i, accepted(invite, INVITING, i)) for i in (5, 6, 7, 8)]
    found = newcomers_of(INVITING.record, None, requests, round=0)
    assert [new.peer for new in found] == sorted(member(i).peer_id for i in (5, 6, 7, 8))[:2]
    assert {new.invite for new in found} == {verified(invite).hash}


def test_an_invite_for_two_lets_in_two_over_all_rounds() -> None:
    invite = invite_of(INVITING, uses=2)
    hash_ = verified(invite).hash
    asked = [request(i, accepted(invite, INVITING, i)) for i in (7, 8)]
    for used, room in ((0, 2), (1, 1), (2, 0), (3, 0)):
        state = after(InviteUse(hash_, 20, used)) if used else after()
        assert welcome(asked[0], round=1, state=state) is (room > 0)
        assert len(newcomers_of(INVITING.record, state, asked, round=1)) == room


def test_one_invite_does_not_use_up_another() -> None:
    one, other = invite_of(INVITING, until=20), invite_of(INVITING, until=21)
    requests = [request(7, accepted(one, INVITING, 7)), request(8, accepted(other, INVITING, 8))]
    assert len(newcomers_of(INVITING.record, None, requests, round=0)) == 2


def test_an_invite_for_one_admits_its_bearer_once_however_often_it_asks() -> None:
    joins = [join_of(7, INVITING, address=where, invitation=accepted(INVITE, INVITING, 7)) for where in ("", "x")]
    requests = [request_of(INVITING.hash, INVITING.record, join, verified) for join in joins]
    assert len(newcomers_of(INVITING.record, None, requests, round=0)) == 1


def test_a_peer_that_was_expelled_is_not_let_in_by_an_invite() -> None:
    state = msgspec.structs.replace(after(), expelled=(member(7).peer_id,))
    assert not welcome(request(7, accepted(INVITE, INVITING, 7)), round=1, state=state)


# ---- what a quorum of liars could certify


def brought(index: int, *, invite: bytes = digest("any", b""), until: int = 20, round: int = 0) -> Newcomer:
    return msgspec.structs.replace(newcomer(index, INVITING, round=round), invite=invite, until=until)


UNINVITED_NEWCOMERS = {
    "without an invite": brought(7, invite=b""),
    "with half an invite": brought(7, invite=bytes(16)),
    "with an invite that is too old": brought(7, until=0),
}


@pytest.mark.parametrize("odd", UNINVITED_NEWCOMERS.values(), ids=UNINVITED_NEWCOMERS)
def test_a_certified_header_lets_in_nobody_without_a_good_invite(odd: Newcomer) -> None:
    group = Group(1, policy=RoundPolicy(first_members=1, min_updates=1), admission=INVITING.record.admission)
    header = decode(Header, group.header(group.full()[2]))

    def with_newcomer(new: Newcomer) -> bytes:
        head, seen = group.head, frozenset(header.seen)
        shown = Turnout(head.due, seen, revealer=head.revealer, reveal=header.reveal, newcomers=(new,))
        state, joined, _ = advance(head.state, shown, head.spec.policy)
        return encode(msgspec.structs.replace(header, joined=joined, state=state_hash(state)))

    good = follow(group.head, group.checkpoint(with_newcomer(brought(7))), verified)
    assert member(7).peer_id in good.members
    with pytest.raises(PeerError, match="cannot have joined"):
        follow(group.head, group.checkpoint(with_newcomer(odd)), verified)


def test_the_creator_needs_no_invite_in_a_certified_header_and_may_bring_a_good_one() -> None:
    for good in (newcomer(0, INVITING), brought(0)):
        check_newcomers(INVITING.record, None, [good], round=0)
    for odd in (newcomer(1, INVITING), brought(0, invite=b""), brought(0, invite=bytes(16)), brought(0, until=0)):
        with pytest.raises(PeerError):
            check_newcomers(INVITING.record, None, [odd], round=1)


LISTING = run_spec(admission=Admission("allowlist", (member(7).peer_id,)))


@pytest.mark.parametrize("spec", [SPEC, LISTING], ids=["open", "allowlist"])
@pytest.mark.parametrize("change", [{"invite": bytes(32)}, {"until": 20}, {"invite": bytes(32), "until": 20}], ids=str)
def test_nobody_brings_an_invite_to_a_run_that_asks_for_none(spec: Opened[RunSpec], change: dict[str, object]) -> None:
    plain = newcomer(7, spec)
    check_newcomers(spec.record, None, [plain], round=0)
    with pytest.raises(PeerError, match="cannot have joined"):
        check_newcomers(spec.record, None, [msgspec.structs.replace(plain, **change)], round=0)


def test_whoever_has_the_bearers_key_can_accept_for_anybody() -> None:
    assert member(BEARER).peer_id != member(7).peer_id
    assert [request(i, accepted(INVITE, INVITING, i)).newcomer.kernels for i in (7, 8)] == [KERNELS] * 2
