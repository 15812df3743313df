"""Who a peer is, is proved; what it sends is bounded; and nothing it sends stops this node."""

import os
import struct
from contextlib import suppress

import msgspec
import pytest
import trio
from libp2p import generate_new_ed25519_identity, generate_peer_id_from, new_host
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from primep2p.keys import Identity
from primep2p.model.errors import PeerError, Unavailable
from primep2p.net.frames import Frames
from primep2p.net.host import Host, Stream
from primep2p.net.libp2p_directory import _Owned, _OwnedValidator, _signed, _value_key
from primep2p.net.libp2p_host import LibP2PHost
from primep2p.wire.codec import encode
from tests.net.conftest import LOOPBACK, World, eventually, identity, until_connected

KAD = "/ipfs/kad/1.0.0"
IDENTIFY = "/ipfs/id/1.0.0"


@pytest.fixture
def world() -> World:
    return World(lambda who: LibP2PHost(who, LOOPBACK, (), "test"))


def unproven() -> object:
    """A dialler that names a peer id and proves nothing."""
    keys = generate_new_ed25519_identity()
    config = ConnectionConfig(max_connections_per_peer=1, low_watermark=0, min_connections=0)
    return new_host(
        key_pair=keys,
        sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)},
        connection_config=config,
    )


async def test_a_peer_that_proves_nothing_is_refused(world: World) -> None:
    listen = [Multiaddr(LOOPBACK[0])]
    stock, dialler = new_host(key_pair=generate_new_ed25519_identity(), listen_addrs=listen), unproven()
    async with world.hosts("ada") as (ada,), stock.run(listen_addrs=listen), dialler.run(listen_addrs=[]):
        await dialler.connect(info_from_p2p_addr(stock.get_addrs()[0]))
        assert dialler.get_network().connections, "the library's default takes it: the dialler can dial"
        with pytest.raises(Exception, match="unable to connect"):
            await dialler.connect(info_from_p2p_addr(Multiaddr(ada.addresses[0])))
        assert ada.connected == frozenset()
        with trio.CancelScope(shield=True):
            await stock.close()
            await dialler.close()


async def test_an_address_where_another_peer_answers_is_refused(world: World) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        victim = identity("victim").peer_id
        with pytest.raises(Unavailable):
            await ada.connect(victim, (bob.addresses[0].replace(bob.peer_id, victim),))
        assert ada.connected == frozenset()
        with pytest.raises(Unavailable, match="no address"):
            await ada.connect(victim, bob.addresses)


async def test_a_peer_whose_key_is_not_ed25519_is_turned_away(world: World) -> None:
    from libp2p.crypto.rsa import create_new_key_pair

    keys = create_new_key_pair(2048)
    assert not str(generate_peer_id_from(keys)).startswith("12D3")
    stranger = new_host(key_pair=keys)
    async with world.hosts("ada") as (ada,), stranger.run(listen_addrs=[]):
        await stranger.connect(info_from_p2p_addr(Multiaddr(ada.addresses[0])))

        async def is_gone() -> bool:
            return not stranger.get_network().connections

        await eventually(is_gone)
        assert ada.connected == frozenset()


async def test_a_frame_that_is_too_large_ends_the_conversation_only(world: World) -> None:
    blamed: list[str] = []

    async def listen(stream: Stream) -> None:
        try:
            await Frames(stream, 1000).receive()
        except PeerError:
            blamed.append(stream.peer)
            raise

    async with world.pair() as (ada, bob):
        bob.handle("/test/frames/1", listen)
        stream = await ada.open_stream(bob.peer_id, "/test/frames/1")
        await stream.write(struct.pack(">I", 2**31) + b"...")
        with pytest.raises(Unavailable):
            await stream.read(1)
        assert blamed == [ada.peer_id]
        assert ada.connected == {bob.peer_id}


async def test_networks_do_not_speak_to_each_other(world: World) -> None:
    async def never(stream: Stream) -> None:
        raise AssertionError

    other = LibP2PHost(identity("other"), LOOPBACK, (), "another")
    async with world.hosts("ada") as (ada,), trio.open_nursery() as nursery:
        await nursery.start(other.run)
        other.handle("/test/echo/1", never)
        await ada.connect(other.peer_id, other.addresses)
        with pytest.raises(Unavailable):
            await ada.open_stream(other.peer_id, "/test/echo/1")
        await ada.directory.put("k", b"v")
        await ada.directory.provide("k")
        await until_connected(other, ada)
        assert await other.directory.get(ada.peer_id, "k") is None
        assert await other.directory.providers("k") == ()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("protocol", [PROTOCOL_ID_V11, KAD, IDENTIFY, "/ipfs/ping/1.0.0", "/ipfs/id/push/1.0.0"])
async def test_garbage_on_a_protocol_of_the_library_stops_nothing(world: World, protocol: str) -> None:
    async with world.pair() as (ada, bob), bob.subscribe("news"):
        for turn in range(20):
            stream = await open_library_stream(ada, bob, protocol)
            with suppress(Unavailable):
                await stream.write(bytes([turn * 10 + 5]) + os.urandom(turn * 50))
            await stream.close()
        await assert_lives(ada, bob)


async def test_a_message_that_makes_the_library_raise_stops_nothing(world: World) -> None:
    async with world.pair() as (ada, bob), bob.subscribe("news"):
        unspeakable = rpc_pb2.Message(
            data=b"x", topicIDs=["news"], from_id=b"nobody", seqno=b"1", key=b"\xff", signature=b"x"
        )
        unsigned = rpc_pb2.Message(
            data=b"x", topicIDs=["news"], from_id=ID.from_base58(ada.peer_id).to_bytes(), seqno=b"2"
        )
        large = rpc_pb2.Message(data=bytes(600_000), topicIDs=["news"], seqno=b"3")
        stream = await open_library_stream(ada, bob, PROTOCOL_ID_V11)
        for message in (unspeakable, unsigned, large):
            raw = rpc_pb2.RPC(publish=[message]).SerializeToString()
            await stream.write(varint(len(raw)) + raw)
        await assert_lives(ada, bob)


async def open_library_stream(near: LibP2PHost, far: Host, protocol: str) -> Stream:
    return near._wrap(far.peer_id, await near._host.new_stream(ID.from_base58(far.peer_id), [protocol]))


async def assert_lives(ada: Host, bob: Host) -> None:
    async def echo(stream: Stream) -> None:
        await stream.write(await stream.read(10))

    bob.handle("/test/echo/1", echo)
    stream = await ada.open_stream(bob.peer_id, "/test/echo/1")
    await stream.write(b"x")
    assert await stream.read(1) == b"x"
    await until_connected(bob, ada)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


class TestRecords:
    """What the directory takes as a value."""

    ada = identity("ada")
    bob = identity("bob")
    validator = _OwnedValidator("test")
    name = _value_key("test", ada.peer_id, "k")

    def record(self, signer: Identity, sequence: int = 1, value: bytes = b"v", network: str = "test") -> bytes:
        signature = signer.sign(_signed(network, "k", sequence, value))
        return encode(_Owned(self.ada.peer_id, "k", sequence, value, signature))

    def test_its_owner_may_write(self) -> None:
        self.validator.validate(self.name, self.record(self.ada))
        assert len(self.name) <= 50

    @pytest.mark.parametrize(
        "case", ["other signer", "other network", "other key", "other owner", "altered", "too large"]
    )
    def test_nobody_else_and_nothing_else(self, case: str) -> None:
        name, raw = self.name, self.record(self.ada)
        match case:
            case "other signer":
                raw = self.record(self.bob)
            case "other network":
                raw = self.record(self.ada, network="another")
            case "other key":
                name = _value_key("test", self.ada.peer_id, "another")
            case "other owner":
                name = _value_key("test", self.bob.peer_id, "k")
            case "altered":
                raw = raw[:-1] + bytes([raw[-1] ^ 1])
            case "too large":
                raw = self.record(self.ada, value=bytes(4097))
        with pytest.raises(ValueError):
            self.validator.validate(name, raw)

    @pytest.mark.parametrize(
        "raw", [b"", b"\xc1", b"\x95", os.urandom(100), msgspec.msgpack.encode([1] * 5), bytes(10**6)]
    )
    def test_garbage_is_a_value_error_and_nothing_worse(self, raw: bytes) -> None:
        with pytest.raises(ValueError):
            self.validator.validate(self.name, raw)

    def test_the_newest_wins_and_the_invalid_never(self) -> None:
        old, new = self.record(self.ada, 1), self.record(self.ada, 2)
        forged = self.record(self.bob, 3)
        assert self.validator.select(self.name, [old, new]) == 1
        assert self.validator.select(self.name, [new, forged, old]) == 0
        assert self.validator.select(self.name, [b"", b"\xff"]) in (0, 1)
        assert self.validator.select(self.name, []) == 0

    async def test_a_forged_record_is_not_stored(self, world: World) -> None:
        async with world.pair() as (ada, bob):
            forged = self.record(self.bob, sequence=2**62)
            with pytest.raises(Unavailable):
                await ada._calls.call(lambda: ada._directory.dht.put_value(self.name, forged), 5)
            ada._directory.dht.value_store.put(self.name.encode(), forged)
            assert await bob.directory.get(self.ada.peer_id, "k") is None
