"""Before it signs anything, a node that starts hears what others hold of it: no more of them than its rounds need."""

import pytest

from primep2p.core import effects as fx
from primep2p.core.runs import Run
from primep2p.core.waking import ASK_AGAIN_S, Waking
from primep2p.model.ids import PeerId
from primep2p.model.records import Checkpoint, RoundPolicy
from tests.core.kit import Group, join_of, member, verified

POLICY = RoundPolicy(first_members=1, min_updates=1)


def waking(n: int) -> tuple[Group, Waking, list[str]]:
    group = Group(n, policy=POLICY)
    me, *others = [who.peer_id for who in group.members]
    return group, Waking(group.head, [], me, verified), others


@pytest.mark.parametrize(("n", "needed"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3), (16, 6)])
def test_it_waits_for_so_many_answers_and_no_more(n: int, needed: int) -> None:
    _, machine, others = waking(n)
    for peer in others[:needed]:
        assert not machine.ready
        machine.handle(fx.RecordsHeard(peer, ()))
    assert machine.ready


def test_one_member_that_answers_often_is_one_answer() -> None:
    _, machine, others = waking(4)
    for _ in range(5):
        machine.handle(fx.RecordsHeard(others[0], ()))
    assert not machine.ready


def test_a_strangers_answer_counts_for_nothing() -> None:
    _, machine, _ = waking(4)
    for stranger in range(20, 30):
        machine.handle(fx.RecordsHeard(member(stranger).peer_id, (b"junk",)))
    assert not machine.ready
    assert machine.foreign == []


def test_members_are_asked_once_for_each_connection() -> None:
    _, machine, others = waking(4)
    asked = fx.AskRecords(others[0])
    assert machine.handle(fx.Connected(others[0])) == [asked]
    assert machine.handle(fx.Connected(others[0])) == []
    machine.handle(fx.RecordsUnheard(others[0]))
    assert machine.handle(fx.Connected(others[0])) == [asked]
    assert machine.handle(fx.Connected(member(20).peer_id)) == []


def test_a_member_that_does_not_answer_is_asked_again_later_while_it_is_connected() -> None:
    _, machine, others = waking(4)
    silent, gone = others[:2]
    for peer in (silent, gone):
        machine.handle(fx.Connected(peer))
        assert machine.handle(fx.RecordsUnheard(peer)) == [fx.StartTimer(fx.AskAgain(peer), ASK_AGAIN_S)]
    machine.handle(fx.Lost(gone))
    assert machine.handle(fx.Expired(fx.AskAgain(silent))) == [fx.AskRecords(silent)]
    assert machine.handle(fx.Expired(fx.AskAgain(silent))) == []
    assert machine.handle(fx.Expired(fx.AskAgain(gone))) == []


def test_an_answer_that_failed_with_its_connection_asks_nobody_twice() -> None:
    _, machine, others = waking(4)
    machine.handle(fx.Connected(others[0]))
    machine.handle(fx.Lost(others[0]))
    assert machine.handle(fx.RecordsUnheard(others[0])) == []
    assert machine.handle(fx.Connected(others[0])) == [fx.AskRecords(others[0])]


def test_a_member_that_answers_again_and_again_fills_no_memory() -> None:
    _, machine, others = waking(7)
    for _ in range(50):
        machine.handle(fx.Lost(others[0]))
        machine.handle(fx.Connected(others[0]))
        machine.handle(fx.RecordsHeard(others[0], (b"junk",) * 10))
    assert len(machine.foreign) == 10


def test_a_liars_junk_neither_stops_nor_mutes_a_node() -> None:
    group, machine, others = waking(4)
    machine.handle(fx.RecordsHeard(others[0], (b"junk", group.update(group.members[1]).raw)))
    machine.handle(fx.RecordsHeard(others[1], ()))
    assert machine.ready
    run = Run(machine.head, group.members[0])
    effects = run.begin(0.0, entries=machine.entries, foreign=machine.foreign)
    effects += run.handle(fx.Expired(fx.Moment(1, "collect")), 0.0)
    assert any(isinstance(effect, fx.Journal) for effect in effects)


def test_where_all_others_are_further_nothing_is_signed_that_nobody_remembers() -> None:
    group, machine, others = waking(4)
    for peer, round in zip(others, (9, 7), strict=False):
        machine.handle(fx.RecordsHeard(peer, (), round))
    assert machine.first_round == 7
    run = Run(group.head, group.members[0])
    effects = run.begin(0.0, foreign=machine.foreign, first_round=machine.first_round)
    effects += run.handle(fx.ParamsHeld(group.head.header.params), 0.0)
    effects += run.handle(fx.Expired(fx.Moment(1, "collect")), 1.0)
    assert not any(isinstance(effect, fx.Journal | fx.Train) for effect in effects)


def test_one_liar_of_three_silences_nobody() -> None:
    _, machine, others = waking(3)
    machine.handle(fx.RecordsHeard(others[0], (), 2**53))
    assert machine.ready
    assert machine.first_round == 0


def test_one_liar_that_claims_to_be_further_silences_nobody() -> None:
    _, machine, others = waking(4)
    machine.handle(fx.RecordsHeard(others[0], (), 2**40))
    machine.handle(fx.RecordsHeard(others[1], (), 1))
    assert machine.first_round == 1


FRESH = range(20, 28)
"""Who joins while a member sleeps."""


def slept_through(rounds: int) -> tuple[Group, list[PeerId], list[Checkpoint]]:
    """A run of which eight more become members in the first round; after that only one of the first four is left."""
    group = Group(4, policy=POLICY)
    asleep, left, *gone = group.members
    signers, checkpoints = [left, *gone], []
    for round in range(1, rounds + 1):
        updates = [group.update(who) for who in signers]
        joins = [join_of(i, group.spec) for i in FRESH] if round == 1 else []
        bundle = group.bundle([group.listing(who, updates, joins) for who in signers], updates, joins)
        checkpoints.append(group.checkpoint(group.header(bundle), signers))
        group.go_on(bundle)
        group.by_peer |= {member(i).peer_id: member(i) for i in FRESH}
        signers = [left, *(member(i) for i in FRESH)]
    return group, [asleep.peer_id, left.peer_id, *(who.peer_id for who in gone)], checkpoints


def test_one_whose_committee_is_gone_follows_whoever_is_left_and_asks_that_of_now() -> None:
    group, (asleep, left, *_), checkpoints = slept_through(2)
    machine = Waking(Group(4, policy=POLICY).head, [], asleep, verified)
    assert machine.handle(fx.Connected(left)) == [fx.AskRecords(left)]
    assert machine.handle(fx.RecordsHeard(left, (), 3)) == [fx.CatchUp(left, 1)]
    for i in FRESH:
        assert machine.handle(fx.Connected(member(i).peer_id)) == []
    heard = machine.handle(fx.Synced(left, tuple(checkpoints)))
    assert [effect.head.round for effect in heard if isinstance(effect, fx.Commit)] == [1, 2]
    assert machine.head.hash == group.head.hash
    now = {left, *(member(i).peer_id for i in FRESH)}
    assert {effect.member for effect in heard if isinstance(effect, fx.AskRecords)} == now
    assert fx.CatchUp(left, 3) in heard
    for peer in sorted(now)[: group.head.committee.k]:
        assert not machine.ready
        machine.handle(fx.RecordsHeard(peer, (), 3))
    assert machine.ready


def test_one_that_was_dropped_while_it_slept_has_nobody_to_wait_for() -> None:
    group, (asleep, left, *_), checkpoints = slept_through(5)
    machine = Waking(Group(4, policy=POLICY).head, [], asleep, verified)
    machine.handle(fx.Connected(left))
    machine.handle(fx.RecordsHeard(left, (), 6))
    assert not machine.ready
    machine.handle(fx.Synced(left, tuple(checkpoints)))
    assert asleep not in group.head.members
    assert machine.ready


def test_a_chain_that_does_not_hold_leads_nobody_anywhere() -> None:
    group, machine, others = waking(4)
    forged = group.checkpoint(group.header(group.full()[2]), group.ranks[:2])
    assert [type(effect) for effect in machine.handle(fx.Synced(others[0], (forged,)))] == [fx.Accuse]
    assert machine.handle(fx.Synced(others[0], ())) == []
    assert machine.head == group.head
