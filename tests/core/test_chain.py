"""Which checkpoint may follow a head, and which head may be taken on trust."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from primep2p.core.chain import Head, follow, trusted_head
from primep2p.core.roster import Turnout, advance, state_hash
from primep2p.model.errors import PeerError
from primep2p.model.records import Admission, Departure, Header, Newcomer, RoundPolicy
from primep2p.wire.codec import decode, encode
from tests.core.kit import Group, ban_of, certificate, cid, member, newcomer, verified


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


ROUND_OF_FIVE = RoundPolicy(first_members=1, min_updates=1, max_cohort=3)


def naming(group: Group, **changes: object) -> bytes:
    """A header that names these, with the state that comes of it."""
    header = msgspec.structs.replace(decode(Header, group.header(group.full()[2])), **changes)
    shown = replace(
        turnout(group, header),
        blamed=frozenset(header.blamed),
        expelled=tuple(departure for departure in header.left if departure.reason != "dropped"),
    )
    state, *_ = advance(group.head.state, shown, group.head.spec.policy)
    return encode(msgspec.structs.replace(header, state=state_hash(state)))


def banished(who: int, reason: str = "banned") -> Departure:
    return Departure(member(who).peer_id, reason)  # type: ignore[arg-type]


def peers(group: Group) -> tuple[str, ...]:
    return tuple(who.peer_id for who in group.members)


Named = Callable[[Group], dict[str, object]]

FITTING: dict[str, Named] = {
    "some seen": lambda group: {"seen": peers(group)[1:3]},
    "nobody seen": lambda _: {"seen": ()},
    "some blamed": lambda group: {"blamed": tuple(sorted(group.head.cohort))[:2]},
    "a stranger banned": lambda _: {"left": (banished(9),)},
    "a member convicted": lambda _: {"left": (banished(1, "convicted"),)},
    "the creator convicted": lambda _: {"left": (banished(0, "convicted"),)},
}

UNFIT: dict[str, Named] = {
    "seen out of order": lambda group: {"seen": peers(group)[::-1]},
    "seen twice": lambda group: {"seen": (peers(group)[0], *peers(group))},
    "a stranger seen": lambda group: {"seen": tuple(sorted((*peers(group), member(9).peer_id)))},
    "blamed out of order": lambda group: {"blamed": tuple(sorted(group.head.cohort))[::-1]},
    "blamed twice": lambda group: {"blamed": tuple(sorted(group.head.cohort))[:1] * 2},
    "a stranger blamed": lambda _: {"blamed": (member(9).peer_id,)},
    "one that does not train blamed": lambda group: {
        "blamed": tuple(sorted(group.head.members.keys() - group.head.cohort))
    },
    "banned and convicted": lambda _: {"left": (banished(1), banished(1, "convicted"))},
    "banned twice": lambda _: {"left": (banished(9),) * 2},
    "expelled before": lambda _: {"left": (banished(8),)},
    "the creator banned": lambda _: {"left": (banished(0),)},
    "a stranger convicted": lambda _: {"left": (banished(9, "convicted"),)},
    "a stranger dropped": lambda _: {"left": (banished(9, "dropped"),)},
}


def five() -> Group:
    """Five members, of whom three train, after a round in which peer 8 was banned."""
    group = Group(5, policy=ROUND_OF_FIVE)
    updates = [group.update(who) for who in group.members if who.peer_id in group.head.cohort]
    ban = ban_of(group.spec, member(8).peer_id)
    group.go_on(group.bundle([group.listing(who, updates, [ban]) for who in group.members], updates, [ban]))
    return group


@pytest.mark.parametrize("named", FITTING.values(), ids=FITTING)
def test_whom_a_certified_header_may_name_follows_from_the_head(named: Named) -> None:
    group = five()
    assert follow(group.head, group.checkpoint(naming(group, **named(group))), verified).round == 2


@pytest.mark.parametrize("named", UNFIT.values(), ids=UNFIT)
def test_a_header_that_names_peers_as_it_cannot_be_is_refused_though_certified_and_the_state_says_the_same(
    named: Named,
) -> None:
    group = five()
    with pytest.raises(PeerError, match=r"a certified header (that|whose departures are|in which)"):
        follow(group.head, group.checkpoint(naming(group, **named(group))), verified)


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
