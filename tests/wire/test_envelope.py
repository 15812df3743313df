"""Signing and opening, and bytes that must never change [E1, E2, E5]."""

import json
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from primep2p.keys import public_key_of
from primep2p.model import records
from primep2p.model.errors import PeerError
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import KINDS, Envelopes
from tests.wire.golden import golden, signed, unsigned
from tests.wire.samples import VALUES, envelopes, identity

GOLDEN = Path(__file__).with_name("golden.json")
SIGNED = tuple(KINDS.values())


def parts_of(raw: bytes) -> list[object]:
    """An envelope's fields, to be tampered with."""
    return msgspec.msgpack.decode(raw)  # type: ignore[no-any-return]


def wrap(parts: list[object]) -> bytes:
    return msgspec.msgpack.encode(parts)


@pytest.mark.parametrize("type_", SIGNED, ids=lambda type_: type_.__name__)
@given(data=st.data())
def test_what_is_sealed_opens_to_the_same(type_: type[Struct], data: st.DataObject) -> None:
    record = data.draw(VALUES[type_])
    sealed = envelopes().seal(record)
    opened = envelopes(number=2).open(type_, sealed.raw)
    assert opened == sealed
    assert (opened.record, opened.signer) == (record, identity(1).peer_id)


@given(st.binary(max_size=400))
def test_bytes_that_are_no_envelope_are_a_peer_error_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(PeerError):
        envelopes().open(records.Vote, raw)


@given(VALUES[records.Vote], st.data())
def test_an_envelope_with_a_byte_changed_does_not_open_to_another_record(
    vote: records.Vote, data: st.DataObject
) -> None:
    sealed = envelopes().seal(vote)
    raw = bytearray(sealed.raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        opened = envelopes().open(records.Vote, bytes(raw))
    except PeerError:
        return
    assert (opened.record, opened.signer, opened.hash) == (vote, sealed.signer, sealed.hash)


def vote(view: int = 0) -> records.Vote:
    return records.Vote(bytes(32), 3, 0, view, "prevote", bytes(32))


def test_a_signature_holds_on_its_own_network_only() -> None:
    raw = envelopes("one").seal(vote()).raw
    assert envelopes("one").open(records.Vote, raw).record == vote()
    with pytest.raises(PeerError, match="bad signature"):
        envelopes("another").open(records.Vote, raw)


def test_a_signature_holds_for_its_own_kind_only() -> None:
    """Also where the payload would be a record of that kind."""
    parts = parts_of(envelopes().seal(vote()).raw)
    for kind in KINDS.keys() - {"vote"}:
        with pytest.raises(PeerError, match="bad signature"):
            envelopes().open(KINDS[kind], wrap([kind, *parts[1:]]))


def test_a_signature_holds_for_its_own_signer_only() -> None:
    kind, _, payload, signature = parts_of(envelopes().seal(vote()).raw)
    with pytest.raises(PeerError, match="bad signature"):
        envelopes().open(records.Vote, wrap([kind, identity(2).peer_id, payload, signature]))


def test_a_signature_holds_for_its_own_payload_only() -> None:
    kind, signer, _, signature = parts_of(envelopes().seal(vote()).raw)
    with pytest.raises(PeerError, match="bad signature"):
        envelopes().open(records.Vote, wrap([kind, signer, encode(vote(view=1)), signature]))


def test_no_part_of_what_is_signed_can_lend_a_byte_to_its_neighbour() -> None:
    """Each part stands behind its length: a network `ab` with a kind `c…` is not a network `a` with a kind `bc…`."""
    covered = {
        Envelopes(network, identity(1)).peek(envelopes().seal(vote()).raw).covered for network in ("", "t", "tv")
    }
    assert len(covered) == 3
    assert not any(one.startswith(other) for one in covered for other in covered if one != other)


def test_a_kind_that_nobody_knows_is_refused() -> None:
    parts = parts_of(envelopes().seal(vote()).raw)
    with pytest.raises(PeerError, match="unknown kind"):
        envelopes().peek(wrap(["votes", *parts[1:]]))


def test_a_record_of_another_kind_than_is_due_is_refused() -> None:
    raw = envelopes().seal(vote()).raw
    with pytest.raises(PeerError, match="where a Proposal was due"):
        envelopes().open(records.Proposal, raw)


def test_a_payload_of_another_type_is_refused_even_if_signed() -> None:
    sealer = envelopes()
    payload = encode(records.Metric("loss", 1.0))
    covered = sealer._covered("vote", sealer.peer_id, payload)
    raw = wrap(["vote", sealer.peer_id, payload, identity(1).sign(covered)])
    with pytest.raises(PeerError, match="malformed Vote"):
        sealer.open(records.Vote, raw)


def test_fields_appended_to_a_record_are_ignored_and_signed() -> None:
    sealer = envelopes()
    body = encode(vote())
    payload = bytes([body[0] + 1]) + body[1:] + b"\xa5later"
    covered = sealer._covered("vote", sealer.peer_id, payload)
    signature = identity(1).sign(covered)
    opened = sealer.open(records.Vote, wrap(["vote", sealer.peer_id, payload, signature]))
    assert opened.record == vote()
    assert opened.hash == sha256(covered).digest() != sealer.seal(vote()).hash
    for tampered in (payload[:-1] + b"x", body):
        with pytest.raises(PeerError, match="bad signature"):
            sealer.open(records.Vote, wrap(["vote", sealer.peer_id, tampered, signature]))


def test_a_record_stays_the_same_in_whatever_envelope_bytes() -> None:
    sealed = envelopes().seal(vote())
    kind, signer, payload, signature = parts_of(sealed.raw)
    assert isinstance(payload, bytes)
    other = b"\x94\xd9\x04vote" + b"".join(map(msgspec.msgpack.encode, (signer, payload, signature)))
    assert kind == "vote"
    assert other != sealed.raw
    assert envelopes().open(records.Vote, other).hash == sealed.hash


@pytest.mark.parametrize(
    "spoil",
    [
        lambda peer: peer[:-1] + "\n",  # a pattern's end matches before it
        lambda peer: peer + "1",
        lambda peer: "1" + peer[:-1],
        lambda peer: peer.lower(),
        lambda peer: peer[:-1] + "0",  # no digit of base58
        lambda peer: "12D3KooW" + "z" * 44,  # base58 and of the right length, but no key
        lambda peer: "12D3KooW" + "1" * 44,
        lambda peer: "",
    ],
)
def test_a_peer_id_has_one_spelling(spoil) -> None:  # type: ignore[no-untyped-def]
    sealed = envelopes().seal(vote())
    kind, signer, payload, _ = parts_of(sealed.raw)
    assert isinstance(signer, str)
    assert isinstance(payload, bytes)
    peer = spoil(signer)
    signature = identity(1).sign(envelopes()._covered("vote", peer, payload))
    with pytest.raises(PeerError):
        envelopes().open(records.Vote, wrap([kind, peer, payload, signature]))
    with pytest.raises(PeerError):
        public_key_of(peer)


@given(st.text(alphabet="123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=44, max_size=44))
def test_no_two_peer_ids_have_one_key(tail: str) -> None:
    try:
        key = public_key_of("12D3KooW" + tail)
    except PeerError:
        return
    from primep2p.keys import peer_id_of

    assert peer_id_of(key) == "12D3KooW" + tail


# ---- bytes that are pinned for ever: other implementations, and old chains, have the same


def test_the_golden_file_pins_every_record() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert {type(record) for record in signed().values()} == set(SIGNED)
    assert golden["signed"].keys() == signed().keys()
    assert golden["unsigned"].keys() == unsigned().keys()


@pytest.mark.parametrize("name", signed())
def test_signed_bytes_are_those_of_the_golden_file(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    pinned, record = golden["signed"][name], signed()[name]
    sealer = Envelopes(golden["network"], identity(golden["seed_byte"]))
    sealed = sealer.seal(record)
    assert encode(record).hex() == pinned["payload"]
    assert sealer.peek(sealed.raw).covered.hex() == pinned["covered"]
    assert sealed.hash.hex() == pinned["hash"]
    assert sealed.raw.hex() == pinned["envelope"]
    assert sealer.open(type(record), bytes.fromhex(pinned["envelope"])).record == record


@pytest.mark.parametrize("name", unsigned())
def test_bytes_that_all_nodes_compute_are_those_of_the_golden_file(name: str) -> None:
    pinned = json.loads(GOLDEN.read_text())["unsigned"][name]
    record = unsigned()[name]
    assert encode(record).hex() == pinned["bytes"]
    assert decode(type(record), bytes.fromhex(pinned["bytes"])) == record
    if "hash" in pinned:
        assert digest(name, encode(record)).hex() == pinned["hash"]


def test_names_and_draws_are_those_of_the_golden_file() -> None:
    """Peer id, CID and beacons too [S2]."""
    assert json.loads(GOLDEN.read_text()) == golden()
