"""What is known beyond the round: joins, bans and evidence, bounded whatever strangers send."""

import msgspec
import pytest

from primep2p.core.checks import max_accused, max_listed_notices
from primep2p.core.gossip import short
from primep2p.core.notices import MAX_BANS, MAX_REQUESTS, Notices
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.messages import Proven, Records
from primep2p.model.records import Admission, Evidence, RoundPolicy
from primep2p.wire.envelope import Opened
from tests.core.kit import Group, accepted, ban_of, invite_of, join_of, member, run_spec, verified

POLICY = RoundPolicy(rounds=100, first_members=1, min_updates=1)
GROUP = Group(4, policy=POLICY)
STRANGERS = range(20, 20 + 2 * MAX_REQUESTS)


def unopened(raw: bytes) -> Opened[msgspec.Struct]:
    """In place of what opens envelopes, where none should be opened."""
    raise AssertionError("a signature was checked")


def flooded(group: Group = GROUP) -> Notices:
    """Strangers ask to join, more than there is room for."""
    notices = Notices(group.head)
    for stranger in STRANGERS:
        notices.add_join(join_of(stranger, group.spec), verified, promised=False)
    return notices


def banning(group: Group, *peers: PeerId) -> Group:
    """The next round, in which the creator's bans and nothing else come."""
    bans = [ban_of(group.spec, peer) for peer in peers]
    updates = [group.update(who) for who in group.members]
    lists = [group.listing(who, updates, bans) for who in group.members]
    group.go_on(group.bundle(lists, updates, bans))
    return group


# ---- joins


def test_a_flood_of_strangers_stays_bounded() -> None:
    notices = flooded()
    assert len(notices.raws()) == len(notices.addresses) == MAX_REQUESTS
    assert not notices.has_room


def test_a_join_that_k_members_list_has_room_in_a_flood() -> None:
    notices, join = flooded(), join_of(19, GROUP.spec)
    assert not notices.add_join(join, verified, promised=False)
    assert notices.add_join(join, verified, promised=True)
    assert notices.raws()[join.hash] == join.raw


def test_of_one_signer_the_first_join_is_kept_and_another_only_where_k_members_list_it() -> None:
    notices = Notices(GROUP.head)
    first, second = (join_of(7, GROUP.spec, address=where) for where in ("here", "there"))
    assert notices.add_join(first, verified, promised=False)
    assert not notices.add_join(second, verified, promised=False)
    assert notices.add_join(second, verified, promised=True)
    assert notices.raws().keys() == {first.hash, second.hash}


def test_a_join_that_is_of_no_use_is_not_kept_even_where_k_members_list_it() -> None:
    notices = Notices(GROUP.head)
    for join in (join_of(1, GROUP.spec), join_of(7, GROUP.spec, round=2)):
        assert not notices.add_join(join, verified, promised=True)
    with pytest.raises(PeerError, match="another run"):
        notices.add_join(join_of(7, run_spec(creator=1)), verified, promised=True)
    assert notices.raws() == {}


def test_an_invite_that_is_not_good_is_blamed_and_one_that_is_used_up_is_only_of_no_use() -> None:
    group = Group(1, policy=POLICY, admission=Admission("invite"))
    notices, invite = Notices(group.head), invite_of(group.spec)
    with pytest.raises(PeerError):
        notices.add_join(join_of(7, group.spec, invitation=accepted(invite, group.spec, 8)), verified, promised=False)
    joins = [join_of(i, group.spec, invitation=accepted(invite, group.spec, i)) for i in (7, 8)]
    assert all(notices.add_join(join, verified, promised=False) for join in joins)
    updates = [group.update(member(0))]
    notices.follow(group.go_on(group.bundle([group.listing(member(0), updates, joins)], updates, joins)))
    assert len(group.head.members) == 2
    assert notices.raws() == {}  # one is a member, the invite lets nobody else in


# ---- bans


def test_a_ban_is_good_only_from_the_creator_and_not_against_itself() -> None:
    notices = Notices(GROUP.head)
    victim, creator = member(7).peer_id, GROUP.spec.record.creator
    other_run = run_spec(policy=msgspec.structs.replace(POLICY, rounds=3))
    odd = [ban_of(GROUP.spec, victim, by=1), ban_of(GROUP.spec, creator), ban_of(other_run, victim)]
    for ban in odd:
        with pytest.raises(PeerError, match="ban"):
            notices.add_ban(ban)
    assert notices.add_ban(ban_of(GROUP.spec, victim))
    assert not notices.add_ban(ban_of(GROUP.spec, victim))


def test_bans_come_first_in_a_list_and_no_flood_crowds_them_out() -> None:
    group = Group(8, policy=msgspec.structs.replace(POLICY, consensus_threshold="1"))
    notices, most = flooded(group), max_listed_notices(group.head.committee)
    bans = [ban_of(group.spec, member(stranger).peer_id) for stranger in STRANGERS[:5]]
    for ban in bans:
        assert notices.add_ban(ban)
    listing = notices.listing()
    assert most < MAX_REQUESTS
    assert len(listing) == most
    assert list(listing) == sorted(set(listing))
    assert {ban.hash for ban in bans} <= set(listing)


def test_bans_have_so_much_room() -> None:
    notices = Notices(GROUP.head)
    for i in range(MAX_BANS + 5):
        notices.add_ban(ban_of(GROUP.spec, f"12D3KooW{i:044}".replace("0", "z")))
    assert len(notices.raws()) == MAX_BANS


# ---- evidence


def test_evidence_against_a_member_is_kept_once_and_another_piece_costs_nothing() -> None:
    notices, liar = Notices(GROUP.head), GROUP.members[1]
    evidence = GROUP.evidence(liar)
    assert notices.add_evidence(evidence, verified) == liar.peer_id
    assert notices.accused() == (liar.peer_id,)
    other = Evidence(GROUP.update(liar).raw, GROUP.update(liar, what="other").raw)
    assert notices.add_evidence(other, unopened) is None
    assert notices.evidence == {liar.peer_id: evidence}


def test_evidence_against_a_stranger_is_ignored_and_costs_nothing() -> None:
    notices = Notices(GROUP.head)
    assert notices.add_evidence(GROUP.evidence(member(9)), unopened) is None
    assert notices.accused() == ()


def _of_another_run(who: int) -> Evidence:
    return Group(4, policy=msgspec.structs.replace(POLICY, rounds=3)).evidence(member(who))


def _forged(who: int) -> Evidence:
    """The second record is another member's, in the name of the first."""
    other = GROUP.vote(member(2), bytes(32)).raw
    forged = other.replace(member(2).peer_id.encode(), member(who).peer_id.encode())
    return Evidence(GROUP.vote(member(who), b"").raw, forged)


SHOWS_NOTHING = {
    "of another run": lambda: _of_another_run(1),
    "of one record": lambda: Evidence(GROUP.vote(member(1), b"").raw, GROUP.vote(member(1), b"").raw),
    "of two slots": lambda: Evidence(GROUP.vote(member(1), b"").raw, GROUP.vote(member(1), b"", view=1).raw),
    "of two signers": lambda: Evidence(GROUP.vote(member(1), b"").raw, GROUP.vote(member(2), bytes(32)).raw),
    "of two joins": lambda: Evidence(join_of(1, GROUP.spec).raw, join_of(1, GROUP.spec, address="x").raw),
    "with a forged signature": lambda: _forged(1),
    "of junk": lambda: Evidence(b"junk", b"junk"),
    "of one record and junk": lambda: Evidence(GROUP.vote(member(1), b"").raw, b"junk"),
}


@pytest.mark.parametrize("evidence", SHOWS_NOTHING.values(), ids=SHOWS_NOTHING)
def test_evidence_that_shows_nothing_accuses_nobody(evidence) -> None:  # type: ignore[no-untyped-def]
    notices = Notices(GROUP.head)
    with pytest.raises(PeerError):
        notices.add_evidence(evidence(), verified)
    assert notices.accused() == ()


def test_a_list_accuses_no_more_than_a_bundle_has_room_for() -> None:
    group = Group(16, policy=msgspec.structs.replace(POLICY, consensus_threshold="1"))
    notices = Notices(group.head)
    for who in group.members:
        notices.add_evidence(group.evidence(who), verified)
    assert len(notices.evidence) == 16
    assert notices.accused() == tuple(who.peer_id for who in group.members[: max_accused(group.head.committee)])


# ---- from checkpoint to checkpoint


def test_a_checkpoint_makes_forget_what_it_has_dealt_with() -> None:
    group = Group(4, policy=POLICY)
    notices = Notices(group.head)
    liar = next(who for who in group.members if who.peer_id != group.spec.record.creator)
    evidence = group.evidence(liar)
    joins = [join_of(i, group.spec) for i in (7, 8, 9)]
    ban = ban_of(group.spec, joins[1].signer)
    for join in joins:
        notices.add_join(join, verified, promised=False)
    notices.add_ban(ban)
    notices.add_evidence(evidence, verified)
    updates = [group.update(who) for who in group.members]
    dealt_with = [joins[0], ban]
    lists = [group.listing(who, updates, dealt_with, accused=[liar.peer_id]) for who in group.members]
    bundle = group.bundle(lists, updates, dealt_with, evidence={liar.peer_id: evidence})
    notices.follow(group.go_on(bundle))
    assert notices.raws().keys() == {joins[2].hash}
    assert notices.accused() == ()


def test_a_checkpoint_that_has_not_dealt_with_it_leaves_everything() -> None:
    group = Group(4, policy=POLICY)
    notices, liar = Notices(group.head), group.members[1]
    join, ban = join_of(7, group.spec), ban_of(group.spec, member(9).peer_id)
    notices.add_join(join, verified, promised=False)
    notices.add_ban(ban)
    notices.add_evidence(group.evidence(liar), verified)
    notices.follow(group.go_on())
    assert notices.raws().keys() == {join.hash, ban.hash}
    assert notices.accused() == (liar.peer_id,)


def test_one_that_was_banned_can_neither_ask_again_nor_be_banned_again() -> None:
    group = Group(4, policy=POLICY)
    notices = Notices(banning(group, member(9).peer_id).head)
    assert not notices.add_join(join_of(9, group.spec, round=1), verified, promised=True)
    assert not notices.add_ban(ban_of(group.spec, member(9).peer_id))


# ---- comparing notes


def test_two_that_compare_notes_give_each_other_what_they_lack() -> None:
    one, other = Notices(GROUP.head), Notices(GROUP.head)
    join, ban = join_of(7, GROUP.spec), ban_of(GROUP.spec, member(9).peer_id)
    evidence = GROUP.evidence(GROUP.members[1])
    one.add_join(join, verified, promised=False)
    one.add_ban(ban)
    one.add_evidence(evidence, verified)
    there = {short(hash_) for hash_ in other.hashes()}
    assert one.lacking(there) == [Records(GROUP.run, (join.raw, ban.raw)), Proven(GROUP.run, evidence)]
    assert one.lacking({short(hash_) for hash_ in one.hashes()}) == []


def test_other_evidence_against_the_same_member_is_nothing_that_anybody_lacks() -> None:
    one, other, liar = Notices(GROUP.head), Notices(GROUP.head), GROUP.members[1]
    one.add_evidence(GROUP.evidence(liar), verified)
    other.add_evidence(Evidence(GROUP.update(liar).raw, GROUP.update(liar, what="other").raw), verified)
    assert one.hashes() == other.hashes()
