"""Real keys and cheap ones keep one contract."""

from hashlib import sha256

import pytest

from primep2p.model.errors import PeerError
from primep2p.model.records import Vote
from tests.sim.keys import RINGS, Ring, Shelf, SimEnvelopes


@pytest.fixture(params=RINGS)
def ring(request: pytest.FixtureRequest) -> Ring:
    return RINGS[request.param]()


SEEDS = [sha256(bytes([index])).digest() for index in range(2)]
VOTE = Vote(bytes(32), 1, 0, 0, "prevote", b"")


def test_what_was_signed_verifies_and_nothing_else_does(ring: Ring) -> None:
    signer, other = (ring.make(seed) for seed in SEEDS)
    signature = signer.sign(b"message")
    ring.verify(signer.peer_id, b"message", signature)
    for peer, message, claimed in [
        (other.peer_id, b"message", signature),
        (signer.peer_id, b"another message", signature),
        (signer.peer_id, b"message", other.sign(b"message")),
        (signer.peer_id, b"message", bytes(64)),
        ("nobody", b"message", signature),
    ]:
        with pytest.raises(PeerError, match=r"bad signature|not the peer id"):
            ring.verify(peer, message, claimed)


def test_one_seed_makes_one_peer_whose_signatures_are_the_same_each_time(ring: Ring) -> None:
    first, again, other = ring.make(SEEDS[0]), ring.make(SEEDS[0]), ring.make(SEEDS[1])
    assert first.peer_id == again.peer_id != other.peer_id
    assert first.peer_id.startswith("12D3KooW")
    assert len(first.peer_id) == 52
    assert first.sign(b"message") == again.sign(b"message")
    assert len(first.sign(b"message")) == 64


def test_both_count(ring: Ring) -> None:
    signer = ring.make(SEEDS[0])
    signature = signer.sign(b"message")
    ring.verify(signer.peer_id, b"message", signature)
    ring.verify(signer.peer_id, b"message", signature)
    assert (ring.signed, ring.verified) == (1, 2)


def envelopes(ring: Ring, seed: bytes, shelf: Shelf) -> SimEnvelopes:
    return SimEnvelopes("sim", ring.make(seed), ring, shelf, lambda opened: None)


def test_a_record_opens_as_it_was_sealed(ring: Ring) -> None:
    shelf = Shelf()
    one, other = (envelopes(ring, seed, shelf) for seed in SEEDS)
    sealed = one.seal(VOTE)
    assert other.open(Vote, sealed.raw) == sealed
    assert other.open(Vote, bytes(bytearray(sealed.raw))).record == VOTE


def test_a_record_that_somebody_else_signed_does_not_open(ring: Ring) -> None:
    shelf = Shelf()
    one, other = (envelopes(ring, seed, shelf) for seed in SEEDS)
    stolen = one.seal(VOTE).raw.replace(one.peer_id.encode(), other.peer_id.encode())
    for _ in range(2):
        with pytest.raises(PeerError, match="bad signature"):
            other.open_any(stolen)


def test_cheap_keys_let_many_machines_open_a_record_once() -> None:
    for name, verified in {"real": 3, "fake": 1}.items():
        ring, shelf = RINGS[name](), Shelf()
        raw = envelopes(ring, SEEDS[0], Shelf()).seal(VOTE).raw
        for _ in range(3):
            envelopes(ring, SEEDS[1], shelf).open_any(raw)
        assert ring.verified == verified
