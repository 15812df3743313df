"""The beacon: what members committed to comes out element by element, and nobody can choose it any more."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.beacons import (
    MAX_CHAIN_ROUNDS,
    STRIDE,
    HashChain,
    chain_of,
    check_reveal,
    first_beacon,
    is_of_chain,
    next_beacon,
)
from primep2p.core.chain import follow
from primep2p.core.checks import check_list
from primep2p.core.roster import Turnout, advance, state_hash
from primep2p.model.errors import PeerError
from primep2p.model.records import Collected, Header, Member, RoundPolicy
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Envelopes
from tests.core.kit import KERNELS, Group, Machine, member, run_spec, verified

SECRET = b"s" * 32
RUN = run_spec().hash
POLICY = RoundPolicy(first_members=1, min_updates=1)
CHAIN = chain_of(member(1), RUN, POLICY)


def element(round: int) -> bytes:
    value = CHAIN.element(round)
    assert value is not None
    return value


def holder(anchored: int, *, anchor: bytes | None = None) -> Member:
    """The member whose chain it is, when its element for `anchored` is known."""
    return Member(member(1).peer_id, 0, 0, KERNELS, anchor or element(anchored), anchored)


# ---- chains


@given(rounds=st.integers(1, 3 * STRIDE), data=st.data())
def test_each_element_of_a_chain_hashes_to_the_one_before(rounds: int, data: st.DataObject) -> None:
    chain = HashChain(SECRET, rounds)
    round = data.draw(st.integers(1, rounds))
    later = chain.element(round)
    assert later is not None
    assert chain.element(round - 1) == digest("reveal", later)


@pytest.mark.parametrize("rounds", [0, 1, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE])
def test_a_chain_has_an_element_for_each_round_up_to_its_end_and_none_beyond(rounds: int) -> None:
    chain = HashChain(SECRET, rounds)
    elements = [chain.element(round) for round in range(rounds + 1)]
    assert None not in elements
    assert len(set(elements)) == rounds + 1
    assert (chain.element(-1), chain.element(rounds + 1)) == (None, None)


def test_a_chain_is_as_long_as_its_run_and_no_longer_than_can_be_checked() -> None:
    short = chain_of(member(1), RUN, msgspec.structs.replace(POLICY, rounds=3))
    long = chain_of(member(1), RUN, msgspec.structs.replace(POLICY, rounds=2**40))
    assert [short.element(round) is not None for round in (3, 4)] == [True, False]
    assert [long.element(round) is not None for round in (MAX_CHAIN_ROUNDS, MAX_CHAIN_ROUNDS + 1)] == [True, False]


def test_each_member_has_a_chain_of_its_own_in_each_run() -> None:
    others = [chain_of(member(2), RUN, POLICY), chain_of(member(1), bytes(32), POLICY)]
    assert len({chain.element(0) for chain in (CHAIN, *others)}) == 3
    assert chain_of(member(1), RUN, POLICY).element(7) == element(7)


# ---- reveals


@given(anchored=st.integers(0, 300), gap=st.integers(1, 300))
def test_a_reveal_is_good_after_any_number_of_silent_rounds(anchored: int, gap: int) -> None:
    check_reveal(holder(anchored), element(anchored + gap), anchored + gap)


@given(anchored=st.integers(0, 40), round=st.integers(0, 80), of=st.integers(0, 80))
def test_a_reveal_is_good_in_its_own_round_and_in_no_other(anchored: int, round: int, of: int) -> None:
    assert is_of_chain(holder(anchored), element(of), round) is (round == of and round > anchored)


GARBAGE = {
    "of another member": chain_of(member(2), RUN, POLICY).element(5) or b"",
    "of another run": chain_of(member(1), bytes(32), POLICY).element(5) or b"",
    "the anchor itself": element(4),
    "zeros": bytes(32),
    "too short": element(5)[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE)
def test_anything_else_is_no_reveal(value: bytes) -> None:
    with pytest.raises(PeerError, match="hash chain"):
        check_reveal(holder(4), value, 5)


@pytest.mark.parametrize("value", [b"", bytes(31)], ids=len)
def test_a_reveal_of_another_length_is_refused_though_it_hashes_to_the_anchor(value: bytes) -> None:
    assert not is_of_chain(holder(0, anchor=digest("reveal", value)), value, 1)
    assert is_of_chain(holder(0, anchor=digest("reveal", bytes(32))), bytes(32), 1)


def test_nobody_is_made_to_hash_for_longer_than_a_chain() -> None:
    assert is_of_chain(holder(0), element(MAX_CHAIN_ROUNDS), MAX_CHAIN_ROUNDS)
    before = digest("reveal", element(0))
    assert not is_of_chain(holder(0, anchor=before), element(MAX_CHAIN_ROUNDS), MAX_CHAIN_ROUNDS + 1)


# ---- beacons

_reveal = st.one_of(st.just(b""), st.binary(min_size=32, max_size=32))


@given(reveal=_reveal, other=_reveal)
def test_a_beacon_changes_with_the_reveal_and_with_the_round_and_the_run_and_the_beacon_before(
    reveal: bytes, other: bytes
) -> None:
    before = first_beacon(RUN)
    beacons = {
        next_beacon(before, RUN, 1, reveal),
        next_beacon(before, RUN, 1, other),
        next_beacon(before, RUN, 2, reveal),
        next_beacon(before, bytes(32), 1, reveal),
        next_beacon(bytes(32), RUN, 1, reveal),
    }
    assert len(beacons) == 5 - (reveal == other)


def own(group: Group, who: Envelopes, *, round: int | None = None) -> bytes:
    """What `who` may reveal in a round, in the one under way if not told."""
    return chain_of(who, group.run, POLICY).element(round or group.head.round + 1) or b""


def by_place(group: Group, *places: int) -> bytes:
    """A bundle with the lists of these places of the committee, and everybody's updates."""
    updates = [group.update(who) for who in group.members]
    return group.bundle([group.listing(group.ranks[place], updates) for place in places], updates)


def test_a_header_reveals_what_the_first_of_the_committee_does_and_the_state_remembers_it() -> None:
    group = Group(4, policy=POLICY)
    before, first = group.head.header.beacon, group.ranks[0]
    expected = own(group, first)
    head = group.go_on()
    assert head.header.reveal == expected != b""
    assert head.header.beacon == next_beacon(before, group.run, 1, expected)
    anchors = {m.peer: (m.anchor, m.anchored) for m in head.state.members}
    assert anchors.pop(first.peer_id) == (expected, 1)
    assert {anchored for _, anchored in anchors.values()} == {0}


def test_only_the_first_of_the_committee_reveals_anything_when_it_lists() -> None:
    group = Group(4, policy=POLICY)
    for place, who in enumerate(group.ranks):
        machine = Machine(group, who)
        machine.expire("collect")
        [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
        assert entry.reveal == (own(group, who) if place == 0 else b"")


def test_a_proposer_can_take_the_reveal_or_leave_it_and_chooses_between_two_beacons_and_no_more() -> None:
    group = Group(4, policy=POLICY)
    before, choices = group.head.header.beacon, [(0, 1, 2, 3), (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    beacons = [decode(Header, group.header(by_place(group, *places))).beacon for places in choices]
    taken, left = (next_beacon(before, group.run, 1, reveal) for reveal in (own(group, group.ranks[0]), b""))
    assert beacons == [taken] * 4 + [left]
    withheld = group.go_on(by_place(group, 1, 2, 3))
    assert withheld.header.reveal == b""
    assert {m.anchored for m in withheld.state.members} == {0}


def test_one_that_revealed_nothing_for_some_rounds_reveals_across_the_gap() -> None:
    group, turns = Group(4, policy=POLICY), 0
    late = group.ranks[0]
    while turns < 2 or group.head.revealer != late.peer_id:
        turns += group.head.revealer == late.peer_id
        group.go_on(by_place(group, 1, 2, 3))
    assert group.head.round >= 2
    assert group.head.members[late.peer_id].anchored == 0
    round = group.head.round + 1
    head = group.go_on()
    assert head.header.reveal == own(group, late, round=round)
    assert head.members[late.peer_id].anchored == round


def test_the_content_of_a_round_never_enters_its_beacon() -> None:
    group = Group(4, policy=POLICY)
    lists = []
    for what in ("one", "other"):
        updates = [group.update(who, what=what) for who in group.members]
        lists.append(group.bundle([group.listing(who, updates) for who in group.members], updates))
    headers = [decode(Header, group.header(bundle)) for bundle in lists]
    assert headers[0].inclusions != headers[1].inclusions
    assert headers[0].beacon == headers[1].beacon


def test_one_whose_chain_is_not_the_one_that_it_joined_with_reveals_nothing() -> None:
    group = Group(4, policy=POLICY)
    head, who = group.head, group.ranks[0]
    odd = tuple(msgspec.structs.replace(m, anchor=bytes(32)) for m in head.state.members)
    state = msgspec.structs.replace(head.state, members=odd)
    group.head = type(head)(head.run, head.spec, head.header, head.hash, state, head.checkpoint)
    machine = Machine(group, who)
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed]
    assert isinstance(entry, Collected)
    assert entry.reveal == b""


Forge = Callable[[Group], bytes]
"""What stands in place of the first one's reveal."""

FORGED: dict[str, Forge] = {
    "zeros": lambda group: bytes(32),
    "half of the right one": lambda group: own(group, group.ranks[0])[:16],
    "another member's element": lambda group: own(group, group.ranks[1]),
    "the element of a later round": lambda group: own(group, group.ranks[0], round=2),
    "the element that it joined with": lambda group: group.head.members[group.head.revealer].anchor,
}


def listed(group: Group, place: int, reveal: bytes) -> None:
    """A list of a member of the committee, which reveals this, is checked."""
    entry = msgspec.structs.replace(group.listing(group.ranks[place], ()).record, reveal=reveal)
    check_list(group.ranks[place].seal(entry), group.head)


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_list_with_a_reveal_that_is_not_right_is_refused(forge: Forge) -> None:
    group = Group(4, policy=POLICY)
    for good in (own(group, group.ranks[0]), b""):
        listed(group, 0, good)
    with pytest.raises(PeerError, match="reveal"):
        listed(group, 0, forge(group))


def test_a_list_that_reveals_out_of_turn_is_refused_though_the_element_is_its_own() -> None:
    group = Group(4, policy=POLICY)
    for place in (1, 2, 3):
        listed(group, place, b"")
        with pytest.raises(PeerError, match="reveal"):
            listed(group, place, own(group, group.ranks[place]))


# ---- what a quorum of liars could certify


def bent_header(group: Group, reveal: bytes, /, **changes: object) -> bytes:
    """A header with this reveal, in which all else follows from it."""
    header = decode(Header, group.header(group.full()[2]))
    shown = Turnout(group.head.due, frozenset(header.seen), revealer=group.head.revealer, reveal=reveal)
    state, *_ = advance(group.head.state, shown, POLICY)
    beacon = next_beacon(group.head.header.beacon, group.run, 1, reveal)
    parts = {"reveal": reveal, "beacon": beacon, "state": state_hash(state), **changes}
    return encode(msgspec.structs.replace(header, **parts))


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_reveal_that_is_not_right_is_refused_though_certified(forge: Forge) -> None:
    group = Group(4, policy=POLICY)
    with pytest.raises(PeerError, match=r"hash chain|malformed Header"):
        follow(group.head, group.checkpoint(bent_header(group, forge(group))), verified)


def test_a_beacon_that_does_not_follow_is_refused_though_certified() -> None:
    group = Group(4, policy=POLICY)
    honest = own(group, group.ranks[0])
    for good in (honest, b""):
        assert follow(group.head, group.checkpoint(bent_header(group, good)), verified).header.reveal == good
    for forged in (bent_header(group, honest, beacon=bytes(32)), bent_header(group, honest, reveal=b"")):
        with pytest.raises(PeerError, match="beacon"):
            follow(group.head, group.checkpoint(forged), verified)
