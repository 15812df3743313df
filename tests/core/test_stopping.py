"""When a run ends: what members claim and say decides, and fewer than k of them decide nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core import effects as fx
from primep2p.core.chain import follow
from primep2p.core.checkpoints import derive, header_of, open_bundle
from primep2p.core.votes import Committee
from primep2p.model.errors import PeerError
from primep2p.model.records import Collected, Header, Metric, RoundPolicy
from primep2p.model.stopping import AtLeast, AtMost, Stop
from primep2p.wire.codec import decode, encode
from tests.core.kit import Group, Machine, verified

POLICY = RoundPolicy(rounds=3, first_members=1, min_updates=2)
GOOD = AtLeast("accuracy", 0.9)
UNTIL = 2_000_000_000


def ended(group: Group, claims: list[float | None], *, over: int = 0) -> str:
    """What the header says, where trainers claim this accuracy, and the first so many lists that time is over."""
    updates = [
        group.update(who, metrics=() if claim is None else (Metric("accuracy", claim),))
        for who, claim in zip(group.members, claims, strict=False)
    ]
    lists = [group.listing(who, updates, over=i < over) for i, who in enumerate(group.members)]
    return decode(Header, group.header(group.bundle(lists, updates))).ended


def test_a_run_ends_with_its_last_round_and_says_so() -> None:
    group = Group(4, policy=POLICY)
    said = [(group.go_on().header.ended, group.head.is_last) for _ in range(3)]
    assert said == [("", False), ("", False), ("rounds", True)]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([0.9, 0.95, 0.9, 0.1], "metric"),
        ([0.9, 0.95, 0.1, 0.1], ""),  # half of them is not more than half
        ([0.9, 0.9, None, None], ""),  # who says nothing does not say that it is met
        ([0.9, 0.9, 0.9], "metric"),
        ([0.9, 0.9], "metric"),
        ([0.9, 0.8], ""),
        ([1e308, 1e308, 0.0, 0.0], ""),
    ],
)
def test_a_target_is_met_where_more_than_half_of_the_updates_claim_it(
    claims: list[float | None], expected: str
) -> None:
    assert ended(Group(4, policy=POLICY, stop=Stop(GOOD)), claims) == expected


def test_a_target_from_above_is_met_from_below() -> None:
    group = Group(4, policy=POLICY, stop=Stop(AtMost("accuracy", 0.5)))
    assert (ended(group, [0.5, 0.4, 0.1, 9.0]), ended(group, [0.6, 0.4, 0.1, 9.0])) == ("metric", "")
    assert ended(group, [0.6, 0.7, 0.1, 0.2]) == ""


def test_of_a_name_that_is_there_twice_the_last_counts() -> None:
    group = Group(4, policy=POLICY, stop=Stop(GOOD))
    both = (Metric("accuracy", 1.0), Metric("accuracy", 0.0))
    updates = [group.update(who, metrics=both) for who in group.members]
    lists = [group.listing(who, updates) for who in group.members]
    assert decode(Header, group.header(group.bundle(lists, updates))).ended == ""


@given(n=st.integers(3, 16), seed=st.randoms(use_true_random=False), included=st.integers(0, 16))
def test_fewer_than_k_liars_end_no_run_and_as_many_as_it_survives_keep_none_going(
    n: int,
    seed,
    included: int,  # type: ignore[no-untyped-def]
) -> None:
    group = Group(n, policy=POLICY, stop=Stop(GOOD))
    committee: Committee = group.head.committee
    liars = set(seed.sample(range(n), seed.randint(0, committee.k - 1)))
    delivered = set(seed.sample(range(n), min(n, included))) | liars  # however few of the honest are in time
    claims = [(1.0 if i in liars else 0.1) if i in delivered else None for i in range(n)]
    assert ended_of(group, claims, delivered) == ""
    liars = set(seed.sample(range(n), seed.randint(0, max(0, committee.survives_liars))))
    assert ended_of(group, [0.1 if i in liars else 1.0 for i in range(n)], set(range(n))) == "metric"


def ended_of(group: Group, claims: list[float | None], delivered: set[int]) -> str:
    updates = [
        group.update(who, metrics=(Metric("accuracy", claim),))
        for i, (who, claim) in enumerate(zip(group.members, claims, strict=True))
        if i in delivered and claim is not None
    ]
    lists = [group.listing(who, updates) for who in group.members]
    return decode(Header, group.header(group.bundle(lists, updates))).ended


def test_a_round_without_a_model_meets_no_target_whatever_is_claimed() -> None:
    group = Group(4, policy=msgspec.structs.replace(POLICY, min_updates=2), stop=Stop(GOOD))
    assert ended(group, [1.0]) == ""
    updates = [group.update(who, metrics=(Metric("accuracy", 1.0),)) for who in group.members]
    lists = [group.listing(who, updates) for who in group.members]
    derivation = derive(open_bundle(group.bundle(lists, updates), group.head, verified), group.head)
    assert header_of(group.head, derivation, None, None, "").ended == "metric"
    assert header_of(group.head, derivation, None, None, "the params are not finite").ended == ""


@pytest.mark.parametrize(("over", "until", "expected"), [(1, UNTIL, ""), (2, UNTIL, "time"), (4, 0, "")])
def test_time_is_over_where_k_lists_say_so_and_the_run_has_a_time(over: int, until: int, expected: str) -> None:
    assert ended(Group(4, policy=POLICY, stop=Stop(GOOD, until)), [0.1] * 4, over=over) == expected


def test_a_run_whose_rounds_are_over_ends_by_them_though_more_is_true() -> None:
    group = Group(4, policy=msgspec.structs.replace(POLICY, rounds=1), stop=Stop(GOOD, UNTIL))
    assert ended(group, [1.0] * 4, over=4) == "rounds"


def test_a_member_whose_time_is_up_says_so_in_its_lists_from_then_on() -> None:
    group = Group(4, policy=POLICY, stop=Stop(until=UNTIL))
    machine = Machine(group, group.ranks[1])
    machine.handle(fx.TimeUp())
    for _ in range(2):
        machine.expire("collect")
        group.go_on()
        machine.handle(fx.Synced(group.ranks[0].peer_id, (group.head.checkpoint,)))
    lists = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert [entry.over for entry in lists] == [True, True]


@pytest.mark.parametrize(
    ("stop", "rounds", "said"),
    [
        (Stop(), 0, "rounds"),
        (Stop(), 1, ""),
        (Stop(GOOD, UNTIL), 1, "metric"),
        (Stop(GOOD, UNTIL), 1, "time"),
        (Stop(until=UNTIL), 0, "metric"),
        (Stop(GOOD), 0, "time"),
    ],
)
def test_a_certified_header_that_ends_a_run_as_its_spec_does_not_allow_is_not_followed(
    stop: Stop, rounds: int, said: str
) -> None:
    group = Group(4, policy=msgspec.structs.replace(POLICY, rounds=rounds), stop=stop)
    header = msgspec.structs.replace(decode(Header, group.header(group.full()[2])), ended=said)
    with pytest.raises(PeerError, match="ends the run"):
        follow(group.head, group.checkpoint(encode(header)), verified)


def test_a_void_header_that_claims_a_met_target_is_not_followed() -> None:
    group = Group(4, policy=POLICY, stop=Stop(GOOD))
    lists = [group.listing(who, ()) for who in group.members]
    header = msgspec.structs.replace(decode(Header, group.header(group.bundle(lists, ()))), ended="metric")
    with pytest.raises(PeerError, match="ends the run"):
        follow(group.head, group.checkpoint(encode(header)), verified)


def test_nobody_goes_on_after_a_checkpoint_that_meets_the_target() -> None:
    group = Group(4, policy=POLICY, stop=Stop(GOOD))
    machine = Machine(group, group.ranks[1])
    updates = [group.update(who, metrics=(Metric("accuracy", 1.0),)) for who in group.members]
    lists = [group.listing(who, updates) for who in group.members]
    group.go_on(group.bundle(lists, updates))
    done = machine.handle(fx.Synced(group.ranks[0].peer_id, (group.head.checkpoint,)))
    assert fx.Finished(1) in done
    assert machine.run.finished
    assert machine.run.round is None
