"""A run on one member: what it holds, whom it asks and helps; and that nothing a peer sends makes it raise or grow."""

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from primep2p.core import effects as fx
from primep2p.core.allowances import CATCH_UP_EVERY_S, HELD_PER_MEMBER, HELP_EVERY_S, MAX_HELPED
from primep2p.core.chain import header_hash
from primep2p.core.checkpoints import Promised
from primep2p.core.checks import max_listed_notices
from primep2p.core.collection import Collection
from primep2p.core.genesis import Gathering
from primep2p.core.notices import MAX_BANS, MAX_REQUESTS
from primep2p.core.runs import Run
from primep2p.model.errors import PeerError
from primep2p.model.journal import Signed
from primep2p.model.messages import Abstained, Certified, Digest, OverlayMessage, Proposed, Proven, Records
from primep2p.model.records import (
    Ban,
    Certificate,
    Checkpoint,
    Collected,
    Departure,
    Envelope,
    Evidence,
    Header,
    Proposal,
    RoundPolicy,
    Update,
    Vote,
)
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes
from tests.core.kit import (
    Counting,
    Group,
    Machine,
    ban_of,
    certificate,
    cid,
    join_of,
    leave_of,
    member,
    run_spec,
    verified,
)

POLICY = RoundPolicy(rounds=100, first_members=1, min_updates=1, collect_s=60.0)


def group_of(n: int = 4) -> Group:
    return Group(n, policy=POLICY)


def certified(group: Group) -> Certified:
    """The next checkpoint, to be shown."""
    return Certified(group.run, group.checkpoint(group.header(group.full()[2])))


# ---- from round to round


def test_a_certificate_that_is_shown_ends_the_round() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    machine.handle(fx.Received(group.ranks[0].peer_id, certified(group)))
    assert machine.run.head.round == 1
    assert [effect.view for effect in machine.done if isinstance(effect, fx.Commit)] == [-1]


def test_a_certificate_of_another_chain_is_refused() -> None:
    group, machine = group_of(), Machine(group_of(), member(0))
    other = encode(msgspec.structs.replace(decode(Header, certified(group).checkpoint.header), parent=bytes(32)))
    machine.handle(fx.Received(group.ranks[0].peer_id, Certified(group.run, group.checkpoint(other))))
    assert machine.run.head.round == 0
    assert machine.accused == [group.ranks[0].peer_id]


def test_the_next_rounds_records_are_held_until_it_begins() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    shown = certified(group)
    group.go_on()
    ahead = group.update(group.ranks[0])
    machine.hear(group.by_peer[ahead.signer], ahead)
    assert not machine.run.round.records.knows(ahead.hash)  # type: ignore[union-attr]
    machine.handle(fx.Received(ahead.signer, shown))
    assert machine.run.round.records.knows(ahead.hash)  # type: ignore[union-attr]


def test_old_records_are_ignored() -> None:
    group = group_of()
    old = group.update(group.ranks[0])
    group.go_on()
    machine = Machine(group, group.ranks[3])
    assert machine.hear(group.by_peer[old.signer], old) == []
    assert machine.accused == []


def test_a_run_ends_with_its_last_round() -> None:
    group = Group(4, policy=msgspec.structs.replace(POLICY, rounds=1))
    machine = Machine(group, group.ranks[3])
    machine.handle(fx.Received(group.ranks[0].peer_id, certified(group)))
    assert machine.run.finished
    assert machine.run.round is None
    assert fx.Finished(1) in machine.done


def test_a_stretch_of_chain_is_followed_to_its_end_and_only_there_a_round_begins() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    chain = []
    for _ in range(3):
        chain.append(certified(group).checkpoint)
        group.go_on()
    effects = machine.handle(fx.Synced(group.ranks[0].peer_id, tuple(chain)))
    assert machine.run.head == group.head
    assert sum(isinstance(effect, fx.Train) for effect in effects) == 1


def test_a_chain_with_a_forged_link_is_followed_up_to_it_and_its_sender_accused() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    good = certified(group).checkpoint
    group.go_on()
    raw = group.header(group.full()[2])
    bad = Checkpoint(raw, certificate(group.members[:2], raw, run=group.run, round=2))
    machine.handle(fx.Synced(group.ranks[0].peer_id, (good, bad)))
    assert machine.run.head.round == 1
    assert machine.accused == [group.ranks[0].peer_id]


def test_more_liars_than_a_run_survives_stop_it_but_raise_nothing() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    liars = group.ranks[:3]
    bundle = group.full()[2]
    header = decode(Header, group.header(bundle))
    forged = encode(msgspec.structs.replace(header, left=(Departure(machine.who.peer_id, "dropped"),)))
    machine.told(liars[0], group.proposed(liars[0], bundle, header=forged))
    for liar in liars:
        machine.hear(liar, group.vote(liar, header_hash(forged), step="precommit"))
    assert machine.run.head.round == 0
    assert machine.handle(fx.Received(liars[0].peer_id, Digest(group.run, 1, ()))) is not None


# ---- whom it asks, whom it helps


def test_whoever_is_ahead_is_asked_once_a_second() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    ahead = fx.Received(group.ranks[0].peer_id, Digest(group.run, 9, ()))
    asked = [effect for _ in range(5) for effect in machine.handle(ahead)]
    assert asked == [fx.CatchUp(group.ranks[0].peer_id, 1)]
    machine.now += CATCH_UP_EVERY_S
    assert machine.handle(ahead) == [fx.CatchUp(group.ranks[0].peer_id, 1)]


@pytest.mark.parametrize("liar", [1, 60], ids=["a member", "a stranger"])
def test_one_that_claims_to_be_ahead_and_gives_nothing_is_asked_no_sooner_again(liar: int) -> None:
    group = group_of()
    machine, sender = Machine(group, member(0)), member(liar).peer_id
    for _ in range(9):
        machine.handle(fx.Received(sender, Digest(group.run, 9, ())))
        machine.handle(fx.Synced(sender, ()))
    assert [effect for effect in machine.done if isinstance(effect, fx.CatchUp)] == [fx.CatchUp(sender, 1)]


def test_one_that_lies_about_being_ahead_takes_nobody_elses_turn() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    for stranger in range(20, 30):
        machine.handle(fx.Received(member(stranger).peer_id, Digest(group.run, 2**50, ())))
    machine.handle(fx.Received(group.ranks[0].peer_id, Digest(group.run, 2**50, ())))
    honest = group.ranks[1].peer_id
    assert machine.handle(fx.Received(honest, Digest(group.run, 2, ()))) == [fx.CatchUp(honest, 1)]
    assert sum(isinstance(effect, fx.CatchUp) for effect in machine.done) == 3  # strangers have one turn among them


def test_one_that_is_behind_is_shown_the_head_at_most_every_so_often() -> None:
    group = group_of()
    group.go_on()
    machine = Machine(group, group.ranks[3])
    behind = fx.Received(group.ranks[0].peer_id, Digest(group.run, 1, ()))
    shown = fx.Send(group.ranks[0].peer_id, Certified(group.run, group.head.checkpoint))
    assert [machine.handle(behind) for _ in range(3)] == [[shown], [], []]
    machine.now += HELP_EVERY_S
    assert machine.handle(behind) == [shown]


def test_a_strangers_digest_is_worth_no_records() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    machine.train()
    assert machine.handle(fx.Received(member(20).peer_id, Digest(group.run, 1, ()))) == []


def test_peers_that_were_helped_are_not_remembered_for_ever() -> None:
    group = group_of()
    group.go_on()
    machine = Machine(group, group.ranks[3])
    for stranger in range(3 * MAX_HELPED):
        machine.now += 2 * HELP_EVERY_S
        machine.handle(fx.Received(f"peer {stranger}", Digest(group.run, 1, ())))
    assert len(machine.run.allowances._helped) <= MAX_HELPED


# ---- what is held for the next round


def test_one_member_has_so_much_room_for_the_next_round_and_strangers_none() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    group.go_on()
    for view in range(3 * HELD_PER_MEMBER):
        vote = group.vote(group.ranks[0], b"", view=view)
        machine.hear(group.ranks[0], vote)
        machine.hear(member(20), vote)
    held = machine.run.allowances.held
    assert {peer: len(messages) for peer, messages in held.items() if messages} == {
        group.ranks[0].peer_id: HELD_PER_MEMBER
    }


def test_a_member_that_repeats_anothers_record_does_not_fill_its_room() -> None:
    group = group_of()
    machine = Machine(group, group.members[0])
    liar, honest = group.members[1:3]
    shown = certified(group)
    group.go_on()
    early, later = group.update(honest), group.listing(honest, ())
    for _ in range(2 * HELD_PER_MEMBER):
        machine.hear(liar, early)
    machine.hear(honest, later)
    machine.handle(fx.Received(liar.peer_id, shown))
    assert machine.run.round.records.knows(later.hash)  # type: ignore[union-attr]


def test_a_proposal_with_a_forged_header_is_blamed_on_whoever_sent_it_even_when_it_was_held() -> None:
    group = group_of()
    now, shown = group.head, certified(group)
    later = group.go_on()
    proposer, liar, who = group.ranks[:3]
    group.head = now
    machine = Machine(group, who)
    group.head = later
    genuine = group.proposed(proposer, group.full()[2])
    machine.told(liar, Proposed(group.run, genuine.proposal, b"junk", b"junk"))
    machine.handle(fx.Received(liar.peer_id, shown))
    assert machine.accused == [liar.peer_id]


# ---- notices


def test_a_join_is_passed_on_once() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    join = join_of(7, group.spec)
    assert machine.hear(member(7), join) == [fx.Broadcast(Records(group.run, (join.raw,)))]
    assert machine.hear(group.ranks[0], join) == []


def test_what_another_voter_passed_on_is_kept_and_not_passed_on_again() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    join = join_of(7, group.spec)
    assert machine.hear(group.ranks[0], join) == []
    assert join.hash in machine.run.notices.hashes()


def test_a_join_of_a_member_is_not_even_verified() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    raw = join_of(0, group.spec).raw
    forged = raw[:-1] + bytes([raw[-1] ^ 1])
    assert machine.told(group.ranks[0], Records(group.run, (forged,))) == []
    stranger = join_of(7, group.spec).raw
    machine.told(group.ranks[0], Records(group.run, (stranger[:-1] + bytes([stranger[-1] ^ 1]),)))
    assert machine.accused == [group.ranks[0].peer_id], "for the stranger's only, whose signature counts"


def test_who_does_not_vote_passes_on_what_a_joiner_told_it_alone_and_not_what_everybody_hears() -> None:
    group = group_of()
    join, other = join_of(7, group.spec), join_of(8, group.spec)
    guest = Machine(group, member(9)).run
    told, told_other = (Records(group.run, (each.raw,)) for each in (join, other))
    assert guest.handle(fx.Received(join.signer, told, published=True), 0.0) == []
    assert guest.handle(fx.Received(other.signer, told_other), 0.0) == [fx.Broadcast(told_other)]


@pytest.mark.parametrize("join_round", [5, 2**53], ids=str)
def test_a_join_from_the_future_is_not_kept(join_round: int) -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    machine.hear(member(7), join_of(7, group.spec, round=join_round))
    assert machine.run.notices.hashes() == []


def test_strangers_joins_have_so_much_room_and_no_more() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[3])
    for stranger in range(20, 20 + 2 * MAX_REQUESTS):
        machine.hear(member(stranger), join_of(stranger, group.spec))
    assert len(machine.run.notices.hashes()) == MAX_REQUESTS


def _with_lists_of_two(group: Group, machine: Machine, join: object) -> None:
    """Everything of a round in which two members list a join that the machine's node does not."""
    updates = [group.update(who) for who in group.members]
    machine.train()
    for who, update in zip(group.members, updates, strict=True):
        if who is not machine.who:
            machine.hear(who, update)
    machine.expire("collect")
    for who in [w for w in group.members if w is not machine.who][:2]:
        machine.hear(who, group.listing(who, updates, [join]))  # type: ignore[list-item]
    machine.expire("lists")


def _proposals(machine: Machine) -> list[Proposal]:
    return [opened.record for opened in machine.signed if isinstance(opened.record, Proposal)]


def test_a_joiner_that_tells_two_stories_stalls_no_round() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[0])
    machine.hear(member(20), join_of(20, group.spec, address="here"))
    listed_by_others = join_of(20, group.spec, address="there")
    _with_lists_of_two(group, machine, listed_by_others)
    machine.hear(group.ranks[1], listed_by_others)  # which a digest asks for
    assert len(_proposals(machine)) == 1


def test_a_crowd_of_joiners_stalls_no_round() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[0])
    for stranger in range(20, 20 + MAX_REQUESTS):
        machine.hear(member(stranger), join_of(stranger, group.spec))
    listed_by_others = join_of(19, group.spec)
    _with_lists_of_two(group, machine, listed_by_others)
    machine.hear(group.ranks[1], listed_by_others)
    assert len(_proposals(machine)) == 1


def test_a_list_names_no_more_notices_than_a_bundle_has_room_for_whatever_others_list() -> None:
    group = Group(8, policy=msgspec.structs.replace(POLICY, consensus_threshold="1"))
    most = max_listed_notices(group.head.committee)
    assert most < MAX_REQUESTS
    machine = Machine(group, group.ranks[0])
    for stranger in range(20, 20 + MAX_REQUESTS):
        machine.hear(member(stranger), join_of(stranger, group.spec))
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert len(entry.notices) == most


def test_what_others_say_this_node_signed_counts_only_if_it_did_and_here() -> None:
    group = group_of()
    other_run = run_spec(policy=msgspec.structs.replace(POLICY, min_updates=2)).hash
    who = group.ranks[3]
    foreign = [
        b"junk",
        who.seal(Update(other_run, 1, bytes(32), cid("delta"), 1)).raw,
        who.seal(join_of(0, group.spec, round=1).record).raw,
        group.update(group.ranks[0]).raw,
    ]
    run = Run(group.head, who)
    run.begin(0.0, foreign=foreign)
    effects = run.handle(fx.Expired(fx.Moment(1, "collect")), 0.0)
    assert any(isinstance(effect, fx.Journal) for effect in effects)


# ---- evidence and bans


def two_updates(group: Group, liar: Envelopes) -> Evidence:
    """Not the two votes of `Group.evidence`."""
    return Evidence(group.update(liar).raw, group.update(liar, what="other").raw)


def test_evidence_is_passed_on_once_by_whoever_votes() -> None:
    group = group_of()
    machine, sender, liar = Machine(group, group.ranks[0]), group.ranks[1], group.ranks[2]
    evidence = group.evidence(liar)
    heard = fx.Received(sender.peer_id, Proven(group.run, evidence))
    assert machine.handle(heard) == [
        fx.Accuse(liar.peer_id, "equivocation", evidence),
        fx.Broadcast(Proven(group.run, evidence)),
    ]
    again = fx.Received(group.ranks[3].peer_id, Proven(group.run, two_updates(group, liar)))
    assert [machine.handle(event) for event in (heard, again)] == [[], []]


def test_who_sees_it_for_itself_tells_the_committee_and_the_run() -> None:
    group = group_of()
    machine, liar = Machine(group, group.ranks[0]), group.ranks[2]
    evidence = two_updates(group, liar)
    effects = machine.hear(liar, group.update(liar), group.update(liar, what="other"))
    told = Proven(group.run, evidence)
    assert [e for e in effects if isinstance(e, fx.Accuse)] == [fx.Accuse(liar.peer_id, "equivocation", evidence)]
    assert [e for e in effects if isinstance(e, fx.Broadcast | fx.Publish)] == [fx.Broadcast(told), fx.Publish(told)]
    assert machine.handle(fx.Received(group.ranks[1].peer_id, told)) == []


def test_a_strangers_word_that_somebody_lied_costs_no_signature() -> None:
    group = group_of()
    who = Counting(3)
    machine = Machine(group, who)
    before = who.checked
    for evidence in (group.evidence(member(1)), Evidence(b"junk", b"junk")):
        assert machine.handle(fx.Received(member(20).peer_id, Proven(group.run, evidence))) == []
    assert who.checked == before


def test_members_words_about_one_who_is_convicted_already_cost_no_signature() -> None:
    group = group_of()
    who, liar = Counting(3), member(1)
    machine = Machine(group, who)
    machine.handle(fx.Received(member(2).peer_id, Proven(group.run, group.evidence(liar))))
    before = who.checked
    machine.handle(fx.Received(member(2).peer_id, Proven(group.run, two_updates(group, liar))))
    machine.handle(fx.Received(member(0).peer_id, Proven(group.run, group.evidence(member(20)))))
    assert who.checked == before


def test_evidence_of_nothing_is_blamed_on_whoever_sent_it() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[0])
    record = group.update(group.ranks[2]).raw
    machine.handle(fx.Received(group.ranks[1].peer_id, Proven(group.run, Evidence(record, record))))
    assert machine.accused == [group.ranks[1].peer_id]


def test_evidence_is_remembered_from_round_to_round_and_across_a_restart() -> None:
    group = group_of()
    who, liar = group.ranks[0], group.ranks[2]
    evidence = group.evidence(liar)
    machine = Machine(group, who)
    machine.handle(fx.Received(group.ranks[1].peer_id, Proven(group.run, evidence)))
    machine.handle(fx.Received(group.ranks[1].peer_id, certified(group)))
    group.go_on()
    again = Run(group.head, who)
    again.begin(0.0, evidence=[evidence])
    for run in (machine.run, again):
        effects = run.handle(fx.Expired(fx.Moment(2, "collect")), 0.0)
        signed = [_journalled(effect) for effect in effects if isinstance(effect, fx.Journal)]
        [entry] = [record for record in signed if isinstance(record, Collected)]
        assert entry.accused == (liar.peer_id,)


def _journalled(effect: fx.Journal) -> msgspec.Struct:
    assert isinstance(effect.entry, Signed)
    return verified(effect.entry.envelope).record


def convicting(group: Group, liar: Envelopes) -> Certified:
    """The next checkpoint, in which `liar` is convicted."""
    updates = [group.update(who) for who in group.members]
    lists = [group.listing(who, updates, accused=[liar.peer_id]) for who in group.members]
    bundle = group.bundle(lists, updates, evidence={liar.peer_id: group.evidence(liar)})
    shown = Certified(group.run, group.checkpoint(group.header(bundle)))
    group.go_on(bundle)
    return shown


def test_a_convicted_peer_is_not_heard_when_it_asks_to_join_ever_again() -> None:
    group = group_of()
    machine, liar = Machine(group, group.ranks[0]), member(1 if group.ranks[0] is not member(1) else 2)
    index = 1 if liar is member(1) else 2
    machine.handle(fx.Received(group.ranks[3].peer_id, convicting(group, liar)))
    assert machine.run.head.state.expelled == (liar.peer_id,)
    for round in range(1, 4):
        assert machine.hear(liar, join_of(index, group.spec, round=round)) == []
        assert machine.run.notices.hashes() == []
        machine.handle(fx.Received(group.ranks[0].peer_id, certified(group)))
        group.go_on()


def test_one_that_is_convicted_follows_the_run_no_further_than_that() -> None:
    group = group_of()
    liar = group.ranks[1]
    machine = Machine(group, liar)
    machine.handle(fx.Received(group.ranks[3].peer_id, convicting(group, liar)))
    assert machine.run.round is None
    assert machine.run.head.round == 1


def test_a_ban_is_passed_on_once_and_listed_and_one_by_somebody_else_is_blamed_on_whoever_sent_it() -> None:
    group, sender = group_of(), member(0)
    machine = Machine(group, next(who for who in group.ranks if who is not sender))
    ban = ban_of(group.spec, member(9).peer_id)
    assert machine.hear(sender, ban) == [fx.Broadcast(Records(group.run, (ban.raw,)))]
    assert machine.hear(sender, ban) == []
    machine.hear(sender, ban_of(group.spec, member(8).peer_id, by=5))
    assert machine.accused == [sender.peer_id]
    machine.expire("collect")
    [entry] = [opened.record for opened in machine.signed if isinstance(opened.record, Collected)]
    assert entry.notices == (ban.hash,)


def test_a_ban_in_anothers_name_than_the_creators_costs_no_signature() -> None:
    group = group_of()
    who, sender = Counting(3), group.ranks[1]
    machine = Machine(group, who)
    before = who.checked
    machine.hear(sender, ban_of(group.spec, member(8).peer_id, by=5), ban_of(group.spec, member(8).peer_id, by=1))
    assert who.checked == before
    assert machine.accused == [sender.peer_id]
    ban = ban_of(group.spec, member(8).peer_id)
    machine.hear(sender, ban)
    assert who.checked == before + 1
    machine.hear(group.ranks[2], ban)
    assert who.checked == before + 1


class Watched(Collection):
    """Counts how often it is asked what the lists oblige to."""

    asked = 0

    @property
    def promised(self) -> Promised:
        """Counted."""
        self.asked += 1
        return super().promised


def test_a_notice_that_is_known_is_not_looked_up_in_the_lists() -> None:
    group = group_of()
    machine = Machine(group, group.ranks[0])
    assert machine.run.round is not None
    watched = machine.run.round.collection = Watched(group.head, machine.run.notices)
    join, ban = join_of(9, group.spec), ban_of(group.spec, member(8).peer_id)
    machine.hear(group.ranks[1], join)
    assert watched.asked == 1
    machine.hear(group.ranks[2], join, ban, ban)
    assert watched.asked == 2


# ---- fuzz: nothing that a peer sends makes a machine raise, or grow without bound

_GROUP = group_of()
_UPDATES, _LISTS, _BUNDLE = _GROUP.full()
_PROPOSED = [_GROUP.proposed(who, _BUNDLE, view=view) for view, who in enumerate(_GROUP.ranks)]
_NEXT = group_of()
_NEXT_CERTIFIED = certified(_NEXT)
_NEXT.go_on()
_ENVELOPES = [
    *(u.raw for u in _UPDATES),
    *(entry.raw for entry in _LISTS),
    *(p.proposal for p in _PROPOSED),
    *(
        _GROUP.vote(who, header, step=step, view=view).raw  # type: ignore[arg-type]
        for who in _GROUP.ranks
        for header in (b"", header_hash(_PROPOSED[0].header), bytes(32))
        for step in ("prevote", "precommit")
        for view in (0, 1, 7, 2**31)
    ),
    join_of(7, _GROUP.spec).raw,
    join_of(0, _GROUP.spec).raw,
    ban_of(_GROUP.spec, member(7).peer_id).raw,
    ban_of(_GROUP.spec, member(1).peer_id, by=1).raw,
    *(leave_of(_GROUP.spec, who, round=round).raw for who in _GROUP.members for round in (0, 1, 2)),
    leave_of(_GROUP.spec, member(20)).raw,
    _GROUP.spec.raw,
    _NEXT.update(_NEXT.members[0]).raw,
    _NEXT.vote(_NEXT.members[1], b"").raw,
    member(0).seal(Update(_GROUP.run, 2**53, bytes(32), cid("x"), 2**40)).raw,
    member(0).seal(Update(_GROUP.run, 1, _GROUP.head.hash, "bafkrei" + "b" * 52, 1)).raw,
    member(0).seal(Vote(_GROUP.run, 1, 2, 0, "prevote", b"short")).raw,
    member(0).seal(Vote(_GROUP.run, 0, 0, 0, "precommit", bytes(32))).raw,
    member(0).seal(Proposal(_GROUP.run, 1, 0, 2**31, 2**31, bytes(32))).raw,
    member(20).seal(Update(_GROUP.run, 1, bytes(32), cid("x"), 1)).raw,
]


@st.composite
def bent(draw: st.DrawFn, raw: bytes) -> bytes:
    """Bytes with a few of them changed, cut off or doubled."""
    out = bytearray(raw)
    for _ in range(draw(st.integers(0, 3))):
        if out:
            out[draw(st.integers(0, len(out) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(out)))
    return bytes(out) if draw(st.booleans()) else bytes(out[:cut])


def raws(valid: list[bytes]) -> st.SearchStrategy[bytes]:
    chosen = st.sampled_from(valid)
    return st.one_of(chosen, chosen, chosen.flatmap(bent), st.binary(max_size=64))


_HEADERS = [_PROPOSED[0].header, _NEXT_CERTIFIED.checkpoint.header, _GROUP.head.checkpoint.header]
_RUNS = st.sampled_from([_GROUP.run, _GROUP.run, _GROUP.run, bytes(32)])
_rounds = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**53, 2**64 - 1])
_certificates = st.one_of(
    st.just(_NEXT_CERTIFIED.checkpoint.certificate),
    st.just(_GROUP.head.checkpoint.certificate),
    st.builds(
        Certificate,
        _RUNS,
        st.sampled_from([0, 1, 2, 2**53]),
        st.sampled_from([header_hash(raw) for raw in _HEADERS]),
        st.lists(raws(_ENVELOPES), max_size=4).map(tuple),
    ),
)
MESSAGES: st.SearchStrategy[OverlayMessage] = st.one_of(
    st.builds(Records, _RUNS, st.lists(raws(_ENVELOPES), max_size=6).map(tuple)),
    st.builds(
        Proposed,
        _RUNS,
        raws([p.proposal for p in _PROPOSED]),
        raws(_HEADERS),
        raws([_BUNDLE]),
        st.lists(raws(_ENVELOPES), max_size=4).map(tuple),
    ),
    st.builds(Digest, _RUNS, _rounds, st.lists(st.binary(max_size=9), max_size=4).map(tuple)),
    st.builds(Certified, _RUNS, st.builds(Checkpoint, raws(_HEADERS), _certificates)),
    st.builds(Proven, _RUNS, st.builds(Evidence, raws(_ENVELOPES), raws(_ENVELOPES))),
    st.builds(Abstained, _RUNS, _rounds),
)
_senders = st.sampled_from([*(who.peer_id for who in _GROUP.members), member(20).peer_id])


def _decodable(message: OverlayMessage) -> bool:
    """Whether it could have come over the wire."""
    try:
        decode(OverlayMessage, encode(message))  # type: ignore[arg-type]
    except PeerError:
        return False
    return True


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heard=st.lists(st.tuples(_senders, MESSAGES), max_size=25), trained=st.booleans(), rank=st.integers(0, 3))
@example(heard=[(_GROUP.members[0].peer_id, Digest(_GROUP.run, 2**64 - 1, ()))], trained=True, rank=0)
def test_nothing_that_peers_send_makes_a_run_raise_or_grow(
    heard: list[tuple[str, OverlayMessage]], trained: bool, rank: int
) -> None:
    machine = Machine(_GROUP, _GROUP.ranks[rank])
    if trained:
        machine.train()
    for sender, message in heard:
        if _decodable(message):
            machine.handle(fx.Received(sender, message))
            machine.now += 0.1
    run = machine.run
    assert all(len(messages) <= HELD_PER_MEMBER for messages in run.allowances.held.values())
    assert len(run.notices.raws()) <= MAX_REQUESTS + MAX_BANS + max_listed_notices(_GROUP.head.committee)
    assert run.notices.evidence.keys() <= _GROUP.head.members.keys()
    if run.round is not None:
        slots = run.round.records._slots.values()
        assert all(len(held) <= 2 for held in slots)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(heard=st.lists(st.tuples(_senders, MESSAGES), max_size=25))
def test_nothing_that_peers_send_makes_a_gathering_raise(heard: list[tuple[str, OverlayMessage]]) -> None:
    gathering = Gathering(_GROUP.spec, join_of(0, _GROUP.spec), member(0))
    gathering.begin([])
    gathering.handle(fx.ParamsHeld(_GROUP.spec.record.params))
    for sender, message in heard:
        if _decodable(message):
            gathering.handle(fx.Received(sender, message))
        if isinstance(message, Certified):
            gathering.handle(fx.Synced(sender, (message.checkpoint,)))


def test_a_creator_that_signs_two_bans_of_one_peer_stalls_no_round() -> None:
    group = Group(4, policy=RoundPolicy(first_members=1, min_updates=1))
    creator, victim = member(0), member(77).peer_id
    honest = [who for who in group.ranks if who is not creator]
    ban = ban_of(group.spec, victim)
    payload = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(ban.record)), "once more"])
    covered = creator._covered("ban", creator.peer_id, payload)
    other = verified(encode(Envelope("ban", creator.peer_id, payload, creator._signer.sign(covered))))
    assert other.hash != ban.hash
    heard = {who.peer_id: ban.of(Ban) for who in honest[:2]} | {honest[2].peer_id: other.of(Ban)}
    for me in honest:
        machine = Machine(group, me)
        updates = [group.update(who) for who in group.ranks if who is not me]
        machine.hear(creator, heard[me.peer_id])
        machine.train()
        for update in updates:
            machine.hear(group.by_peer[update.signer], update)
        machine.expire("collect")
        machine.hear(creator, group.listing(creator, updates, [ban, other.of(Ban)]))
        for who in honest:
            if who is not me:
                machine.hear(who, group.listing(who, updates, [heard[who.peer_id]]))
        for who in honest:  # what repair brings
            machine.hear(who, heard[who.peer_id])
        machine.expire("lists")
        assert machine.run.notices.raws().keys() == {ban.hash, other.hash}
        assert any(isinstance(effect, fx.Aggregate) for effect in machine.done), "nobody could propose"


def test_a_run_is_finished_once_whatever_others_claim() -> None:
    group = Group(4, policy=RoundPolicy(rounds=1, first_members=1, min_updates=1))
    group.go_on()
    machine = Machine(group, group.ranks[0])
    machine.handle(fx.Received(member(66).peer_id, Digest(group.run, 99, ())))
    machine.handle(fx.Synced(member(66).peer_id, ()))
    assert [effect for effect in machine.done if isinstance(effect, fx.Finished)] == [fx.Finished(1)]
