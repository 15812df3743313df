"""The directory over libp2p's Kademlia: provider records, and values that only their owner can write."""

import copy
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.provider_store import ProviderStore
from libp2p.kad_dht.value_store import ValueStore
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.records.validator import NamespacedValidator, Validator

from primep2p.keys import PEER_ID_BYTES, Identity, public_key_of, verify
from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.ids import PeerId, Signature
from primep2p.net.host import MAX_VALUE_BYTES, check_key, check_value
from primep2p.net.libp2p_calls import Calls
from primep2p.wire.codec import decode, digest, encode

__all__ = ["ADDRESS_TTL_S", "KadDirectory"]

T = TypeVar("T")

NAMESPACE = "pp2p"
_MAX_RECORD_BYTES = MAX_VALUE_BYTES + 512  # owner, key, sequence, signature and msgpack's own bytes
_LOOKUP_S = 10.0  # a look-up takes 0.3 s among twenty peers, 1.5 s when a third of them are dead
_MAX_PROVIDERS = 20  # Kademlia stores no more for one key
ADDRESS_TTL_S = 24 * 3600

# py-libp2p's own limits drop silently what goes beyond them: a node that starts and provides its blobs again needs
# more than 10 announcements in 10 s, and 20 peers that look up at once more than 12 streams.
_ANNOUNCEMENTS_PER_PEER = 1000
_INBOUND_STREAMS = 128


class _Owned(msgspec.Struct, frozen=True, array_like=True):
    """A value as it lies in the DHT. The signature covers network, key, sequence and value."""

    owner: PeerId
    key: str
    sequence: int
    value: bytes
    signature: Signature


class _OwnedValidator(Validator):  # type: ignore[misc]
    """Who may write: a record is valid under the one key that commits to its network, owner and name."""

    def __init__(self, network: str) -> None:
        self._network = network

    def validate(self, key: str, value: bytes) -> None:
        """Raises ValueError, which is what the library expects, and nothing else."""
        try:
            self.opened(key, value)
        except PeerError as error:
            raise ValueError(str(error)) from error

    def select(self, key: str, values: list[bytes]) -> int:
        """The one of the highest sequence; never raises, and takes an invalid one only where all are."""
        return max(range(len(values)), key=lambda index: self._rank(key, values[index]), default=0)

    def opened(self, key: str, value: bytes) -> _Owned:
        """Raises PeerError."""
        record = decode(_Owned, value, limit=_MAX_RECORD_BYTES)
        if _value_key(self._network, record.owner, record.key) != key:
            raise PeerError("a directory record under a key that is not its own")
        if len(record.value) > MAX_VALUE_BYTES or not 0 <= record.sequence < 2**63:
            raise PeerError("a directory record out of bounds")
        verify(record.owner, _signed(self._network, record.key, record.sequence, record.value), record.signature)
        return record

    def _rank(self, key: str, value: bytes) -> tuple[int, bytes]:
        try:
            return self.opened(key, value).sequence, value
        except PeerError:
            return -1, value


class KadDirectory:
    """See `Directory`. All of it needs at least one connected peer, and is Unavailable without."""

    def __init__(self, host: Any, identity: Identity, network: str, calls: Calls) -> None:
        self._host = host
        self._identity = identity
        self._network = network
        self._calls = calls
        self._validator = _OwnedValidator(network)
        validators = NamespacedValidator({NAMESPACE: self._validator}, strict_validation=True)
        self.dht = KadDHT(host, DHTMode.SERVER, validator=validators, validator_changed=True, strict_validation=True)
        self.dht._provider_rate_max = _ANNOUNCEMENTS_PER_PEER
        self.dht._inbound_limiter.total_tokens = _INBOUND_STREAMS

    async def met(self, peer: ID) -> None:
        """`peer` is connected: look-ups may go through it. Its addresses may not be known yet."""
        await self.dht.routing_table.add_peer(PeerInfo(peer, []), skip_server_mode_check=True)

    def missed(self, peer: ID) -> None:
        """`peer` is gone: a dead entry costs every look-up a dial, and it comes back when it connects."""
        self.dht.routing_table.remove_peer(peer)

    async def provide(self, key: str) -> None:
        name = self._provider_key(key)
        if not await self._ask(lambda: self.dht.provider_store.provide(name)):
            raise Unavailable(f"no peer took the record for {key}")

    async def providers(self, key: str) -> tuple[PeerId, ...]:
        name = self._provider_key(key)
        # A store of its own: the node's would answer from what it happens to hold and ask nobody.
        fresh = ProviderStore(host=self._host, peer_routing=self.dht.peer_routing)
        found = await self._ask(lambda: fresh.find_providers(name, _MAX_PROVIDERS))
        found = [*found, *self.dht.provider_store.get_providers(name)]
        for info in found:
            self._remember(info)
        # Another length is no Ed25519 key's, and base58 takes time with the square of it.
        ids = (info.peer_id for info in found if len(info.peer_id.to_bytes()) == PEER_ID_BYTES)
        peers = {str(each) for each in ids} - {self._identity.peer_id}
        return tuple(sorted(peer for peer in peers if _is_peer(peer)))

    async def put(self, key: str, value: bytes) -> None:
        check_key(key)
        check_value(value)
        # Wall-clock time, so that a node that lost its disk still overwrites what it wrote before.
        sequence = time.time_ns()
        signature = self._identity.sign(_signed(self._network, key, sequence, value))
        record = encode(_Owned(self._identity.peer_id, key, sequence, value, signature))
        name = _value_key(self._network, self._identity.peer_id, key)
        await self._ask(lambda: self.dht.put_value(name, record))

    async def get(self, owner: PeerId, key: str) -> bytes | None:
        check_key(key)
        name = _value_key(self._network, owner, key)
        kept = self.dht.value_store.get(name.encode())
        # The same table with an empty store: the library would answer from an old copy of its own and ask nobody.
        reader = copy.copy(self.dht)
        reader.value_store = ValueStore(host=self._host, local_peer_id=self._host.get_id())
        found = await self._ask(lambda: reader.get_value(name))
        known = [raw for raw in (found, kept and kept.value) if raw]
        if not known:
            return None
        newest = known[self._validator.select(name, known)]
        if found == newest and (kept is None or kept.value != newest):
            self.dht.value_store.put(name.encode(), newest)
        return self._validator.opened(name, newest).value

    async def find_peer(self, peer: PeerId) -> bool:
        identity = ID.from_base58(peer)
        if self._addresses(identity):
            return True
        try:
            await self._ask(lambda: self.dht.peer_routing.find_closest_peers_network(identity.to_bytes()))
        except Unavailable:
            return False
        return bool(self._addresses(identity))

    def _addresses(self, peer: ID) -> list[Any]:
        try:
            return list(self._host.get_peerstore().addrs(peer))
        except Exception:  # the peerstore's way to say that there are none
            return []

    def _remember(self, info: Any) -> None:
        if info.addrs and info.peer_id != self._host.get_id():
            self._host.get_peerstore().add_addrs(info.peer_id, info.addrs, ADDRESS_TTL_S)

    def _provider_key(self, key: str) -> bytes:
        check_key(key)
        return b"\x12\x20" + digest(f"providers/{self._network}", key.encode())  # a sha2-256 multihash

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        if not self._host.get_connected_peers():
            raise Unavailable("no peer is connected to ask", hint="see: primep2p doctor")
        try:
            return await self._calls.call(operation, _LOOKUP_S)
        except trio.TooSlowError as error:
            raise Unavailable(f"the directory did not answer within {_LOOKUP_S:.0f} s") from error


def _value_key(network: str, owner: PeerId, key: str) -> str:
    """Where the record of `owner` under `key` lies: 49 bytes that commit to all three."""
    raw = digest(f"directory/{network}", f"{owner}/{key}".encode())
    return f"/{NAMESPACE}/{urlsafe_b64encode(raw).decode().rstrip('=')}"


def _signed(network: str, key: str, sequence: int, value: bytes) -> bytes:
    return b"primep2p/directory\0" + msgspec.msgpack.encode((network, key, sequence, value))


def _is_peer(peer: str) -> bool:
    try:
        public_key_of(peer)
    except PeerError:
        return False
    return True
