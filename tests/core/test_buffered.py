"""Buffered rounds: updates from earlier heads enter once, weigh less, and training goes on across rounds."""

from collections.abc import Iterable
from decimal import Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core import effects as fx
from primep2p.core.chain import Head, follow, trusted_head
from primep2p.core.checkpoints import derive, discounted, header_of, open_bundle
from primep2p.core.rounds import Round
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.messages import Certified, Records
from primep2p.model.pipeline import FedAvg, Median, NearestNeighbours, Pipeline
from primep2p.model.records import Header, Inclusion, Member, RoundPolicy, Update
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes, Opened
from tests.core.kit import Group, Machine, cid, join_of, member, verified

POLICY = RoundPolicy(
    first_members=1, min_members=3, min_updates=1, mode="buffered", updates_per_version=3, max_staleness=3
)


def group_of(n: int = 4, *, pipeline: Pipeline | None = None, **changed: object) -> Group:
    return Group(n, policy=msgspec.structs.replace(POLICY, **changed), pipeline=pipeline)


def bundle(group: Group, updates: Iterable[Opened[Update]], lists_of: Iterable[Opened[Update]] | None = None) -> bytes:
    """Everybody lists these."""
    given = list(updates)
    return group.bundle([group.listing(who, given if lists_of is None else lists_of) for who in group.ranks], given)


def round_with(group: Group, updates: Iterable[Opened[Update]]) -> Header:
    """The checkpoint that takes these, which the group goes on from."""
    return group.go_on(bundle(group, updates)).header


def ages(header: Header) -> dict[PeerId, int]:
    return {inclusion.trainer: inclusion.staleness for inclusion in header.inclusions}


def member_of(head: Head, who: Envelopes) -> Member:
    return head.members[who.peer_id]


# ---- weights


@given(st.integers(1, 2**40), st.integers(0, 64))
def test_a_weight_is_the_root_in_whole_numbers_rounded_down(examples: int, staleness: int) -> None:
    weight = discounted(examples, staleness)
    with localcontext(prec=80):
        exact = Decimal(examples * 2**20) / Decimal(1 + staleness).sqrt()
        assert weight == int(exact)
    assert weight <= 2**60
    assert discounted(examples, 0) == examples * 2**20


@pytest.mark.parametrize(
    ("pipeline", "weights"),
    [
        (Pipeline(), [40 * 2**20, 20 * 2**20, 40 * 2**20]),
        (Pipeline(FedAvg("uniform")), [2**20, 2**19, 2**20]),
        (Pipeline(Median()), [1, 1, 1]),
        (Pipeline(FedAvg("uniform"), pre=(NearestNeighbours(),)), [1, 1, 1]),
    ],
)
def test_what_is_three_rounds_late_weighs_half_where_weights_count(pipeline: Pipeline, weights: list[int]) -> None:
    group = group_of(pipeline=pipeline)
    first, second, third, fourth = group.members
    late = group.update(second, examples=40)
    for _ in range(3):
        round_with(group, [group.update(who) for who in (first, third, fourth)])
    header = round_with(group, [group.update(first, examples=40), late, group.update(third, examples=40)])
    assert [inclusion.weight for inclusion in header.inclusions] == weights
    assert [inclusion.staleness for inclusion in header.inclusions] == [0, 3, 0]


def test_claims_are_compared_as_they_are_and_who_claims_too_much_is_used_up() -> None:
    group = group_of()
    first, second, third, fourth = group.members
    boast = group.update(fourth, examples=1000)
    boasts_late = [group.update(who) for who in (first, second, third)]
    header = round_with(group, [*boasts_late, boast])
    assert header.blamed == (fourth.peer_id,)
    assert fourth.peer_id not in ages(header)
    assert member_of(group.head, fourth).used == 1
    assert not group.head.may_enter(fourth.peer_id, 1)
    assert group.head.may_enter(fourth.peer_id, 2)


# ---- what counts


def test_an_update_enters_once_and_nothing_of_its_trainer_from_before_it_does() -> None:
    group = group_of()
    first, second, third, fourth = group.members
    early = group.update(fourth)
    round_with(group, [group.update(who) for who in (first, second, third)])
    entered = group.update(fourth)
    header = round_with(group, [*(group.update(who) for who in (first, second)), entered])
    assert ages(header)[fourth.peer_id] == 0
    for again in (entered, early):
        with pytest.raises(PeerError, match="used up"):
            open_bundle(bundle(group, [group.update(first), group.update(second), again]), group.head, verified)


def test_an_update_counts_for_so_many_rounds_and_no_longer() -> None:
    group = group_of(max_staleness=1)
    first, second, third, fourth = group.members
    late = group.update(fourth)
    for age in (1, 2):
        round_with(group, [group.update(who) for who in (first, second, third)])
        assert group.head.may_enter(fourth.peer_id, 1) is (age == 1)
    with pytest.raises(PeerError, match="another round or base"):
        open_bundle(bundle(group, [group.update(first), group.update(second), late]), group.head, verified)


def test_what_a_member_trained_before_it_left_does_not_count_when_it_is_back() -> None:
    group = group_of(max_staleness=8, drop_after=1)
    first, second, third, fourth = group.members
    old = group.update(fourth)
    three = [first, second, third]
    while fourth.peer_id in group.head.members:
        updates = [group.update(who) for who in three]
        lists = [group.listing(who, updates) for who in three if who.peer_id in group.head.committee]
        group.go_on(group.bundle(lists, updates))
    updates = [group.update(who) for who in three]
    index = next(i for i in range(4) if member(i).peer_id == fourth.peer_id)
    back = join_of(index, group.spec, round=group.head.round)
    lists = [group.listing(who, updates, [back]) for who in three]
    group.go_on(group.bundle(lists, updates, [back]))
    assert member_of(group.head, fourth).since == group.head.round
    assert old.record.round in group.head.bases
    assert not group.head.may_enter(fourth.peer_id, old.record.round)
    assert group.head.may_enter(fourth.peer_id, group.head.round + 1)


def test_a_base_that_is_not_the_header_before_the_round_is_its_signers_fault() -> None:
    group = group_of()
    first, second, third, fourth = group.members
    round_with(group, [group.update(who) for who in (first, second, third)])
    machine = Machine(group, first)
    for wrong in (
        Update(group.run, 1, group.head.hash, cid("delta"), 10),
        Update(group.run, 2, group.head.header.parent, cid("delta"), 10),
    ):
        machine.hear(fourth, fourth.seal(wrong))
    assert machine.accused == [fourth.peer_id] * 2


def test_a_quorum_cannot_certify_an_update_twice() -> None:
    group = group_of()
    first, second, third, fourth = group.members
    before = round_with(group, [group.update(who) for who in (first, second, third)])
    raw = group.header(bundle(group, [group.update(who) for who in (first, second, fourth)]))
    header = decode(Header, raw)
    twice = msgspec.structs.replace(before.inclusions[2], staleness=1)
    for inclusions in (
        tuple(sorted((*header.inclusions, twice), key=lambda each: each.trainer)),
        (*header.inclusions, header.inclusions[-1]),
        (msgspec.structs.replace(header.inclusions[0], staleness=60), *header.inclusions[1:]),
    ):
        forged = encode(msgspec.structs.replace(header, inclusions=inclusions))
        with pytest.raises(PeerError, match="certified header"):
            follow(group.head, group.checkpoint(forged), verified)
    follow(group.head, group.checkpoint(raw), verified)


def test_a_head_from_the_store_knows_the_bases_that_the_chain_had() -> None:
    group = group_of(max_staleness=2)
    hashes = [group.head.hash]
    for _ in range(4):
        round_with(group, [group.update(who) for who in group.members])
        hashes.append(group.head.hash)
    stored = trusted_head(group.spec, group.head.checkpoint, encode(group.head.state), verified)
    assert stored.bases == {5: hashes[4], 4: hashes[3], 3: hashes[2]}


def test_updates_of_which_nothing_came_are_used_up() -> None:
    """Else they would make void what follows, for as long as they count."""
    group = group_of()
    opened = open_bundle(bundle(group, [group.update(who) for who in group.members]), group.head, verified)
    header = header_of(group.head, derive(opened, group.head), None, None, "the params are not finite")
    assert header.void
    assert len(header.inclusions) == 4
    head = follow(group.head, group.checkpoint(encode(header)), verified)
    assert head.header.params == group.head.header.params
    assert not any(head.may_enter(who.peer_id, 1) for who in group.members)


def test_too_few_updates_use_up_nothing() -> None:
    group = group_of()
    first, second, *_ = group.members
    lonely = group.update(first)
    assert round_with(group, [lonely]).void == "too few updates: 1 of 2"
    header = round_with(group, [lonely, group.update(second)])
    assert ages(header) == {first.peer_id: 1, second.peer_id: 0}


# ---- who is due


def test_who_only_trains_may_be_silent_as_long_as_its_update_could_count() -> None:
    """Of a drawn run: with fewer members all vote, and whoever votes is seen."""
    group = group_of(24, max_staleness=3, committee_size=16, drop_after=2)
    voters = set(group.head.committee.members)
    ghost = next(who for who in group.members if who.peer_id not in voters)
    missed = []
    for _ in range(9):
        if ghost.peer_id not in group.head.members:
            break
        assert ghost.peer_id in group.head.cohort
        present = [who for who in group.members if who is not ghost]
        lists = [who for who in present if who.peer_id in group.head.committee]
        updates = [group.update(who) for who in present[:20]]
        group.go_on(group.bundle([group.listing(who, updates) for who in lists], updates))
        missed += [each.missed for each in group.head.state.members if each.peer == ghost.peer_id]
    assert missed == [0, 0, 0, 1], "then it is dropped"
    assert all(each.missed == 0 for each in group.head.state.members)


# ---- one member


def trained(machine: Machine, round: int, what: object = "") -> list[fx.Effect]:
    return machine.handle(fx.Trained(round, cid("delta", machine.who.peer_id, round, what), 10, ()))


def trainings(effects: Iterable[fx.Effect]) -> list[int]:
    return [effect.round for effect in effects if isinstance(effect, fx.Train)]


def own_updates(machine: Machine) -> list[Update]:
    return [opened.record for opened in machine.signed if isinstance(opened.record, Update)]


def shown(machine: Machine, raw: bytes) -> list[fx.Effect]:
    """The next checkpoint, which others certified."""
    group = machine.group
    checkpoint = group.checkpoint(raw)
    group.head = follow(group.head, checkpoint, verified)
    return machine.handle(fx.Received(group.ranks[0].peer_id, Certified(group.run, checkpoint)))


def without(machine: Machine) -> bytes:
    """A header that takes what all others bring."""
    group = machine.group
    return group.header(bundle(group, [group.update(who) for who in group.members if who is not machine.who]))


def current(machine: Machine) -> Round:
    assert machine.run.round is not None
    return machine.run.round


def test_a_training_goes_on_when_its_round_ends_and_the_next_begins_when_it_is_done() -> None:
    group = group_of()
    base = group.head.hash
    machine = Machine(group, group.ranks[-1])
    assert trainings(machine.done) == [1]
    assert trainings(shown(machine, without(machine))) == []
    effects = trained(machine, 1)
    assert [(update.round, update.base) for update in own_updates(machine)] == [(1, base)]
    assert trainings(effects) == [2]
    assert machine.accused == []


def test_a_training_that_could_not_enter_any_more_gives_way() -> None:
    group = group_of(max_staleness=1)
    machine = Machine(group, group.ranks[-1])
    assert trainings(shown(machine, without(machine))) == []
    assert trainings(shown(machine, without(machine))) == [3]
    assert trained(machine, 1) == []
    assert own_updates(machine) == []


def test_a_failed_training_for_an_earlier_round_is_followed_by_one_from_the_newest_head() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    shown(machine, without(machine))
    assert trainings(machine.handle(fx.TrainingFailed(1))) == [2]
    assert trainings(machine.handle(fx.TrainingFailed(2))) == []
    assert trainings(shown(machine, without(machine))) == [3]


def test_who_waits_for_its_own_update_to_enter_trains_again_after_it() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    trained(machine, 1)
    mine = next(opened for opened in machine.signed if isinstance(opened.record, Update)).of(Update)
    assert trainings(shown(machine, without(machine))) == []
    others = [group.update(who) for who in group.members if who is not machine.who]
    assert trainings(shown(machine, group.header(bundle(group, [*others[:2], mine])))) == [3]


def test_a_void_round_lets_everybody_train_again() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    trained(machine, 1)
    assert trainings(shown(machine, group.header(bundle(group, [])))) == [2]


def test_what_came_late_is_listed_in_the_next_round_without_being_sent_again() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    first, second, *_ = (who for who in group.members if who is not machine.who)
    late = group.update(first)
    machine.hear(first, late)
    fetched = [effect for effect in machine.done if isinstance(effect, fx.Obtain)]
    raw = group.header(bundle(group, [group.update(who) for who in group.members if who is not first]))
    shown(machine, raw)
    newer = group.update(first)
    machine.hear(first, newer)
    machine.hear(second, group.update(second))
    listed = current(machine).collection.listing(b"").updates
    assert {ref.trainer: ref.update for ref in listed}[first.peer_id] == late.hash, "of two the older one"
    assert [e.update for e in machine.done if isinstance(e, fx.Obtain)].count(late.hash) == len(fetched) == 1
    assert machine.accused == []


def test_what_entered_is_ignored_when_it_comes_again() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    updates = [group.update(who) for who in group.members if who is not machine.who]
    shown(machine, group.header(bundle(group, updates)))
    before = len(machine.done)
    machine.hear(group.by_peer[updates[0].signer], *updates)
    assert machine.done[before:] == []
    assert current(machine).collection.updates == {}


def test_two_updates_for_one_round_convict_their_signer_in_a_later_one() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    liar = next(who for who in group.members if who is not machine.who)
    one, other = group.update(liar), group.update(liar, what="another")
    machine.hear(liar, one)
    raw = group.header(bundle(group, [group.update(who) for who in group.members if who is not liar]))
    shown(machine, raw)
    machine.hear(liar, other)
    assert machine.run.notices.evidence.keys() == {liar.peer_id}
    assert liar.peer_id not in {ref.trainer for ref in current(machine).collection.listing(b"").updates}
    shown(machine, without(machine))
    assert list(machine.run.notices.evidence) == [liar.peer_id]
    assert machine.accused == [liar.peer_id]


def test_updates_for_different_rounds_are_no_equivocation() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    first = next(who for who in group.members if who is not machine.who)
    machine.hear(first, group.update(first))
    shown(machine, group.header(bundle(group, [group.update(who) for who in group.members if who is not first])))
    machine.hear(first, group.update(first))
    assert machine.run.notices.evidence == {}
    assert machine.accused == []


def lists_of(machine: Machine) -> int:
    return sum(isinstance(e, fx.Broadcast) and b"collected" in encode(e.message) for e in machine.done)


def test_a_round_ends_its_collect_a_grace_after_as_many_updates_as_are_wanted() -> None:
    group = group_of(7, min_members=3, updates_per_version=4)
    machine = Machine(group, group.ranks[-1])
    others = [who for who in group.members if who is not machine.who]
    for number, who in enumerate(others[:4], 1):
        machine.hear(who, group.update(who))
        timers = [e.timer for e in machine.done if isinstance(e, fx.StartTimer)]
        assert (fx.Moment(1, "grace") in timers) is (number == 4)
    assert lists_of(machine) == 0
    machine.expire("grace")
    assert lists_of(machine) == 1


def test_who_lacks_an_update_that_k_members_list_does_not_wait_for_the_deadline() -> None:
    group = group_of(7, min_members=3, updates_per_version=4)
    machine = Machine(group, group.ranks[-1])
    others = [who for who in group.members if who is not machine.who]
    updates = [group.update(who) for who in others[:4]]
    machine.hear(others[0], updates[0])
    for who in others[: group.head.committee.k]:
        assert fx.Moment(1, "grace") not in [e.timer for e in machine.done if isinstance(e, fx.StartTimer)]
        machine.hear(who, group.listing(who, updates))
    assert fx.Moment(1, "grace") in [e.timer for e in machine.done if isinstance(e, fx.StartTimer)]


def test_a_late_update_of_its_own_is_in_the_journal_of_the_round_it_was_signed_in() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1])
    shown(machine, without(machine))
    trained(machine, 1)
    entries = [effect for effect in machine.done if isinstance(effect, fx.Journal)]
    assert [entry.round for entry in entries] == [2]
    again = Machine(group, machine.who)
    again.run = type(again.run)(group.head, machine.who)
    effects = again.run.begin(0.0, entries=[entry.entry for entry in entries])
    assert not current(again).pen.muted
    sent = [
        raw
        for e in effects
        if isinstance(e, fx.Broadcast) and isinstance(e.message, Records)
        for raw in e.message.items
    ]
    assert [verified(raw).record for raw in sent] == own_updates(machine)


def test_inclusions_of_a_run_that_is_not_buffered_say_nothing_new() -> None:
    group = Group(4, policy=RoundPolicy(first_members=1, min_updates=1))
    head = group.go_on()
    assert head.state.bases == ()
    assert {each.used for each in head.state.members} == {0}
    assert {type(i): i.staleness for i in head.header.inclusions} == {Inclusion: 0}
