"""Records and messages to bytes and back [E3, E4, N2]."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from primep2p.model import records
from primep2p.model.errors import PeerError
from primep2p.model.messages import AskSpec, OverlayMessage
from primep2p.model.pipeline import Pipeline
from primep2p.wire.codec import MAX_RECORD_BYTES, decode, digest, encode
from tests.wire.samples import EVERY_TYPE, MESSAGES, RECORDS, UNIONS, VALUES, identity

TYPES = (*RECORDS, *MESSAGES)

few = settings(max_examples=25)
"""Each property is held to fifty types."""


def name(type_: object) -> str:
    return getattr(type_, "__name__", "union")


def array_header(count: int) -> bytes:
    """The longest form that msgpack has for it."""
    return b"\xdd" + count.to_bytes(4, "big")


def fields(raw: bytes) -> tuple[int, bytes]:
    """How many fields a record has, and their bytes."""
    if raw[0] & 0xF0 == 0x90:
        return raw[0] & 0x0F, raw[1:]
    assert raw[0] == 0xDC
    return int.from_bytes(raw[1:3], "big"), raw[3:]


def test_there_are_values_of_every_type_that_travels() -> None:
    assert set(VALUES) == set(TYPES)


@pytest.mark.parametrize("type_", TYPES, ids=name)
@few
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same(type_: type[Struct], data: st.DataObject) -> None:
    record = data.draw(VALUES[type_])
    raw = encode(record)
    assert decode(type_, raw) == record
    assert encode(decode(type_, raw)) == raw


@pytest.mark.parametrize("type_", EVERY_TYPE, ids=name)
@few
@given(raw=st.binary(max_size=400))
@example(raw=b"")
@example(raw=b"\x91" * 100_000 + b"\xc0")  # nested deeper than any stack
@example(raw=array_header(2**32 - 1))  # more elements than memory holds
@example(raw=b"\xc6\xff\xff\xff\xff")  # more bytes than memory holds
@example(raw=b"\x92\xa1\xff\xc0")  # text that is no UTF-8
@example(raw=b"\xd6\xff\x00\x00\x00\x00")  # a timestamp
def test_bytes_that_are_no_record_are_a_peer_error_and_nothing_else(type_: type, raw: bytes) -> None:
    try:
        decode(type_, raw)
    except PeerError:
        return


@pytest.mark.parametrize("type_", TYPES, ids=name)
@few
@given(data=st.data())
def test_a_record_with_bytes_changed_is_a_record_or_a_peer_error(type_: type[Struct], data: st.DataObject) -> None:
    raw = bytearray(encode(data.draw(VALUES[type_])))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(type_, bytes(raw))
    except PeerError:
        return


@pytest.mark.parametrize("type_", TYPES, ids=name)
@few
@given(data=st.data())
def test_fields_appended_by_a_later_version_are_ignored(type_: type[Struct], data: st.DataObject) -> None:
    record = data.draw(VALUES[type_])
    count, body = fields(encode(record))
    later = data.draw(st.lists(st.none() | st.integers(0, 9) | st.text(max_size=4) | st.just([1, [2]]), min_size=1))
    raw = array_header(count + len(later)) + body + b"".join(map(msgspec.msgpack.encode, later))
    assert decode(type_, raw) == record


@pytest.mark.parametrize("type_", TYPES, ids=name)
@few
@given(data=st.data())
def test_a_record_cut_short_is_refused(type_: type[Struct], data: st.DataObject) -> None:
    raw = encode(data.draw(VALUES[type_]))
    with pytest.raises(PeerError):
        decode(type_, raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize("type_", TYPES, ids=name)
@few
@given(data=st.data())
def test_nothing_may_follow_a_record(type_: type[Struct], data: st.DataObject) -> None:
    with pytest.raises(PeerError):
        decode(type_, encode(data.draw(VALUES[type_])) + data.draw(st.binary(min_size=1, max_size=4)))


def test_a_field_that_has_a_default_may_be_missing_at_the_end() -> None:
    assert decode(Pipeline, b"\x90") == Pipeline()
    with pytest.raises(PeerError):
        decode(records.Metric, b"\x91\xa1a")


def test_a_record_larger_than_its_limit_is_refused_before_it_is_decoded() -> None:
    raw = encode(records.Evidence(bytes(100), bytes(100)))
    assert decode(records.Evidence, raw, limit=len(raw))
    with pytest.raises(PeerError, match="more than the"):
        decode(records.Evidence, raw, limit=len(raw) - 1)
    with pytest.raises(PeerError, match="more than the"):
        decode(records.Evidence, encode(records.Evidence(bytes(MAX_RECORD_BYTES), b"")))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 0.0, -1.0, 604_801.0])
def test_a_time_that_no_round_could_wait_for_is_refused(wrong: float) -> None:
    with pytest.raises(PeerError):
        decode(records.RoundPolicy, encode(records.RoundPolicy(collect_s=wrong)))


def test_a_weight_ratio_that_is_no_number_is_refused() -> None:
    with pytest.raises(PeerError):
        decode(Pipeline, encode(Pipeline(max_weight_ratio=float("nan"))))


def test_bytes_are_no_text_and_a_float_is_no_integer() -> None:
    for raw in (b"\x92\xc4\x01a\x01", b"\x93\xa9ask-chain\xc4\x20" + bytes(32) + msgspec.msgpack.encode(1.0)):
        for type_ in (records.Metric, *UNIONS):
            with pytest.raises(PeerError):
                decode(type_, raw)


def test_a_message_is_known_by_its_tag() -> None:
    raw = encode(AskSpec(bytes(32)))
    assert raw[1:10] == b"\xa8ask-spec"
    with pytest.raises(PeerError):
        decode(OverlayMessage, raw)  # type: ignore[arg-type]


def test_hashes_of_different_things_differ() -> None:
    assert digest("header", b"x") != digest("state", b"x") != digest("stat", b"ex")


def test_a_list_of_more_entries_than_allowed_is_refused() -> None:
    members = (records.Member(identity(1).peer_id, 0, 0, bytes(32), bytes(32), 0),) * (records.MAX_MEMBERS + 1)
    state = records.RunState(bytes(32), 0, members, 4)
    with pytest.raises(PeerError):
        decode(records.RunState, encode(state))
    fits = records.RunState(bytes(32), 0, members[1:], 4)
    assert decode(records.RunState, encode(fits)) == fits
