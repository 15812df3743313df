"""Counting: quorums against a table and their theorems, tallies, evidence, certificates."""

from itertools import combinations, takewhile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.core.votes import Committee, Tally, convict, open_certificate, open_votes, slot_of
from primep2p.model.errors import PeerError
from primep2p.model.records import (
    FULL_COMMITTEE,
    Certificate,
    Evidence,
    Join,
    Proposal,
    RoundPolicy,
    RunSpec,
    Update,
    Vote,
)
from primep2p.wire.envelope import Opened
from tests.core.kit import cid, join_of, member, run_spec, verified

RUN = run_spec().hash
HEADER, OTHER = bytes([1]) * 32, bytes([2]) * 32

# n: q, k, survives silent, survives liars, at the threshold 0.66
TABLE = {
    1: (1, 1, 0, 0),
    2: (2, 1, 0, 1),
    3: (2, 2, 1, 0),
    4: (3, 2, 1, 1),
    5: (4, 2, 1, 2),
    6: (4, 3, 2, 1),
    7: (5, 3, 2, 2),
    8: (6, 3, 2, 3),
    9: (6, 4, 3, 2),
    10: (7, 4, 3, 3),
    11: (8, 4, 3, 4),
    12: (8, 5, 4, 3),
    13: (9, 5, 4, 4),
    14: (10, 5, 4, 5),
    15: (10, 6, 5, 4),
    16: (11, 6, 5, 5),
}


DOCUMENT = Path(__file__).parents[2] / "docs" / "consensus.md"


def committee(n: int, threshold: str = "0.66") -> Committee:
    return Committee.of(tuple(f"member {index:02}" for index in range(n)), threshold)


@pytest.mark.parametrize("n", TABLE)
def test_quorums_are_those_of_the_table(n: int) -> None:
    one = committee(n)
    assert (one.q, one.k, one.survives_silent, one.survives_liars) == TABLE[n]


def test_the_bounds_in_the_document_are_those_of_committees_with_the_default_threshold() -> None:
    _, found, after = DOCUMENT.read_text(encoding="utf-8").partition("<!-- bounds: held to core/votes.py")
    assert found
    table = "".join(takewhile(lambda line: line.startswith("|"), after.splitlines(keepends=True)[1:]))
    _, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    by_n = (committee(n, RoundPolicy().consensus_threshold) for n in range(1, FULL_COMMITTEE + 1))
    expected = [(len(c.members), c.q, c.k, c.survives_liars, c.survives_silent) for c in by_n]
    assert [tuple(int(cell) for cell in row) for row in rows] == expected


MAJORITIES = [("0.0", 3), ("0.5", 3), ("0.500001", 3), ("0.8", 4), ("0.800001", 5), ("1", 5)]


@pytest.mark.parametrize(("threshold", "q"), MAJORITIES)
def test_a_threshold_is_an_exact_fraction_and_never_less_than_a_majority(threshold: str, q: int) -> None:
    assert committee(5, threshold).q == q


THRESHOLDS = ["0.5", "0.66", "0.75", "0.9", "1"]


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("n", range(1, 10))
def test_any_two_quorums_share_more_members_than_the_liars_that_a_run_survives(n: int, threshold: str) -> None:
    one = committee(n, threshold)
    quorums = [set(some) for some in combinations(one.members, one.q)]
    assert min(len(a & b) for a in quorums for b in quorums) > one.survives_liars


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("n", range(1, 17))
def test_k_members_never_leave_room_for_a_quorum_without_them(n: int, threshold: str) -> None:
    one = committee(n, threshold)
    assert n - one.k < one.q  # whatever q members do, one of any k was among them
    assert one.q + one.survives_silent == n
    assert 1 <= one.k <= one.q or n == 1


@pytest.mark.parametrize("n", range(1, 17))
def test_lists_of_a_quorum_hold_k_honest_ones_and_k_lists_one_while_as_many_lie_as_may_be_silent(n: int) -> None:
    one = committee(n)
    liars = min(one.survives_liars, one.survives_silent)
    assert one.k > liars  # k of any lists contain an honest one
    assert one.q - liars >= one.k  # q lists contain k honest ones


def test_turns_go_round() -> None:
    one = committee(3)
    assert [one.proposer(view) for view in (0, 1, 2, 3, 2**31)] == [one.members[v % 3] for v in (0, 1, 2, 3, 2**31)]


# ---- tallies

PEOPLE = [member(index) for index in range(4)]
FOUR = Committee(tuple(who.peer_id for who in PEOPLE), 3)


def vote(index: int, header: bytes = HEADER, *, view: int = 0, step: str = "prevote", round: int = 1) -> Opened[Vote]:
    return PEOPLE[index].seal(Vote(RUN, round, 0, view, step, header))  # type: ignore[arg-type]


def tally_of(*votes: Opened[Vote]) -> Tally:
    tally = Tally(FOUR)
    for one in votes:
        tally.add(one)
    return tally


def test_a_quorum_is_counted_by_view_step_and_header() -> None:
    tally = tally_of(vote(0), vote(1), vote(2, OTHER), vote(2, view=1), vote(2, step="precommit"))
    assert not tally.has_quorum(0, "prevote", HEADER)
    assert tally.has_any_quorum(0, "prevote")
    tally.add(vote(3))
    assert tally.has_quorum(0, "prevote", HEADER)


def test_the_same_vote_twice_is_one_vote() -> None:
    tally = tally_of(vote(0), vote(0), vote(1), vote(1))
    assert not tally.has_any_quorum(0, "prevote")


def test_an_equivocator_counts_for_both_headers_but_once_as_a_voter() -> None:
    tally = tally_of(vote(0), vote(0, OTHER), vote(1))
    assert not tally.has_any_quorum(0, "prevote")
    tally.add(vote(2))
    assert tally.has_quorum(0, "prevote", HEADER)
    tally.add(vote(1, OTHER))
    tally.add(vote(2, OTHER))
    assert tally.has_quorum(0, "prevote", OTHER)


def test_nil_is_never_decided() -> None:
    votes = [vote(index, b"", step="precommit") for index in range(4)]
    assert tally_of(*votes).decided() is None


def test_a_quorum_of_precommits_in_any_view_decides() -> None:
    assert tally_of(*(vote(index, view=5, step="precommit") for index in range(3))).decided() == (5, HEADER)
    assert tally_of(*(vote(index, view=index, step="precommit") for index in range(4))).decided() is None


def test_a_proof_is_sorted_by_voter_and_verifies() -> None:
    raws = tally_of(vote(2), vote(0), vote(1)).quorum(0, "prevote", HEADER)
    signers = [verified(raw).signer for raw in raws]
    assert signers == sorted(signers)
    assert len(signers) == 3


def test_k_members_have_reached_a_view_and_one_liar_alone_has_not() -> None:
    tally = tally_of(vote(0, view=9))
    assert tally.reached_by_k() == 0
    tally.add(vote(1, view=4))
    assert tally.reached_by_k() == 4


def test_views_that_are_forgotten_count_no_more_but_those_kept_do() -> None:
    tally = tally_of(*(vote(index, view=view) for index in range(3) for view in (0, 1)))
    tally.forget(lambda view: view == 1)
    assert (tally.has_quorum(0, "prevote", HEADER), tally.has_quorum(1, "prevote", HEADER)) == (False, True)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([HEADER, OTHER, b""]), st.integers(0, 2)), max_size=30))
def test_the_order_of_votes_does_not_matter(cast: list[tuple[int, bytes, int]]) -> None:
    votes = [vote(index, header, view=view) for index, header, view in cast]
    one, other = tally_of(*votes), tally_of(*reversed(votes))
    for view in range(3):
        for header in (HEADER, OTHER, b""):
            voters = {index for index, voted, at in cast if (voted, at) == (header, view)}
            assert one.has_quorum(view, "prevote", header) == other.has_quorum(view, "prevote", header)
            assert one.has_quorum(view, "prevote", header) == (len(voters) >= 3)


# ---- evidence


def update(index: int, *, round: int = 1, delta: str = "delta", run: bytes = RUN) -> Opened[Update]:
    return PEOPLE[index].seal(Update(run, round, bytes(32), cid(delta), 1))


CONFLICTS = {
    "votes": (vote(0), vote(0, OTHER)),
    "a vote and nil": (vote(0), vote(0, b"")),
    "updates": (update(0), update(0, delta="other")),
    "proposals": tuple(PEOPLE[0].seal(Proposal(RUN, 1, 0, 0, -1, header)) for header in (HEADER, OTHER)),
}


@pytest.mark.parametrize(("first", "second"), CONFLICTS.values(), ids=CONFLICTS)
def test_two_records_in_one_slot_convict_their_signer(first: Opened[Vote], second: Opened[Vote]) -> None:
    assert convict(Evidence(first.raw, second.raw), RUN, verified) == PEOPLE[0].peer_id
    assert convict(Evidence(second.raw, first.raw), RUN, verified) == PEOPLE[0].peer_id


HARMLESS = {
    "the same twice": (vote(0), vote(0)),
    "two signers": (vote(0), vote(1, OTHER)),
    "two views": (vote(0), vote(0, OTHER, view=1)),
    "two steps": (vote(0), vote(0, OTHER, step="precommit")),
    "two rounds": (vote(0), vote(0, OTHER, round=2)),
    "two runs": (update(0), update(0, run=bytes(32))),
    "another run": (update(0, run=bytes(32)), update(0, run=bytes(32), delta="other")),
    "two kinds": (vote(0), update(0)),
    "two joins": (join_of(0, run_spec()), join_of(0, run_spec(), address="x")),
    "two specs": (run_spec(), run_spec(creator=0)),
}


@pytest.mark.parametrize(("first", "second"), HARMLESS.values(), ids=HARMLESS)
def test_anything_else_convicts_nobody(first: Opened[msgspec.Struct], second: Opened[msgspec.Struct]) -> None:
    with pytest.raises(PeerError):
        convict(Evidence(first.raw, second.raw), RUN, verified)


def test_evidence_with_a_forged_signature_convicts_nobody() -> None:
    first = vote(0)
    forged = vote(1, OTHER).raw.replace(PEOPLE[1].peer_id.encode(), PEOPLE[0].peer_id.encode())
    with pytest.raises(PeerError):
        convict(Evidence(first.raw, forged), RUN, verified)


def test_only_records_of_a_round_have_slots() -> None:
    for record in (Join(RUN, 0, (), bytes(32), bytes(32)), run_spec().record):
        assert isinstance(record, Join | RunSpec)
        with pytest.raises(PeerError):
            slot_of(record)


# ---- certificates


def certificate(*votes: Opened[Vote], header: bytes = HEADER, round: int = 1) -> Certificate:
    return Certificate(RUN, round, header, tuple(one.raw for one in votes))


def opened(one: Certificate) -> int:
    return len(open_certificate(one, FOUR, verified, run=RUN, round=1, header=HEADER))


def precommits(*indices: int, view: int = 3) -> list[Opened[Vote]]:
    return [vote(index, step="precommit", view=view) for index in indices]


def test_a_quorum_of_precommits_certifies() -> None:
    assert opened(certificate(*precommits(0, 1, 2))) == 3
    assert opened(certificate(*precommits(3, 2, 1, 0))) == 4


def _stranger() -> Opened[Vote]:
    return member(9).seal(Vote(RUN, 1, 0, 3, "precommit", HEADER))


WRONG = {
    "too few": certificate(*precommits(0, 1)),
    "a stranger's among them": certificate(*precommits(0, 1, 2), _stranger()),
    "a stranger's to make it enough": certificate(*precommits(0, 1), _stranger()),
    "one voter twice": certificate(*precommits(0, 1, 1)),
    "one for another header": certificate(*precommits(0, 1), vote(2, OTHER, step="precommit", view=3)),
    "one for nil": certificate(*precommits(0, 1), vote(2, b"", step="precommit", view=3)),
    "of two views": certificate(*precommits(0, 1), *precommits(2, view=4)),
    "prevotes": certificate(*(vote(index, view=3) for index in range(3))),
    "of another round": certificate(*(vote(index, step="precommit", round=2) for index in range(3))),
    "of another phase": certificate(*(who.seal(Vote(RUN, 1, 1, 3, "precommit", HEADER)) for who in PEOPLE[:3])),
    "of another run": certificate(*(who.seal(Vote(bytes(32), 1, 0, 3, "precommit", HEADER)) for who in PEOPLE[:3])),
    "that names another header": certificate(*precommits(0, 1, 2), header=OTHER),
    "that names another round": certificate(*precommits(0, 1, 2), round=2),
    "with junk in it": Certificate(RUN, 1, HEADER, (*(one.raw for one in precommits(0, 1, 2)), b"junk")),
    "with something else in it": Certificate(RUN, 1, HEADER, tuple(update(index).raw for index in range(3))),
    "empty": certificate(),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_certificate_does_not_count(wrong: Certificate) -> None:
    with pytest.raises(PeerError):
        opened(wrong)


def test_votes_of_the_round_before_may_be_for_anything_but_each_of_another_voter() -> None:
    mixed = [vote(0, step="precommit", view=1), vote(1, b"", step="precommit"), vote(2, OTHER, step="precommit")]
    raws = [one.raw for one in mixed]
    assert len(open_votes(raws, verified, run=RUN, round=1, step="precommit", header=None)) == 3
    with pytest.raises(PeerError, match="one voter"):
        open_votes([*raws, raws[0]], verified, run=RUN, round=1, step="precommit", header=None)
