"""Rounds of a roster of twenty: some vote, some train, and all others follow."""

from collections import deque

import pytest

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash
from primep2p.core.consensus import Timeout
from primep2p.model.ids import PeerId
from primep2p.model.messages import Certified, Digest, OverlayMessage, Proven, Records
from primep2p.model.records import Collected, RoundPolicy, Update, Vote
from primep2p.wire.envelope import Envelopes
from tests.core.kit import Group, Machine, join_of, member, verified

POLICY = RoundPolicy(
    rounds=100, first_members=1, min_updates=1, collect_s=60.0, committee_size=16, sample_fraction="0.25"
)


def group_of() -> Group:
    """Twenty members, of whom sixteen vote and five train."""
    return Group(20, policy=POLICY)


def plain(group: Group) -> Envelopes:
    """A member that neither votes nor trains in the round under way."""
    return next(who for who in group.members if who.peer_id not in group.head.due)


def trainer(group: Group) -> Envelopes:
    """A member that trains and does not vote, which there is in the first round or in one soon after."""
    while not (only := sorted(group.head.cohort.difference(group.head.committee.members))):
        group.go_on()
    return group.by_peer[only[0]]


def with_a_plain_member() -> Group:
    group = group_of()
    while group.head.due == group.head.members.keys():
        group.go_on()
    return group


def kinds(machine: Machine) -> set[type]:
    return {type(opened.record) for opened in machine.signed}


def test_a_roster_of_twenty_draws_who_votes_and_who_trains() -> None:
    group = group_of()
    assert group.head.is_drawn
    assert (len(group.head.committee.members), len(group.head.cohort)) == (16, 5)
    assert group.head.due == group.head.cohort | set(group.head.committee.members)


# ---- a plain member


def test_a_plain_member_neither_trains_lists_proposes_nor_votes() -> None:
    group = with_a_plain_member()
    machine = Machine(group, plain(group))
    updates, lists, bundle = group.full()
    proposed = group.proposed(group.ranks[0], bundle)
    for item in (*updates, *lists):
        machine.hear(group.by_peer[item.signer], item)
    machine.expire("collect")
    machine.expire("lists")
    machine.told(group.ranks[0], proposed)
    for step in ("prevote", "precommit"):
        for who in group.ranks[: group.head.committee.q - 1]:
            machine.hear(who, group.vote(who, header_hash(proposed.header), step=step))  # type: ignore[arg-type]
    for step in ("propose", "prevote", "precommit"):
        machine.handle(fx.Expired(fx.StepEnd(group.head.round + 1, Timeout(0, step))))  # type: ignore[arg-type]
    assert machine.signed == []
    assert not any(isinstance(effect, fx.Train | fx.Broadcast) for effect in machine.done)
    assert machine.accused == []


def test_a_plain_member_follows_a_certificate_and_waits_for_nobody() -> None:
    group = with_a_plain_member()
    machine = Machine(group, plain(group))
    assert machine.run.round is not None
    assert machine.run.round.awaited == frozenset()
    shown = group.checkpoint(group.header(group.full()[2]))
    machine.handle(fx.Received(group.ranks[0].peer_id, Certified(group.run, shown)))
    assert machine.run.head == group.go_on()


def test_a_certificate_needs_the_committees_votes_and_others_do_not_count() -> None:
    group = with_a_plain_member()
    machine, raw = Machine(group, plain(group)), group.header(group.full()[2])
    voters = [*group.ranks[: group.head.committee.q - 1], plain(group)]
    machine.handle(fx.Received(group.ranks[0].peer_id, Certified(group.run, group.checkpoint(raw, voters))))
    assert machine.run.head == group.head
    assert machine.accused == [group.ranks[0].peer_id]


def test_a_plain_member_keeps_evidence_and_joins_and_passes_on_only_what_it_hears_from_their_signers() -> None:
    group = with_a_plain_member()
    machine, liar = Machine(group, plain(group)), group.ranks[2]
    round = group.head.round
    one, other = join_of(30, group.spec, round=round), join_of(31, group.spec, round=round)
    evidence = group.evidence(liar)
    assert machine.hear(member(30), one) == [fx.Broadcast(Records(group.run, (one.raw,)))]
    assert machine.hear(group.ranks[0], other) == []
    told = machine.handle(fx.Received(group.ranks[0].peer_id, Proven(group.run, evidence)))
    assert told == [fx.Accuse(liar.peer_id, "equivocation", evidence)]
    assert machine.run.notices.evidence == {liar.peer_id: evidence}
    assert machine.run.notices.raws().keys() == {one.hash, other.hash}


RECORDS = {
    "an update": lambda group, who: group.update(who),
    "a list": lambda group, who: group.listing(who, ()),
    "a vote": lambda group, who: group.vote(who, b""),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_what_a_plain_member_signs_counts_for_nothing(record) -> None:  # type: ignore[no-untyped-def]
    group = with_a_plain_member()
    machine, who = Machine(group, group.ranks[0]), plain(group)
    odd = record(group, who)
    machine.hear(who, odd)
    assert machine.accused == [who.peer_id]
    assert machine.run.round is not None
    assert not machine.run.round.records.knows(odd.hash)


# ---- trainers


def test_a_trainer_sends_its_update_to_the_committee_and_signs_nothing_else() -> None:
    group = group_of()
    machine = Machine(group, trainer(group))
    effects = machine.train()
    [update] = machine.signed
    assert isinstance(update.record, Update)
    assert fx.Broadcast(Records(group.run, (update.raw,))) in effects
    assert machine.run.audience == set(group.head.committee.members)
    machine.expire("collect")
    assert kinds(machine) == {Update}


def test_one_that_votes_without_training_lists_what_the_cohort_delivers() -> None:
    group = group_of()
    voter = next(who for who in group.ranks if who.peer_id not in group.head.cohort)
    machine = Machine(group, voter)
    updates, lists, _ = group.full()
    assert not any(isinstance(effect, fx.Train) for effect in machine.done)
    for update in updates:
        machine.hear(group.by_peer[update.signer], update)
    [entry] = machine.signed
    assert entry.record == next(other.record for other in lists if other.signer == voter.peer_id)


def test_with_whom_each_stays_connected_follows_from_what_it_has_to_do() -> None:
    group = with_a_plain_member()
    only_trains = trainer(group)
    voters = set(group.head.committee.members)
    voter = group.ranks[0]
    assert Machine(group, voter).run.companions >= group.head.due - {voter.peer_id}
    assert Machine(group, only_trains).run.companions >= voters
    group = with_a_plain_member()
    neighbours = Machine(group, plain(group)).run.companions
    assert len(neighbours) == 4
    assert plain(group).peer_id not in neighbours


@pytest.mark.parametrize("n", [1, 2, 16, 17, 20])
def test_nobody_is_asked_to_stay_connected_to_itself(n: int) -> None:
    group = Group(n, policy=POLICY)
    companions = {who.peer_id: Machine(group, who).run.companions for who in group.members}
    assert all(peer not in others for peer, others in companions.items())
    assert group.head.is_drawn or all(others == companions.keys() - {peer} for peer, others in companions.items())


# ---- who is away


def test_a_proposer_that_is_not_connected_yet_is_not_taken_for_away_and_one_that_was_lost_is() -> None:
    group = group_of()
    for lost in (False, True):
        machine = Machine(group, group.ranks[-1], connected=False)
        if lost:
            machine.handle(fx.Lost(group.ranks[0].peer_id))
        machine.expire("collect")
        assert machine.votes("prevote") == ([b""] if lost else [])


def test_a_proposer_that_was_lost_and_is_back_is_waited_for() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[-1], connected=False)
    machine.handle(fx.Lost(group.ranks[0].peer_id))
    machine.handle(fx.Connected(group.ranks[0].peer_id))
    machine.expire("collect")
    assert machine.votes("prevote") == []


def test_a_trainer_that_is_not_connected_yet_is_waited_for_and_one_that_was_lost_is_not() -> None:
    group = group_of()
    late = trainer(group)
    updates, *_ = group.full()
    for lost in (False, True):
        voter = next(who for who in group.ranks if who.peer_id not in group.head.cohort)
        machine = Machine(group, voter, connected=False)
        for update in updates:
            if update.signer != late.peer_id:
                machine.hear(group.by_peer[update.signer], update)
        assert Collected not in kinds(machine)
        if lost:
            machine.handle(fx.Lost(late.peer_id))
        assert (Collected in kinds(machine)) is lost


# ---- digests


def test_digests_of_those_who_do_not_vote_are_not_answered_with_votes() -> None:
    group = with_a_plain_member()
    machine = Machine(group, group.ranks[0])
    vote = group.vote(group.ranks[1], b"")
    machine.hear(group.ranks[1], vote)
    empty = Digest(group.run, group.head.round + 1, ())
    assert machine.handle(fx.Received(plain(group).peer_id, empty)) == []
    effects = machine.handle(fx.Received(group.ranks[2].peer_id, empty))
    sent = [e.message for e in effects if isinstance(e, fx.Send)]
    assert any(isinstance(message, Records) and vote.raw in message.items for message in sent)


def test_a_digest_of_one_that_does_not_vote_is_asked_for_what_is_lacking_here() -> None:
    group = group_of()
    only_trains = trainer(group)
    machine, update = Machine(group, group.ranks[0]), group.update(only_trains)
    has = Digest(group.run, group.head.round + 1, (update.hash[:8],))
    effects = machine.handle(fx.Received(only_trains.peer_id, has))
    assert machine.run.round is not None
    assert effects == [fx.Send(only_trains.peer_id, machine.run.round.digest())]
    asked = Machine(group, only_trains)
    asked.train()
    [mine] = asked.signed
    answered = asked.handle(fx.Received(group.ranks[0].peer_id, machine.run.round.digest()))
    assert fx.Send(group.ranks[0].peer_id, Records(group.run, (mine.raw,))) in answered


def test_a_plain_member_that_is_behind_is_shown_the_head() -> None:
    group = with_a_plain_member()
    behind = plain(group)
    group.go_on()
    machine = Machine(group, group.ranks[0])
    effects = machine.handle(fx.Received(behind.peer_id, Digest(group.run, group.head.round, ())))
    assert effects == [fx.Send(behind.peer_id, Certified(group.run, group.head.checkpoint))]


# ---- all together


class Cluster:
    """All members' machines, and a network that delivers in order and loses nothing."""

    def __init__(self, group: Group) -> None:
        self.machines = {peer: Machine(group, who) for peer, who in group.by_peer.items()}
        self.done = dict.fromkeys(self.machines, 0)
        self.heads: dict[PeerId, list[Head]] = {peer: [] for peer in self.machines}
        self.signed: dict[PeerId, set[tuple[int, type]]] = {peer: set() for peer in self.machines}
        self.queue: deque[tuple[PeerId, PeerId, OverlayMessage]] = deque()

    def run(self, rounds: int) -> None:
        """Until everybody has so many checkpoints, or nothing moves any more."""
        while any(len(heads) < rounds for heads in self.heads.values()):
            for peer in self.machines:
                self.collect(peer, rounds)
            if not self.queue:
                return
            while self.queue:
                sender, receiver, message = self.queue.popleft()
                self.machines[receiver].handle(fx.Received(sender, message))
                self.collect(receiver, rounds)

    def collect(self, peer: PeerId, rounds: int) -> None:
        """Perform what a machine has wanted since the last time."""
        machine = self.machines[peer]
        while self.done[peer] < len(machine.done):
            effect = machine.done[self.done[peer]]
            self.done[peer] += 1
            match effect:
                case fx.Broadcast(message):
                    self.queue += [(peer, other, message) for other in sorted(machine.run.audience - {peer})]
                case fx.Publish(message):
                    self.queue += [(peer, other, message) for other in self.machines if other != peer]
                case fx.Send(other, message):
                    self.queue.append((peer, other, message))
                case fx.Commit(head, _):
                    self.heads[peer].append(head)
                case fx.Journal(round, entry) if hasattr(entry, "envelope"):
                    self.signed[peer].add((round, type(verified(entry.envelope).record)))
                case fx.Train(round, _) if round <= rounds:
                    machine.handle(fx.Trained(round, machine_delta(machine, round), 10, ()))
                case _:
                    pass


def machine_delta(machine: Machine, round: int) -> str:
    return machine.group.update(machine.who, what=round).record.delta


def test_twenty_members_certify_rounds_without_a_time_out_and_each_does_only_its_part() -> None:
    group = group_of()
    cluster = Cluster(group)
    cluster.run(2)
    first, second = next(iter(cluster.heads.values()))[:2]
    assert all([head.hash for head in heads[:2]] == [first.hash, second.hash] for heads in cluster.heads.values())
    assert set(second.header.seen) <= first.due.union(group.head.committee.members)  # whose votes are in its bundle
    for before, head in ((group.head, first), (first, second)):
        assert head.header.void == ""
        assert {inclusion.trainer for inclusion in head.header.inclusions} == before.cohort
        assert set(head.header.seen) >= before.due
        for peer, signed in cluster.signed.items():
            mine = {kind for round, kind in signed if round == head.round}
            assert (Update in mine) is (peer in before.cohort)
            assert (Collected in mine) is (Vote in mine) is (peer in before.committee)
    assert not any(machine.accused for machine in cluster.machines.values())


def test_a_plain_member_that_nobody_who_votes_is_connected_to_compares_notes_with_others() -> None:
    group = with_a_plain_member()
    who = plain(group)
    machine = Machine(group, who, connected=False)
    others = sorted(group.by_peer.keys() - set(group.head.committee.members) - {who.peer_id})
    for peer in (*others, member(99).peer_id):
        machine.handle(fx.Connected(peer))
    machine.done.clear()
    for _ in range(3):
        machine.expire("repair")
    assert others
    asked = [effect.peer for effect in machine.done if isinstance(effect, fx.Send)]
    assert set(asked) == set(others)
