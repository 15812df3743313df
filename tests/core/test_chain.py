"""Which checkpoint may follow a head, and which head may be taken on trust."""

from collections.abc import Callable

import msgspec
import pytest

from primep2p.core.chain import Head, follow, trusted_head
from primep2p.core.roster import Turnout, advance, state_hash
from primep2p.model.errors import PeerError
from primep2p.model.records import Admission, Departure, Header, Newcomer, RoundPolicy
from primep2p.wire.codec import decode, encode
from tests.core.kit import Group, certificate, cid, member, newcomer, verified


def test_a_certified_checkpoint_follows() -> None:
    group = Group(4)
    raw = group.header(group.full()[2])
    head = follow(group.head, group.checkpoint(raw, group.ranks[: group.head.committee.q]), verified)
    assert (head.round, head.state.round, head.header) == (1, 1, decode(Header, raw))


@pytest.mark.parametrize("change", [{"run": bytes(32)}, {"round": 2}, {"parent": bytes(32)}], ids=str)
def test_a_checkpoint_of_another_place_does_not_follow(change: dict[str, object]) -> None:
    group = Group(4)
    raw = encode(msgspec.structs.replace(decode(Header, group.header(group.full()[2])), **change))
    with pytest.raises(PeerError, match="does not follow"):
        follow(group.head, group.checkpoint(raw), verified)


def test_a_checkpoint_with_one_signature_too_few_does_not_follow() -> None:
    group = Group(4)
    raw = group.header(group.full()[2])
    with pytest.raises(PeerError, match="2 of 3"):
        follow(group.head, group.checkpoint(raw, group.ranks[:2]), verified)


def test_a_certificate_of_another_round_does_not_count() -> None:
    group = Group(4)
    raw = group.header(group.full()[2])
    checkpoint = msgspec.structs.replace(
        group.checkpoint(raw), certificate=certificate(group.members, raw, run=group.run, round=2)
    )
    with pytest.raises(PeerError):
        follow(group.head, checkpoint, verified)


FORGED: dict[str, Callable[[Group], tuple[Departure, ...]]] = {
    "a member dropped without cause": lambda group: (Departure(group.members[0].peer_id, "dropped"),),
    "a member convicted whom the state keeps": lambda group: (Departure(group.members[0].peer_id, "convicted"),),
    "a stranger banned whom the state may admit": lambda group: (Departure(member(9).peer_id, "banned"),),
}


@pytest.mark.parametrize("left", FORGED.values(), ids=FORGED)
def test_departures_that_do_not_follow_are_refused_though_certified(
    left: Callable[[Group], tuple[Departure, ...]],
) -> None:
    group = Group(4)
    header = decode(Header, group.header(group.full()[2]))
    with pytest.raises(PeerError, match="do not follow"):
        follow(group.head, group.checkpoint(encode(msgspec.structs.replace(header, left=left(group)))), verified)


def test_a_member_dropped_without_cause_is_refused_though_the_state_says_the_same() -> None:
    group = Group(4)
    header = decode(Header, group.header(group.full()[2]))
    first, *others = advance(group.head.state, turnout(group, header), group.head.spec.policy)[0].members
    state = msgspec.structs.replace(group.head.state, round=1, members=tuple(others))
    left = (Departure(first.peer, "dropped"),)
    forged = msgspec.structs.replace(header, left=left, state=state_hash(state))
    with pytest.raises(PeerError, match="do not follow"):
        follow(group.head, group.checkpoint(encode(forged)), verified)


def test_a_state_that_the_changes_do_not_give_is_refused_though_certified() -> None:
    group = Group(4)
    header = decode(Header, group.header(group.full()[2]))
    with pytest.raises(PeerError, match="do not follow"):
        follow(group.head, group.checkpoint(encode(msgspec.structs.replace(header, state=bytes(32)))), verified)


def turnout(group: Group, header: Header, *newcomers: Newcomer) -> Turnout:
    """What the header says of its round, and who else comes."""
    return Turnout(
        group.head.due, frozenset(header.seen), revealer=group.head.revealer, reveal=header.reveal, newcomers=newcomers
    )


def admitting(group: Group, *newcomers: Newcomer) -> bytes:
    """A header that lets these in, with the state that comes of it: what a quorum of liars could certify."""
    header = decode(Header, group.header(group.full()[2]))
    state, joined, _ = advance(group.head.state, turnout(group, header, *newcomers), group.head.spec.policy)
    return encode(msgspec.structs.replace(header, joined=joined, state=state_hash(state)))


def test_a_newcomer_that_may_join_does() -> None:
    group = Group(4)
    raw = admitting(group, newcomer(7, group.spec))
    head = follow(group.head, group.checkpoint(raw), verified)
    assert member(7).peer_id in head.committee


Newcomers = Callable[[Group], list[Newcomer]]
NEWCOMERS: dict[str, Newcomers] = {
    "that is a member already": lambda group: [newcomer(1, group.spec)],
    "twice": lambda group: [newcomer(7, group.spec)] * 2,
    "whose join is of the future": lambda group: [newcomer(7, group.spec, round=2)],
    "that the run does not admit": lambda group: [newcomer(8, group.spec)],
    "out of order": lambda group: sorted(
        (newcomer(i, group.spec) for i in (5, 6, 7)), key=lambda other: other.peer, reverse=True
    ),
}


@pytest.mark.parametrize("newcomers", NEWCOMERS.values(), ids=NEWCOMERS)
def test_a_quorum_of_liars_lets_in_nobody(newcomers: Newcomers) -> None:
    group = Group(4, admission=Admission("allowlist", tuple(member(i).peer_id for i in (1, 2, 3, 5, 6, 7))))
    with pytest.raises(PeerError, match="cannot have joined"):
        follow(group.head, group.checkpoint(admitting(group, *newcomers(group))), verified)


def test_a_newcomer_whose_kernels_no_state_can_say_is_refused() -> None:
    group = Group(4)
    odd = msgspec.structs.replace(newcomer(7, group.spec), kernels=b"")
    with pytest.raises(PeerError, match="malformed Header"):
        follow(group.head, group.checkpoint(admitting(group, odd)), verified)


# ---- on trust


def trusted(group: Group, head: Head, **changes: object) -> Head:
    parts = {"checkpoint": head.checkpoint, "state": encode(head.state), **changes}
    return trusted_head(group.spec, parts["checkpoint"], parts["state"], verified)  # type: ignore[arg-type]


def test_a_head_is_the_same_from_the_store() -> None:
    group = Group(4)
    head = group.go_on()
    assert trusted(group, head) == head


def test_parts_that_do_not_belong_together_are_no_head() -> None:
    group, other = Group(4), Group(4, policy=RoundPolicy(first_members=2))
    first = group.head
    second = group.go_on()
    with pytest.raises(PeerError):
        trusted(group, second, state=encode(first.state))
    with pytest.raises(PeerError):
        trusted(other, second)
    with pytest.raises(PeerError):
        trusted(group, second, state=b"junk")
    old_state = msgspec.structs.replace(second.state, round=0)
    header = msgspec.structs.replace(second.header, state=state_hash(old_state), params=cid("any"))
    with pytest.raises(PeerError, match="another round"):
        trusted(
            group,
            second,
            checkpoint=msgspec.structs.replace(second.checkpoint, header=encode(header)),
            state=encode(old_state),
        )
