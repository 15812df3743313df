"""Who may join: on a list, by an invite, or anybody; for how long a Join is good."""

import msgspec
import pytest

from primep2p.core.admission import JOIN_LIFETIME, Request, admits, check_newcomers
from primep2p.core.roster import first_state
from primep2p.model.errors import PeerError
from primep2p.model.records import Admission, Newcomer, RunState
from primep2p.wire.codec import decode, encode
from tests.core.kit import join_of, member, newcomer, run_spec

SPEC = run_spec()
OPEN = SPEC.record


def state_of(*members: int, expelled: tuple[int, ...] = (), round: int = 5) -> RunState:
    state = first_state(SPEC.hash, OPEN.policy, tuple(newcomer(i, SPEC) for i in members))
    gone = tuple(sorted(member(i).peer_id for i in expelled))
    return msgspec.structs.replace(state, round=round, expelled=gone)


def asking(index: int, *, round: int = 0) -> Request:
    return Request(join_of(index, SPEC, round=round))


@pytest.mark.parametrize(
    ("age", "admitted"), [(0, True), (1, True), (JOIN_LIFETIME, True), (JOIN_LIFETIME + 1, False), (-1, False)]
)
def test_a_join_is_good_for_so_many_rounds_and_never_before_its_own(age: int, admitted: bool) -> None:
    assert admits(OPEN, state_of(0, round=19 + age), asking(9, round=20), round=20 + age) is admitted


def test_neither_members_nor_expelled_peers_are_admitted() -> None:
    state = state_of(0, 1, expelled=(5,))
    assert [admits(OPEN, state, asking(i, round=5), round=6) for i in (0, 5, 6)] == [False, False, True]


def test_an_allowlist_admits_those_on_it_and_the_creator() -> None:
    spec = run_spec(admission=Admission("allowlist", (member(3).peer_id,))).record
    assert [admits(spec, None, asking(i), round=0) for i in (3, 4, 0)] == [True, False, True]


def test_newcomers_of_a_header_are_checked_as_far_as_can_be_seen() -> None:
    good, state = newcomer(9, SPEC, round=5), state_of(0)
    check_newcomers(OPEN, state, [good], round=6)
    bad: list[list[Newcomer]] = [
        [good, good],
        [newcomer(0, SPEC, round=5)],
        [newcomer(9, SPEC, round=7)],
        [msgspec.structs.replace(newcomer(9, SPEC), anchored=6 - JOIN_LIFETIME - 1)],
    ]
    for newcomers in bad:
        with pytest.raises(PeerError):
            check_newcomers(OPEN, state, newcomers, round=6)


def test_a_newcomer_whose_kernels_no_state_can_say_cannot_be_read() -> None:
    with pytest.raises(PeerError):
        decode(Newcomer, encode(msgspec.structs.replace(newcomer(9, SPEC), kernels=b"x")))
