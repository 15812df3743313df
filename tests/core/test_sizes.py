"""No record is so large that a bundle or a message has no room for what must be in it [E6]."""

import msgspec
import pytest

from primep2p.core import admission
from primep2p.core import effects as fx
from primep2p.core.admission import MAX_JOIN_BYTES
from primep2p.core.chain import Head
from primep2p.core.checkpoints import open_bundle
from primep2p.core.checks import fitting, max_accused, max_list_bytes, max_listed_notices, max_update_bytes
from primep2p.core.gossip import in_messages
from primep2p.core.votes import MAX_EVIDENCE_BYTES, MAX_VOTE_BYTES, Committee, convict, open_certificate
from primep2p.model.errors import PeerError
from primep2p.model.messages import Certified, Proven
from primep2p.model.records import (
    MAX_COMMITTEE,
    MAX_REFS,
    Bundle,
    Collected,
    Envelope,
    Evidence,
    Join,
    Metric,
    RoundPolicy,
    Update,
    UpdateRef,
)
from primep2p.services.peers.members import MAX_FRAME_BYTES
from primep2p.wire.codec import MAX_RECORD_BYTES, decode, encode
from primep2p.wire.envelope import Envelopes, Opened
from tests.core.kit import Group, Machine, ban_of, join_of, member, run_spec, verified

POLICY = RoundPolicy(first_members=1, min_updates=1)
MUCH = 3 * 2**20


def padded(opened: Opened[msgspec.Struct], who: Envelopes, size: int) -> Opened[msgspec.Struct]:
    """The same record as a later version may sign it: with a field appended."""
    envelope = decode(Envelope, opened.raw)
    payload = msgspec.msgpack.encode([*msgspec.msgpack.decode(envelope.payload), bytes(size)])
    covered = who._covered(envelope.kind, envelope.signer, payload)
    return verified(encode(Envelope(envelope.kind, envelope.signer, payload, who._signer.sign(covered))))


def wrapped(opened: Opened[msgspec.Struct], size: int) -> Opened[msgspec.Struct]:
    """The same record in a larger envelope, which no signature covers."""
    return verified(msgspec.msgpack.encode([*msgspec.msgpack.decode(opened.raw), bytes(size)]))


def test_a_strangers_large_join_is_neither_kept_nor_passed_on() -> None:
    group = Group(4, policy=POLICY)
    machine = Machine(group, group.ranks[0])
    for i in range(30, 34):
        machine.hear(member(i), padded(join_of(i, group.spec), member(i), MUCH))
    assert machine.accused == [member(i).peer_id for i in range(30, 34)]
    assert machine.run.notices.raws() == {}
    assert not any(isinstance(effect, fx.Broadcast) for effect in machine.done)


def test_two_large_updates_stall_no_round() -> None:
    group = Group(7, policy=POLICY)
    machine = Machine(group, group.ranks[0])
    honest = [group.update(who) for who in group.ranks[1:5]]
    large = [padded(group.update(who), who, MUCH) for who in group.ranks[5:]]
    machine.train()
    for update in (*honest, *large):
        machine.hear(group.by_peer[update.signer], update)
    machine.expire("collect")
    for who in group.ranks[1:]:
        machine.hear(who, group.listing(who, honest))
    machine.expire("lists")
    assert machine.accused == [who.peer_id for who in group.ranks[5:]]
    assert machine.votes("prevote")


KINDS = {
    "an update": lambda group, who: group.update(who),
    "a list": lambda group, who: group.listing(who, ()),
    "a vote": lambda group, who: group.vote(who, b""),
    "a ban": lambda group, who: ban_of(group.spec, member(9).peer_id),
    "a join": lambda group, who: join_of(30, group.spec),
}


@pytest.mark.parametrize("kind", KINDS)
def test_who_wraps_anothers_record_in_much_is_to_blame_and_not_its_signer(kind: str) -> None:
    group = Group(4, policy=POLICY)
    machine, record = Machine(group, group.ranks[0]), KINDS[kind](group, group.ranks[1])
    machine.hear(group.ranks[2], wrapped(record, MUCH))
    assert machine.accused == [group.ranks[2].peer_id]
    machine.hear(group.ranks[2], record)
    assert machine.run.round is not None
    assert machine.run.round.records.knows(record.hash) or machine.run.notices.knows(record.hash)


def test_a_certificate_of_large_votes_is_none() -> None:
    group = Group(4, policy=POLICY)
    machine = Machine(group, group.ranks[0])
    shown = group.checkpoint(group.header(group.full()[2]))
    votes = tuple(wrapped(verified(raw), MUCH // 4).raw for raw in shown.certificate.votes)
    large = msgspec.structs.replace(shown, certificate=msgspec.structs.replace(shown.certificate, votes=votes))
    machine.handle(fx.Received(group.ranks[1].peer_id, Certified(group.run, large)))
    assert machine.accused == [group.ranks[1].peer_id]
    assert machine.run.head == group.head
    with pytest.raises(PeerError, match="bytes"):
        open_certificate(
            large.certificate, group.head.committee, verified, run=group.run, round=1, header=shown.certificate.header
        )


def test_evidence_that_no_bundle_could_carry_convicts_nobody() -> None:
    group = Group(4, policy=POLICY)
    machine, liar = Machine(group, group.ranks[0]), group.ranks[1]
    small = group.evidence(liar)
    large = Evidence(small.first, padded(verified(small.second), liar, MAX_EVIDENCE_BYTES).raw)
    machine.handle(fx.Received(group.ranks[2].peer_id, Proven(group.run, large)))
    assert machine.run.notices.evidence == {}
    assert machine.accused == [group.ranks[2].peer_id]
    convict(small, group.run, verified)


def test_a_bundle_with_a_large_record_is_wrong() -> None:
    group = Group(4, policy=POLICY)
    updates, lists, _ = group.full()
    large = [wrapped(updates[0], MUCH).of(Update), *updates[1:]]
    with pytest.raises(PeerError, match="bytes"):
        open_bundle(group.bundle(lists, large), group.head, verified)
    with pytest.raises(PeerError, match="bytes"):
        open_bundle(group.bundle([wrapped(lists[0], MUCH).of(Collected), *lists[1:]], updates), group.head, verified)


# ---- honest records fit


def sizes_of(n: int, cohort: int) -> Head:
    """What bounds follow from, of a round with so many who vote and so many who train."""

    class Sizes:
        committee = Committee.of(tuple(str(i) for i in range(n)), "0.66")
        spec = run_spec(policy=POLICY).record

    sizes = Sizes()
    sizes.cohort = range(cohort)  # type: ignore[attr-defined]
    return sizes  # type: ignore[return-value]


@pytest.mark.parametrize("n", [1, 4, 16, 40])
def test_the_longest_honest_list_fits(n: int) -> None:
    group = Group(n, policy=RoundPolicy(first_members=1, min_updates=1, committee_size=31))
    head = group.head
    refs = tuple(UpdateRef(peer, bytes(32)) for peer in sorted(head.cohort))
    notices = (bytes(32),) * max_listed_notices(head.committee)
    accused = tuple(sorted(head.members))[: max_accused(head.committee)]
    longest = member(0).seal(Collected(group.run, 2**53, refs, notices, bytes(32), accused))
    assert len(longest.raw) <= max_list_bytes(head)


def test_of_more_metrics_than_an_update_has_room_for_the_first_are_kept() -> None:
    group = Group(4, policy=POLICY)
    metrics = tuple(Metric(f"{i:02}" + "\N{SNOWMAN}" * 62, 1.0) for i in range(32))
    kept = fitting(metrics, sizes_of(16, 375))
    assert kept == metrics[: len(kept)]
    assert 0 < len(kept) < 32
    assert len(group.update(member(0), examples=2**40, metrics=kept).raw) <= max_update_bytes(sizes_of(16, 375))
    assert fitting(metrics, sizes_of(31, 64)) == metrics


def test_a_join_with_more_addresses_than_fit_leaves_out_the_last() -> None:
    group = Group(1, policy=POLICY)
    addresses = tuple(f"/dns4/{i:x}{'a' * 240}/tcp/4001" for i in range(16))
    join = admission.join_of(
        member(5),
        group.spec,
        round=2**40,
        addresses=addresses,
        kernels=bytes(32),
        invitation=(bytes(400), bytes(400)),
    )
    assert len(join.raw) <= MAX_JOIN_BYTES
    assert join.of(Join).record.addresses == addresses[:11]


def test_a_bundle_of_all_the_largest_fits_into_a_record() -> None:
    for n in range(16, MAX_COMMITTEE + 1):
        head = sizes_of(n, min(1024, MAX_REFS // n))
        bundle = Bundle(
            (bytes(max_list_bytes(head)),) * n,
            (bytes(max_update_bytes(head)),) * len(head.cohort),
            (bytes(MAX_JOIN_BYTES),) * (n * max_listed_notices(head.committee) // head.committee.k),
            (bytes(MAX_VOTE_BYTES),) * n,
            (bytes(MAX_EVIDENCE_BYTES + 16),) * (n * max_accused(head.committee) // head.committee.k),
        )
        assert len(encode(bundle)) <= MAX_RECORD_BYTES, n


def test_records_are_sent_in_as_many_messages_as_they_need() -> None:
    raws = [bytes(300_000)] * 7 + [bytes(2_000_000)] + [b"x"] * 3000
    messages = in_messages(bytes(32), raws)
    assert [raw for message in messages for raw in message.items] == raws
    assert all(len(encode(message)) <= MAX_FRAME_BYTES for message in messages)
    assert all(len(message.items) <= 1024 for message in messages)
    assert in_messages(bytes(32), []) == []
