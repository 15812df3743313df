"""Hash chains and what their elements prove [S2]."""

from hashlib import sha256
from itertools import pairwise

import pytest

from primep2p.core.beacons import MAX_CHAIN_ROUNDS, STRIDE, HashChain, check_reveal, is_of_chain
from primep2p.model.errors import PeerError
from primep2p.model.records import Member


def member(anchor: bytes, anchored: int) -> Member:
    return Member("peer", 0, 0, bytes(32), anchor, anchored)


def before(element: bytes) -> bytes:
    return sha256(b"primep2p/reveal\0" + element).digest()


@pytest.mark.parametrize("rounds", [0, 1, STRIDE - 1, STRIDE, STRIDE + 1, 3 * STRIDE])
def test_each_element_is_the_hash_of_the_next(rounds: int) -> None:
    chain = HashChain(b"secret", rounds)
    elements = [chain.element(round) for round in range(rounds + 1)]
    assert all(after is not None and element == before(after) for element, after in pairwise(elements))
    assert elements[-1] is not None
    assert chain.element(rounds + 1) is None
    assert chain.element(-1) is None


def test_a_reveal_is_right_for_its_round_only() -> None:
    chain = HashChain(b"secret", 20)
    joined = member(chain.element(3) or b"", 3)
    value = chain.element(9) or b""
    check_reveal(joined, value, 9)
    for round in (3, 8, 10):
        with pytest.raises(PeerError, match="not of its hash chain"):
            check_reveal(joined, value, round)
    assert not is_of_chain(joined, joined.anchor, 3)


def test_a_reveal_of_another_length_is_refused_though_it_hashes_to_the_anchor() -> None:
    for value in (b"", bytes(31)):
        assert not is_of_chain(member(before(value), 0), value, 1)
    assert is_of_chain(member(before(bytes(32)), 0), bytes(32), 1)


def test_nobody_is_made_to_hash_for_longer_than_a_chain() -> None:
    chain = HashChain(b"secret", MAX_CHAIN_ROUNDS)
    joined, last = member(chain.element(0) or b"", 0), chain.element(MAX_CHAIN_ROUNDS) or b""
    assert is_of_chain(joined, last, MAX_CHAIN_ROUNDS)
    assert not is_of_chain(member(before(joined.anchor), 0), last, MAX_CHAIN_ROUNDS + 1)
