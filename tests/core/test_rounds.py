"""One round on one member: what it signs, when, and what a hostile member cannot make of it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primep2p.core import effects as fx
from primep2p.core.chain import header_hash
from primep2p.core.consensus import Timeout
from primep2p.core.runs import Run
from primep2p.core.votes import slot_of
from primep2p.model.journal import JournalEntry, Signed
from primep2p.model.messages import Digest, Proposed, Proven, Records
from primep2p.model.pipeline import Krum, Pipeline, Sgd
from primep2p.model.records import Collected, Departure, Header, Proposal, RoundPolicy, Update, Vote
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes, Opened
from tests.core.kit import Group, Machine, cid, verified

POLICY = RoundPolicy(first_members=1, min_updates=1, collect_s=60.0)


def group_of(n: int = 4) -> Group:
    return Group(n, policy=POLICY)


def not_proposing(group: Group) -> Envelopes:
    """A member whose turn it is not in the first views."""
    return group.ranks[-1]


def listed(group: Group, who: Envelopes) -> tuple[Machine, bytes]:
    """A member in step propose of view 0 that has heard all updates and lists; and the bundle that follows."""
    machine = Machine(group, who)
    updates, lists, bundle = group.full()
    machine.train()
    for other, update in zip(group.members, updates, strict=True):
        if other is not who:
            machine.hear(other, update)
    for other, entry in zip(group.members, lists, strict=True):
        if other is not who:
            machine.hear(other, entry)
    return machine, bundle


# ---- a round in which all is well


def test_a_member_lists_what_everybody_delivered_and_the_proposer_proposes_what_follows() -> None:
    group = group_of()
    machine, bundle = listed(group, group.ranks[0])
    [proposed] = [e.message for e in machine.done if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    assert (proposed.bundle, proposed.header) == (_with_votes(group, bundle), machine_header(group, proposed.bundle))
    assert machine.votes("prevote") == [header_hash(proposed.header)]


def machine_header(group: Group, bundle: bytes) -> bytes:
    return group.header(bundle)


def _with_votes(group: Group, bundle: bytes) -> bytes:
    """An honest proposer adds the precommits of the head's certificate: their signers were there."""
    votes = [verified(raw) for raw in group.head.checkpoint.certificate.votes]
    updates, lists, _ = group.full()
    return group.bundle(lists, updates, votes=[vote.of(Vote) for vote in votes])


def test_a_quorum_of_precommits_ends_the_round() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    proposed = group.proposed(group.ranks[0], bundle)
    machine.told(group.ranks[0], proposed)
    hash_ = header_hash(proposed.header)
    for who in group.ranks[:2]:
        machine.hear(who, group.vote(who, hash_))
    assert machine.votes("precommit") == [hash_]
    for who in group.ranks[:2]:
        machine.hear(who, group.vote(who, hash_, step="precommit"))
    [commit] = [effect for effect in machine.done if isinstance(effect, fx.Commit)]
    assert commit.head.hash == hash_
    assert machine.run.head.round == 1


def test_a_proposal_of_somebody_elses_turn_changes_nothing_but_its_signers_name() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    machine.told(group.ranks[1], group.proposed(group.ranks[1], bundle))
    assert machine.votes("prevote") == []
    assert machine.accused == [group.ranks[1].peer_id]


def test_a_header_that_does_not_follow_from_its_bundle_is_prevoted_nil_and_its_proposer_accused() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    forged = msgspec.structs.replace(decode(Header, group.header(bundle)), params=cid("forged"))
    machine.told(group.ranks[0], group.proposed(group.ranks[0], bundle, header=encode(forged)))
    assert machine.votes("prevote") == [b""]
    assert machine.accused == [group.ranks[0].peer_id]


def test_an_aggregation_that_is_of_no_use_makes_a_void_round() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[0])
    machine.holds_back = lambda effect: isinstance(effect, fx.Aggregate)
    updates, lists, _ = group.full()
    machine.train()
    for other, update, entry in zip(group.members, updates, lists, strict=True):
        if other is not machine.who:
            machine.hear(other, update)
            machine.hear(other, entry)
    [wanted] = [effect for effect in machine.done if isinstance(effect, fx.Aggregate)]
    machine.handle(fx.Aggregated(1, wanted.key, None, None, "the mean is not finite"))
    [proposed] = [e.message for e in machine.done if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    header = decode(Header, proposed.header)
    assert (header.void, header.inclusions, header.params) == (
        "the mean is not finite",
        (),
        group.head.header.params,
    )


STATEFUL = Pipeline(outer=Sgd(momentum=0.9))


def test_a_header_with_another_state_of_the_optimiser_gets_no_vote_and_its_proposer_is_blamed() -> None:
    group = Group(4, policy=POLICY, pipeline=STATEFUL)
    machine, bundle = listed(group, not_proposing(group))
    right = decode(Header, group.header(bundle))
    assert right.optimiser is not None
    for wrong in (cid("poison"), None):
        forged = encode(msgspec.structs.replace(right, optimiser=wrong))
        machine.told(group.ranks[0], group.proposed(group.ranks[0], bundle, header=forged))
    assert machine.votes("prevote") == [b""]
    assert group.ranks[0].peer_id in machine.accused


def test_nobody_aggregates_or_votes_before_it_has_the_state_that_the_head_names() -> None:
    group = Group(4, policy=POLICY, pipeline=STATEFUL)
    state = group.go_on().header.optimiser
    assert state is not None
    machine = Late(group, not_proposing(group))
    updates, lists, bundle = group.full()
    for update in updates:
        machine.hear(group.by_peer[update.signer], update)
    for entry in lists:
        machine.hear(group.by_peer[entry.signer], entry)
    proposed = group.proposed(group.ranks[0], bundle)
    machine.told(group.ranks[0], proposed)
    assert [e.cid for e in machine.done if isinstance(e, fx.HoldOptimiser)] == [state]
    machine.handle(fx.OptimiserHeld(cid("another")))
    assert not [e for e in machine.done if isinstance(e, fx.Aggregate)]
    machine.handle(fx.OptimiserHeld(state))
    [job] = [e for e in machine.done if isinstance(e, fx.Aggregate)]
    assert (job.optimiser, job.seed) == (state, group.head.header.beacon)
    assert machine.votes("prevote") == [header_hash(proposed.header)]


class Late(Machine):
    """Its state of the optimiser is still on its way."""

    def perform(self, effects: list[fx.Effect]) -> None:
        self.holds_back = lambda effect: isinstance(effect, fx.HoldOptimiser)
        super().perform(effects)


def test_there_is_enough_when_the_rule_has_what_it_needs() -> None:
    group = Group(7, policy=POLICY, pipeline=Pipeline(Krum(1)))
    machine = Machine(group, not_proposing(group))
    graces = []
    for who in group.ranks[:5]:
        machine.hear(who, group.update(who))
        graces.append(any(isinstance(e, fx.StartTimer) and e.timer == fx.Moment(1, "grace") for e in machine.done))
    assert graces == [False] * 4 + [True]


def test_collecting_ends_after_a_grace_once_there_is_enough() -> None:
    group = group_of()
    machine = Machine(group, not_proposing(group))
    machine.now = 10.0
    machine.train()
    [grace] = [e for e in machine.done if isinstance(e, fx.StartTimer) and e.timer == fx.Moment(1, "grace")]
    assert grace.after_s == 5.0
    assert not any(isinstance(opened.record, Collected) for opened in machine.signed)
    machine.expire("grace")
    assert [type(opened.record) for opened in machine.signed] == [Update, Collected]


def test_collecting_ends_at_its_deadline_with_whatever_is_here() -> None:
    group = group_of()
    machine = Machine(group, not_proposing(group))
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed]
    assert entry == group.listing(machine.who, ()).record
    assert (entry.updates, entry.notices, entry.accused) == ((), (), ())  # type: ignore[attr-defined]


def test_a_trainer_without_a_connection_is_not_waited_for() -> None:
    group = group_of()
    machine = Machine(group, not_proposing(group), connected=False)
    machine.train()
    assert [type(opened.record) for opened in machine.signed][:2] == [Update, Collected]


def test_an_equivocators_updates_are_not_listed() -> None:
    group = group_of()
    machine = Machine(group, not_proposing(group))
    liar = group.ranks[0]
    machine.hear(liar, group.update(liar, what=1))
    machine.hear(liar, group.update(liar, what=2))
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed]
    assert isinstance(entry, Collected)
    assert entry.updates == ()
    assert [effect.evidence is not None for effect in machine.done if isinstance(effect, fx.Accuse)] == [True]


def test_a_silent_step_is_repaired_by_digests_to_two_members_in_turn() -> None:
    group = group_of(5)
    machine = Machine(group, not_proposing(group))
    machine.expire("repair")
    asked = []
    for _ in range(2):
        effects = machine.expire("repair")
        asked += [e.peer for e in effects if isinstance(e, fx.Send) and isinstance(e.message, Digest)]
    assert len(asked) == len(set(asked)) == 4


def test_a_digest_is_answered_with_what_its_sender_lacks() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    asker = group.ranks[0]
    own = [opened.raw for opened in machine.signed]
    have = tuple(h for h in machine.run.round.digest().have if h not in {o.hash[:8] for o in machine.signed})  # type: ignore[union-attr]
    effects = machine.handle(fx.Received(asker.peer_id, Digest(group.run, 1, have)))
    assert [e.message for e in effects if isinstance(e, fx.Send)] == [Records(group.run, tuple(own))]
    assert bundle


# ---- across restarts


class Life:
    """A member that is killed after a number of effects, and comes back with its journal."""

    def __init__(self, group: Group, who: Envelopes) -> None:
        self.group, self.who = group, who
        self.journal: list[JournalEntry] = []
        self.heard: list[fx.Event] = []
        self.slots: dict[tuple[object, ...], bytes] = {}
        self.start()

    def start(self) -> None:
        self.run = Run(self.group.head, self.who)
        self.run.connected.update(self.group.by_peer.keys() - {self.who.peer_id})
        self.budget = 10**9
        self.alive = True
        self.perform(self.run.begin(0.0, entries=list(self.journal)))

    def handle(self, event: fx.Event) -> None:
        if self.alive:
            self.perform(self.run.handle(event, 0.0))

    def perform(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            if self.budget == 0 or not self.alive:
                self.alive = False
                return
            self.budget -= 1
            match effect:
                case fx.Journal(1, Signed(envelope) as entry):
                    opened = verified(envelope)
                    before = self.slots.setdefault(slot_of(opened.record), opened.hash)
                    assert before == opened.hash, f"two records for {slot_of(opened.record)}"
                    self.journal.append(entry)
                case fx.Journal(1, entry):
                    self.journal.append(entry)
                case fx.HoldParams(params, _):
                    self.handle(fx.ParamsHeld(params))
                case fx.Obtain():
                    self.handle(fx.Obtained(effect.update))
                case fx.Aggregate(round=round, key=key):
                    self.handle(self.group.aggregated(round, key))


def _script(group: Group, who: Envelopes) -> list[fx.Event]:
    """Two views of a round with everything in it, as `who` may hear it, twice over."""
    updates, lists, bundle = group.full()
    other_bundle = group.bundle([entry for entry in lists if entry.signer != group.ranks[0].peer_id], updates)
    events: list[fx.Event] = [fx.Trained(1, cid("delta", who.peer_id, 1, ""), 10, ())]

    def hear(sender: Envelopes, *items: Opened[msgspec.Struct]) -> None:
        if sender is not who:
            events.append(fx.Received(sender.peer_id, Records(group.run, tuple(i.raw for i in items))))

    for other, update, entry in zip(group.members, updates, lists, strict=True):
        hear(other, update, entry)
    events += [fx.Expired(fx.Moment(1, kind)) for kind in ("grace", "collect", "lists")]
    for view, made in enumerate((bundle, other_bundle)):
        proposer = group.ranks[view]
        proposed = group.proposed(proposer, made, view=view)
        if proposer is not who:
            events.append(fx.Received(proposer.peer_id, proposed))
        for step in ("prevote", "precommit"):
            for voter in group.ranks[:2]:
                hear(voter, group.vote(voter, header_hash(proposed.header), step=step, view=view))  # type: ignore[arg-type]
                hear(voter, group.vote(voter, b"", step=step, view=view))  # type: ignore[arg-type]
        for step in ("propose", "prevote", "precommit"):
            events.append(fx.Expired(fx.StepEnd(1, Timeout(view, step))))  # type: ignore[arg-type]
    events.append(fx.Trained(1, cid("another delta", who.peer_id), 20, ()))
    return events


_RESTARTING = group_of()
_SCRIPTS = {rank: _script(_RESTARTING, _RESTARTING.ranks[rank]) for rank in range(4)}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), rank=st.integers(0, 3))
def test_no_second_signature_in_a_slot_whatever_is_lost_and_whenever_it_restarts(
    data: st.DataObject, rank: int
) -> None:
    life = Life(_RESTARTING, _RESTARTING.ranks[rank])
    for _ in range(data.draw(st.integers(1, 3), label="lives")):
        life.budget = data.draw(st.integers(0, 60), label="effects before the crash")
        for event in data.draw(st.lists(st.sampled_from(_SCRIPTS[rank]), max_size=40), label="events"):
            life.handle(event)
        life.start()


@pytest.mark.parametrize("crash_after", range(0, 60, 3))
def test_no_second_signature_when_everything_happens_again_in_order(crash_after: int) -> None:
    life = Life(_RESTARTING, _RESTARTING.ranks[0])
    life.budget = crash_after
    for event in _SCRIPTS[0]:
        life.handle(event)
    life.start()
    for event in reversed(_SCRIPTS[0]):
        life.handle(event)
    for event in _SCRIPTS[0]:
        life.handle(event)


def test_an_update_announced_before_a_restart_is_announced_again_byte_for_byte_and_not_trained_again() -> None:
    group = group_of()
    first = Machine(group, not_proposing(group))
    first.train()
    journal = [effect.entry for effect in first.done if isinstance(effect, fx.Journal)]
    second = Run(group.head, first.who)
    effects = second.begin(0.0, entries=journal) + second.handle(fx.ParamsHeld(group.head.header.params), 0.0)
    [mine] = first.signed
    assert any(e.message == Records(group.run, (mine.raw,)) for e in effects if isinstance(e, fx.Broadcast))
    assert not any(isinstance(effect, fx.Train) for effect in effects)


def test_a_member_is_mute_where_others_hold_what_its_journal_lacks() -> None:
    group = group_of()
    who = not_proposing(group)
    forgotten = group.update(who, what="before the backup")
    run = Run(group.head, who)
    effects = run.begin(0.0, foreign=[forgotten.raw]) + run.handle(fx.Expired(fx.Moment(1, "collect")), 0.0)
    assert not any(isinstance(effect, fx.Journal) for effect in effects)


def test_a_member_speaks_where_others_hold_only_what_its_journal_has() -> None:
    group = group_of()
    first = Machine(group, not_proposing(group))
    first.train()
    journal = [effect.entry for effect in first.done if isinstance(effect, fx.Journal)]
    run = Run(group.head, first.who)
    effects = run.begin(0.0, entries=journal, foreign=[opened.raw for opened in first.signed])
    effects += run.handle(fx.Expired(fx.Moment(1, "collect")), 0.0)
    assert any(isinstance(effect, fx.Journal) for effect in effects)


# ---- what a hostile member tries


def test_a_proposal_out_of_turn_for_an_honest_header_does_not_make_that_header_wrong() -> None:
    group = group_of()
    machine = Machine(group, not_proposing(group))
    machine.holds_back = lambda effect: isinstance(effect, fx.Aggregate)
    updates, lists, bundle = group.full()
    for other, update, entry in zip(group.members, updates, lists, strict=True):
        if other is not machine.who:
            machine.hear(other, update, entry)
    machine.train()
    machine.told(group.ranks[0], group.proposed(group.ranks[0], bundle))
    machine.told(group.ranks[1], group.proposed(group.ranks[1], bundle))  # while this node still aggregates
    for wanted in [effect for effect in machine.done if isinstance(effect, fx.Aggregate)]:
        machine.handle(group.aggregated(1, wanted.key))
    assert machine.votes("prevote") == [header_hash(group.header(bundle))]


def test_one_liar_moves_nobody_to_a_later_view_in_the_name_of_others() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    machine.told(group.ranks[0], group.proposed(group.ranks[0], bundle))
    for view in range(4, 12):
        machine.told(group.ranks[1], group.proposed(group.ranks[1], bundle, view=view))
    assert machine.run.round is not None
    assert machine.run.round.consensus.view == 0


def test_a_proposer_that_makes_a_thousand_headers_fills_no_memory() -> None:
    group = group_of()
    machine, bundle = listed(group, not_proposing(group))
    header = decode(Header, group.header(bundle))
    for number in range(100):
        forged = encode(msgspec.structs.replace(header, params=cid("forged", number)))
        machine.told(group.ranks[0], group.proposed(group.ranks[0], bundle, header=forged))
    assert machine.run.round is not None
    assert len(machine.run.round.candidates.judgeable()) <= 3  # its two, and the one that this node drafted


def test_bare_proposals_for_far_views_fill_no_memory() -> None:
    group = group_of()
    machine, _ = listed(group, not_proposing(group))
    liar, before = group.ranks[0], len(machine.run.round.records.hashes())  # type: ignore[union-attr]
    for turn in range(100):
        machine.hear(liar, liar.seal(Proposal(group.run, 1, 0, 4 * turn, -1, bytes(32))))
    assert machine.run.round is not None
    assert len(machine.run.round.records.hashes()) <= before + 4


def test_a_trainer_with_three_updates_keeps_nobody_from_judging_the_one_that_k_members_list() -> None:
    group = group_of()
    who = not_proposing(group)
    liar = group.ranks[1]
    others = [member for member in group.members if member not in (who, liar)]
    honest = [group.update(member) for member in group.members if member is not liar]
    told_to_others = group.update(liar, what="what others hear")
    machine = Machine(group, who)
    machine.hear(liar, group.update(liar, what="junk"), group.update(liar, what="more junk"))
    machine.train()
    for update in honest:
        machine.hear(others[0], update)
    lists = [group.listing(member, [*honest, told_to_others]) for member in others]
    machine.expire("collect")
    mine = next(opened.of(Collected) for opened in machine.signed if isinstance(opened.record, Collected))
    lists.append(mine)
    bundle = group.bundle(lists, [*honest, told_to_others])
    proposed = group.proposed(group.ranks[0], bundle)
    machine.told(group.ranks[0], proposed)
    assert machine.votes("prevote") == [header_hash(proposed.header)]


def test_a_proposer_gets_the_third_update_of_a_trainer_where_k_lists_name_it() -> None:
    group = group_of()
    who = group.ranks[0]
    liar = group.ranks[1]
    others = [member for member in group.members if member not in (who, liar)]
    honest = [group.update(member) for member in group.members if member is not liar]
    told_to_others = group.update(liar, what="what others hear")
    machine = Machine(group, who)
    machine.hear(liar, group.update(liar, what="junk"), group.update(liar, what="more junk"))
    machine.train()
    for update in honest:
        machine.hear(others[0], update)
    machine.expire("collect")
    for member in others:
        machine.hear(member, group.listing(member, [*honest, told_to_others]))
    machine.expire("lists")
    assert not any(isinstance(opened.record, Proposal) for opened in machine.signed)
    machine.hear(others[0], told_to_others)  # which its digest asks for
    assert any(isinstance(opened.record, Proposal) for opened in machine.signed)


def test_far_votes_of_k_members_take_a_proposer_to_its_view_and_turn_at_once() -> None:
    group = group_of()
    machine, _ = listed(group, group.ranks[3])
    for who in group.ranks[:2]:
        machine.hear(who, group.vote(who, b"", view=7))
    assert machine.run.round is not None
    assert machine.run.round.consensus.view == 7
    assert any(isinstance(o.record, Proposal) and o.record.view == 7 for o in machine.signed)


# ---- one that signs twice


def proposing(group: Group, liar: Envelopes, *, early: bool) -> tuple[Machine, Header]:
    """The first proposer's round, in which one member votes twice in a slot, before the lists or after them; and the
    header that it puts forward."""
    machine = Machine(group, group.ranks[0])
    updates = [group.update(who) for who in group.members]
    twice = [group.vote(liar, b""), group.vote(liar, bytes(32))]
    if early:
        machine.hear(liar, *twice)
    machine.train()
    for who, update in zip(group.members, updates, strict=True):
        if who is not machine.who:
            machine.hear(who, update)
    machine.expire("collect")
    accused = [liar.peer_id] if early else []
    honest = [update for update in updates if update.signer not in accused]
    for who in group.members:
        if who not in (machine.who, liar):
            machine.hear(who, group.listing(who, honest, accused=accused))
    if not early:
        machine.hear(liar, *twice)
    machine.expire("lists")
    [proposed] = [e.message for e in machine.done if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    return machine, decode(Header, proposed.header)


def test_one_that_signs_twice_before_the_lists_is_convicted_by_this_rounds_header() -> None:
    group = group_of()
    liar = group.ranks[2]
    machine, header = proposing(group, liar, early=True)
    assert header.left == (Departure(liar.peer_id, "convicted"),)
    assert liar.peer_id not in {inclusion.trainer for inclusion in header.inclusions}
    assert machine.votes("prevote") == [header_hash(encode(header))]


def test_one_that_signs_twice_after_the_lists_is_accused_in_the_next_round() -> None:
    group = group_of()
    liar = group.ranks[2]
    machine, header = proposing(group, liar, early=False)
    assert header.left == ()
    raw = encode(header)
    for who in group.ranks[1:]:
        machine.hear(who, group.vote(who, header_hash(raw), step="precommit"))
    assert machine.run.head.round == 1
    machine.expire("collect")
    entry = machine.signed[-1].record
    assert isinstance(entry, Collected)
    assert (entry.round, entry.accused) == (2, (liar.peer_id,))


def test_a_proposer_waits_for_evidence_that_k_lists_name_and_proposes_when_it_comes() -> None:
    group = group_of()
    machine, liar = Machine(group, group.ranks[0]), group.ranks[3]
    updates = [group.update(who) for who in group.members]
    machine.train()
    for who, update in zip(group.members, updates, strict=True):
        if who is not machine.who:
            machine.hear(who, update)
    machine.expire("collect")
    for who in group.ranks[1:3]:
        machine.hear(who, group.listing(who, updates, accused=[liar.peer_id]))
    machine.expire("lists")
    assert not any(isinstance(opened.record, Proposal) for opened in machine.signed)
    machine.handle(fx.Received(group.ranks[1].peer_id, Proven(group.run, group.evidence(liar))))
    [proposed] = [e.message for e in machine.done if isinstance(e, fx.Broadcast) and isinstance(e.message, Proposed)]
    assert decode(Header, proposed.header).left == (Departure(liar.peer_id, "convicted"),)


def test_a_digest_brings_evidence_to_whoever_lacks_it() -> None:
    group = group_of()
    machine, liar, asker = Machine(group, group.ranks[0]), group.ranks[2], group.ranks[1]
    evidence = group.evidence(liar)
    machine.handle(fx.Received(asker.peer_id, Proven(group.run, evidence)))
    effects = machine.handle(fx.Received(asker.peer_id, Digest(group.run, 1, ())))
    assert fx.Send(asker.peer_id, Proven(group.run, evidence)) in effects
    machine.now += 1.0
    have = machine.run.round.digest().have  # type: ignore[union-attr]
    assert machine.handle(fx.Received(asker.peer_id, Digest(group.run, 1, have))) == []


def test_a_wrong_reveal_is_looked_for_once_for_each_member() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[1])
    revealer = group.ranks[0]
    right = group.listing(revealer, []).record
    for number in range(3):
        wrong = msgspec.structs.replace(right, reveal=bytes([number]) * 32)
        machine.hear(revealer, revealer.seal(wrong))
    assert machine.accused == [revealer.peer_id]
    machine.hear(revealer, revealer.seal(right))
    assert machine.run.round is not None
    assert revealer.peer_id not in machine.run.round.collection.lists
