"""net/libp2p_directory: values that strangers put into the directory, under keys of theirs [N5]."""

from libp2p.records.utils import InvalidRecordType
from libp2p.records.validator import NamespacedValidator

from primep2p.model.errors import PeerError
from primep2p.net.host import MAX_VALUE_BYTES
from primep2p.net.libp2p_directory import NAMESPACE, _Owned, _OwnedValidator, _signed, _value_key
from primep2p.wire.codec import decode, encode
from tests.fuzz.kit import of_types
from tests.fuzz.surface import Surface
from tests.wire.samples import identity

NETWORK = "test"
OWNERS = {identity(number).peer_id: identity(number) for number in range(4)}


def fuzz(data: bytes) -> None:
    """Valid or a ValueError; and of several, the newest valid one is chosen."""
    validator = _OwnedValidator(NETWORK)
    by_name = NamespacedValidator({NAMESPACE: validator}, strict_validation=True)
    text = data[:60].decode(errors="replace")
    for key in (_key(data), text, f"/{NAMESPACE}/{text}"):
        is_valid = _is_valid(by_name, key, data)
        values = [_put("key", 5, b"old"), data, b"", _put("key", 7, b"new")]
        chosen = validator.select(key, values)
        assert 0 <= chosen < len(values)
        if is_valid:
            record = validator.opened(key, data)
            assert record.owner in OWNERS, "a signature of somebody whose key nobody has here"
            assert len(record.value) <= MAX_VALUE_BYTES
            assert _value_key(NETWORK, record.owner, record.key) == key
            assert _is_valid(validator, key, values[chosen])


def _key(data: bytes) -> str:
    """That of the record, where there is one."""
    try:
        record = decode(_Owned, data)
    except PeerError:
        return f"/{NAMESPACE}/none"
    return _value_key(NETWORK, record.owner, record.key)


def _is_valid(validator: object, key: str, value: bytes) -> bool:
    try:
        validator.validate(key, value)  # type: ignore[attr-defined]
    except (ValueError, InvalidRecordType):  # ours; the library's, of a key in no namespace
        return False
    return True


def _put(key: str, sequence: int, value: bytes) -> bytes:
    owner = identity(1)
    return encode(_Owned(owner.peer_id, key, sequence, value, owner.sign(_signed(NETWORK, key, sequence, value))))


def corpus() -> list[bytes]:
    edges = [_put("key", sequence, b"value") for sequence in (0, 6, 2**63 - 1, 2**63, 2**64 - 1)]
    return [*edges, _put("", 1, b""), _put("é" * 40, 1, bytes(MAX_VALUE_BYTES)), *of_types((_Owned,))]


SURFACE = Surface(fuzz, corpus, examples_per_test=80)
