"""The records of a round: two for each slot at the most, and what another one lacks."""

from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.gossip import SHORT_HASH_BYTES, Records, short
from primep2p.model.records import Evidence, Vote
from primep2p.wire.envelope import Opened
from tests.core.kit import member, run_spec

RUN = run_spec().hash


def vote(who: int, header: int, *, view: int = 0) -> Opened[Vote]:
    return member(who).seal(Vote(RUN, 1, 0, view, "prevote", bytes([header]) * 32))


def test_a_record_is_new_once() -> None:
    records = Records(member(0))
    assert [records.accept(vote(1, 1)) for _ in range(3)] == [True, False, False]


def test_a_second_record_in_a_slot_is_evidence_and_a_third_finds_no_room() -> None:
    records = Records(member(0))
    first, second, third = (vote(1, header) for header in range(3))
    records.accept(first)
    assert records.has_room(second)
    assert records.accept(second) == Evidence(first.raw, second.raw)
    assert (records.has_room(third), records.accept(third)) == (False, False)
    assert records.has_room(first)
    assert records.in_slot(first.signer, ("vote", 1, 0, 0, "prevote")) == first


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_nobody_fills_more_than_two_places_of_a_slot(votes: list[tuple[int, int, int]]) -> None:
    records = Records(member(0))
    for who, header, view in votes:
        records.accept(vote(who, header, view=view))
    for who in range(3):
        for view in range(3):
            sent = {header for w, header, v in votes if (w, v) == (who, view)}
            held = [o for o in records.by(member(who).peer_id) if o.record.view == view]  # type: ignore[attr-defined]
            assert len(held) == min(2, len(sent))


def test_what_another_one_lacks_is_what_its_digest_does_not_name() -> None:
    records = Records(member(0))
    votes = [vote(who, 1) for who in range(4)]
    for one in votes:
        records.accept(one)
    there = {short(one.hash) for one in votes[:2]}
    assert records.lacking(there) == votes[2:]
    assert records.lacking(set()) == votes
    assert {len(name) for name in there} == {SHORT_HASH_BYTES}


def test_a_known_envelope_is_not_verified_again_but_another_signature_on_it_is() -> None:
    records = Records(member(0))
    one = vote(1, 1)
    records.accept(one)
    assert records.open(one.raw) is one


def test_old_views_make_room() -> None:
    records = Records(member(0))
    for view in range(4):
        records.accept(vote(1, 1, view=view))
    records.forget_views(lambda view: view >= 2)
    assert [o.record.view for o in records.by(member(1).peer_id)] == [2, 3]  # type: ignore[attr-defined]
    assert records.accept(vote(1, 2, view=0)) is True
