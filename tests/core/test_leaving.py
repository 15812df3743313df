"""Members leave by their own word, at once and whatever the size; nobody leaves by another's, or by an old one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core import effects as fx
from primep2p.core.admission import JOIN_LIFETIME
from primep2p.core.chain import Head, follow
from primep2p.core.genesis import Gathering
from primep2p.core.notices import Notices
from primep2p.core.roster import Turnout, advance, peers_of
from primep2p.model import records
from primep2p.model.errors import PeerError
from primep2p.model.messages import Abstained, Proposed, Records
from primep2p.model.records import Collected, Departure, Header, RoundPolicy, RunState, Update
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes
from tests.core.kit import (
    Counting,
    Group,
    Machine,
    Notice,
    ban_of,
    first_proposed,
    join_of,
    leave_of,
    member,
    newcomer,
    run_spec,
)
from tests.core.kit import verified as open_

POLICY = RoundPolicy(rounds=100, first_members=1, min_updates=1, collect_s=60.0)


def group_of(n: int = 4, *, policy: RoundPolicy = POLICY) -> Group:
    return Group(n, policy=policy)


def after(group: Group, *notices: Notice, listed_by: int = 99, accused: tuple[Envelopes, ...] = ()) -> Head:
    """The next head, where so many members list these notices."""
    updates = [group.update(who) for who in group.members]
    liars = [liar.peer_id for liar in accused]
    lists = [
        group.listing(who, updates, notices if i < listed_by else (), accused=liars)
        for i, who in enumerate(group.members)
    ]
    evidence = {liar.peer_id: group.evidence(liar) for liar in accused}
    return group.go_on(group.bundle(lists, updates, notices, evidence=evidence))


def left(head: Head) -> list[tuple[str, str]]:
    return [(departure.peer, departure.reason) for departure in head.header.left]


def test_a_member_leaves_with_the_checkpoint_whose_lists_name_its_word_though_too_few_remain() -> None:
    group = group_of(4, policy=msgspec.structs.replace(POLICY, min_members=4))
    leaver = group.members[1]
    head = after(group, leave_of(group.spec, leaver))
    assert left(head) == [(leaver.peer_id, "left")]
    assert leaver.peer_id not in head.members
    assert leaver.peer_id not in head.state.expelled
    assert head.state.parted == (records.Parted(leaver.peer_id, 1),)


def test_a_leave_that_fewer_than_k_lists_name_takes_nobody_out() -> None:
    group = group_of()
    assert left(after(group, leave_of(group.spec, group.members[1]), listed_by=1)) == []


def test_a_leave_from_before_the_beginning_takes_out_nobody_who_joined_after_all() -> None:
    group = group_of()
    assert left(after(group, leave_of(group.spec, group.members[1], round=0))) == []


def test_two_may_leave_at_once_and_of_all_the_first_stays() -> None:
    group = group_of()
    first, *others = group.members
    head = after(group, *(leave_of(group.spec, who) for who in group.members))
    assert left(head) == [(who.peer_id, "left") for who in others]
    assert list(head.members) == [first.peer_id]


def test_who_is_convicted_or_banned_in_the_same_round_does_not_just_leave() -> None:
    group = group_of(5)
    creator = group.spec.record.creator
    liar, banned, leaver = [who for who in group.members if who.peer_id != creator][:3]
    notices = [leave_of(group.spec, who) for who in (liar, banned, leaver)]
    head = after(group, *notices, ban_of(group.spec, banned.peer_id), accused=(liar,))
    assert dict(left(head)) == {liar.peer_id: "convicted", banned.peer_id: "banned", leaver.peer_id: "left"}


def test_an_old_leave_takes_nobody_out_who_has_joined_again() -> None:
    group = group_of()
    leaver = group.members[1]
    old = leave_of(group.spec, leaver)
    after(group, old)
    index = next(i for i in range(4) if member(i) is leaver)
    after(group, join_of(index, group.spec, round=1))
    assert group.head.members[leaver.peer_id].since == 2
    assert left(after(group, old)) == []
    assert left(after(group, leave_of(group.spec, leaver, round=group.head.round))) == [(leaver.peer_id, "left")]


def test_an_old_join_that_somebody_kept_brings_nobody_back_who_left() -> None:
    group = group_of(5)
    joiner = 7
    group.by_peer[member(joiner).peer_id] = member(joiner)
    kept = join_of(joiner, group.spec, round=0)
    after(group, kept)
    assert member(joiner).peer_id in group.head.members
    after(group, leave_of(group.spec, member(joiner), round=1))
    for _ in range(JOIN_LIFETIME):
        assert member(joiner).peer_id not in after(group, kept).members
    assert group.head.state.parted == ()  # too old for anybody's Join now


def test_who_left_may_join_again_at_once() -> None:
    group = group_of()
    leaver = group.members[1]
    index = next(i for i in range(4) if member(i) is leaver)
    after(group, leave_of(group.spec, leaver))
    assert leaver.peer_id in after(group, join_of(index, group.spec, round=1)).members


@pytest.mark.parametrize("round", [2, 50])
def test_a_leave_of_a_round_to_come_takes_nobody_out(round: int) -> None:
    group = group_of()
    assert left(after(group, leave_of(group.spec, group.members[1], round=round))) == []


def test_a_certified_header_that_lets_a_stranger_leave_or_an_old_join_in_is_not_followed() -> None:
    group = group_of(5)
    leaver = group.members[1]
    index = next(i for i in range(5) if member(i) is leaver)
    header = decode(Header, group.header(group.full()[2]))
    stranger = msgspec.structs.replace(header, left=(Departure(member(9).peer_id, "left"),))
    with pytest.raises(PeerError, match="cannot be"):
        follow(group.head, group.checkpoint(encode(stranger)), open_)
    after(group, leave_of(group.spec, leaver))
    header = decode(Header, group.header(group.full()[2]))
    back = msgspec.structs.replace(header, joined=(newcomer(index, group.spec, round=0),))
    with pytest.raises(PeerError, match="cannot have joined"):
        follow(group.head, group.checkpoint(encode(back)), open_)


def test_where_no_more_can_be_remembered_who_leaves_waits() -> None:
    group = group_of(3)
    parted = tuple(records.Parted(f"z{i:04}", 1) for i in range(records.MAX_MEMBERS - 1))
    state = RunState(group.run, 2, group.head.state.members, 1, parted=parted)
    leaving = frozenset(who.peer_id for who in group.members[1:])
    result, _, gone = advance(state, Turnout(frozenset(), frozenset(), leaving=leaving), POLICY)
    assert [departure.peer for departure in gone] == [group.members[1].peer_id]
    assert peers_of(result) == {group.members[0].peer_id, group.members[2].peer_id}
    assert len(result.parted) == records.MAX_MEMBERS


@given(
    leaving=st.sets(st.integers(0, 6)), out=st.sets(st.integers(0, 6)), missed=st.lists(st.integers(0, 4), min_size=7)
)
def test_somebody_always_stays_and_the_header_gives_the_same_state_again(
    leaving: set[int], out: set[int], missed: list[int]
) -> None:
    group = group_of(7)
    members = [
        msgspec.structs.replace(each, missed=count)
        for each, count in zip(group.head.state.members, missed, strict=False)
    ]
    state = msgspec.structs.replace(group.head.state, members=tuple(members))
    peers = [each.peer for each in members]
    expelled = tuple(Departure(peers[i], "convicted") for i in sorted(out))
    turnout = Turnout(frozenset(), frozenset(), expelled=expelled, leaving=frozenset(peers[i] for i in leaving))
    result, _, gone = advance(state, turnout, POLICY)
    assert result.members
    assert not {departure.peer for departure in gone} & peers_of(result)
    said = Turnout(
        frozenset(),
        frozenset(),
        expelled=tuple(departure for departure in gone if departure.reason == "convicted"),
        leaving=frozenset(departure.peer for departure in gone if departure.reason == "left"),
    )
    assert advance(state, said, POLICY) == (result, (), gone)


# ---- how it travels


def test_a_leave_is_passed_on_once_listed_after_bans_and_forgotten_once_it_is_done() -> None:
    group = group_of()
    leaver = group.ranks[2]
    machine = Machine(group, group.ranks[3])
    leave = leave_of(group.spec, leaver)
    assert machine.hear(leaver, leave) == [fx.Broadcast(Records(group.run, (leave.raw,)))]
    assert machine.hear(leaver, leave) == []
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert entry.notices == (leave.hash,)
    head = after(group, leave)
    machine.handle(fx.Synced(leaver.peer_id, (head.checkpoint,)))
    assert leave.hash not in machine.run.notices.hashes()


def test_a_leave_by_somebody_else_or_a_second_one_costs_no_signature() -> None:
    group = group_of()
    who, leaver = Counting(3), next(peer for peer in group.ranks if peer is not member(3))
    machine = Machine(group, who)
    before = who.checked
    machine.hear(leaver, leave_of(group.spec, member(9)))
    assert who.checked == before
    machine.hear(leaver, *(leave_of(group.spec, leaver, round=round) for round in range(1, 20)))
    assert who.checked == before + 1


def test_a_leave_that_somebody_forged_is_blamed_on_whoever_sent_it() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    raw = leave_of(group.spec, group.ranks[1]).raw
    forged = raw[:-1] + bytes([raw[-1] ^ 1])
    machine.handle(fx.Received(group.ranks[2].peer_id, Records(group.run, (forged,))))
    assert machine.accused == [group.ranks[2].peer_id]
    assert not machine.run.notices.has_leave_of(group.ranks[1].peer_id)


def test_a_leave_of_another_run_is_refused() -> None:
    group = group_of()
    other = run_spec(policy=POLICY, creator=1)
    with pytest.raises(PeerError, match="another run"):
        Notices(group.head).add_leave(leave_of(other, group.members[1]))


# ---- before checkpoint 0


def gathering(index: int, joined: int, *, first_members: int = 3) -> tuple[Gathering, list[fx.Effect]]:
    """The machine of a peer that holds the params and has heard the Joins of so many."""
    spec = run_spec(policy=msgspec.structs.replace(POLICY, first_members=first_members))
    machine = Gathering(spec, join_of(index, spec), member(index))
    done = machine.begin([]) + machine.handle(fx.ParamsHeld(spec.record.params))
    for other in range(joined):
        raws = (join_of(other, spec).raw,)
        done += machine.handle(fx.Received(member(other).peer_id, Records(spec.hash, raws)))
    return machine, done


SPEC = run_spec(policy=msgspec.structs.replace(POLICY, first_members=3))


def test_who_takes_its_join_back_is_not_named_and_may_join_again() -> None:
    creator, _ = gathering(0, 2)
    leave = leave_of(SPEC, member(1))
    creator.handle(fx.Received(member(1).peer_id, Records(SPEC.hash, (leave.raw,))))
    assert member(1).peer_id not in creator.requests
    done = creator.handle(fx.Received(member(2).peer_id, Records(SPEC.hash, (join_of(2, SPEC).raw,))))
    assert not any(isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed) for e in done)
    done = creator.handle(fx.Received(member(1).peer_id, Records(SPEC.hash, (join_of(1, SPEC).raw,))))
    assert any(isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed) for e in done)


def test_a_node_that_takes_its_join_back_says_so_and_no_more() -> None:
    machine, _ = gathering(1, 1)
    leave = leave_of(SPEC, member(1))
    machine.withdraw(leave)
    assert machine.is_withdrawn
    [said] = [e.message for e in machine.handle(fx.Expired(fx.Moment(0, "repair"))) if isinstance(e, fx.Broadcast)]
    assert said == Records(SPEC.hash, (leave.raw,))


def test_a_node_that_checkpoint_0_names_signs_it_though_it_wants_to_leave_since_it_needs_all() -> None:
    machine, _ = gathering(1, 1)
    machine.withdraw(leave_of(SPEC, member(1)))
    message, _ = first_proposed(SPEC, range(3))
    done = machine.handle(fx.Received(member(0).peer_id, message))
    assert any(isinstance(e, fx.Journal) for e in done)
    assert not machine.is_withdrawn


def test_a_proposed_checkpoint_0_stays_as_it_is_whoever_wants_to_leave() -> None:
    creator, done = gathering(0, 3)
    assert any(isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed) for e in done)
    creator.handle(fx.Received(member(1).peer_id, Records(SPEC.hash, (leave_of(SPEC, member(1)).raw,))))
    assert member(1).peer_id in creator.requests


def test_a_creator_that_takes_its_join_back_proposes_nothing() -> None:
    creator, _ = gathering(0, 2)
    creator.withdraw(leave_of(SPEC, member(0)))
    for other in (2, 3, 4):
        done = creator.handle(fx.Received(member(other).peer_id, Records(SPEC.hash, (join_of(other, SPEC).raw,))))
        assert not any(isinstance(e, fx.Broadcast) for e in done)


# ---- abstaining


def test_a_trainer_that_abstains_is_not_waited_for_and_nothing_else_changes() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    machine.train()
    for who in group.ranks[:2]:
        machine.hear(who, group.update(who))
    assert not any(isinstance(opened.record, Collected) for opened in machine.signed)
    machine.handle(fx.Received(group.ranks[2].peer_id, Abstained(group.run, 1)))
    [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert len(entry.updates) == 3


def test_abstentions_make_no_round_end_that_has_too_little() -> None:
    group = group_of(4, policy=msgspec.structs.replace(POLICY, min_updates=2))
    machine = Machine(group, group.ranks[3])
    machine.train()
    for who in group.ranks[:3]:
        machine.handle(fx.Received(who.peer_id, Abstained(group.run, 1)))
    assert not any(isinstance(opened.record, Collected) for opened in machine.signed), "it would spin in void rounds"


def test_an_update_of_one_that_abstained_counts_all_the_same() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    late = group.ranks[2]
    machine.handle(fx.Received(late.peer_id, Abstained(group.run, 1)))
    machine.hear(late, group.update(late))
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert [ref.trainer for ref in entry.updates] == [late.peer_id]


def test_a_node_whose_training_fails_says_so_once_and_to_whoever_connects_until_it_has_an_update() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    said = Abstained(group.run, 1)
    assert machine.handle(fx.TrainingFailed(1)) == [fx.Broadcast(said)]
    assert machine.handle(fx.TrainingFailed(1)) == []
    other = group.ranks[0].peer_id
    assert fx.Send(other, said) in machine.handle(fx.Connected(other))
    assert fx.Send(member(9).peer_id, said) not in machine.handle(fx.Connected(member(9).peer_id))
    done = machine.train()
    assert any(isinstance(e, fx.Journal) for e in done)
    assert isinstance(machine.signed[0].record, Update)
    assert fx.Send(other, said) not in machine.handle(fx.Connected(other))


def test_an_abstention_from_the_next_round_is_held_and_one_of_a_stranger_is_nothing() -> None:
    group = group_of()
    one, early, far, mine = group.ranks
    machine = Machine(group, mine)
    for peer, round in ((early.peer_id, 2), (member(9).peer_id, 2), (far.peer_id, 5)):
        machine.handle(fx.Received(peer, Abstained(group.run, round)))
    head = group.go_on()
    machine.handle(fx.Synced(one.peer_id, (head.checkpoint,)))
    assert machine.run.round is not None
    assert machine.run.round.collection.settled == {early.peer_id}
