"""What every host does, held against the one in memory and the one on sockets alike."""

import os

import pytest
import trio

from primep2p.keys import Identity
from primep2p.model.errors import Unavailable
from primep2p.net.host import MAX_PUBLISH_BYTES, Heard, Host, PeerConnected, PeerLost, Stream
from tests.net.conftest import World, eventually, identity, until_connected, until_lost

ECHO = "/test/echo/1"
STRANGER = Identity(b"s" * 32).peer_id


async def echo(stream: Stream) -> None:
    while piece := await stream.read(65536):
        await stream.write(piece)


async def read_exactly(stream: Stream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = await stream.read(size - len(got))
        assert piece, f"the stream ended after {len(got)} bytes"
        got += piece
    return bytes(got)


async def test_a_connection_is_seen_from_both_sides(world: World) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        assert ada.connected == bob.connected == frozenset()
        await ada.connect(bob.peer_id, bob.addresses)
        assert ada.connected == {bob.peer_id}
        await until_connected(bob, ada)
        assert bob.connected == {ada.peer_id}
        await ada.connect(bob.peer_id)  # does nothing
        assert ada.connected == {bob.peer_id}


async def test_a_host_has_its_identity_in_its_addresses(world: World) -> None:
    async with world.hosts("ada") as (ada,):
        assert ada.peer_id == identity("ada").peer_id
        assert ada.addresses
        assert all(address.endswith(ada.peer_id) for address in ada.addresses)


async def test_connecting_to_nobody_is_unavailable(world: World) -> None:
    async with world.hosts("ada") as (ada,):
        with pytest.raises(Unavailable):
            await ada.connect(STRANGER)
        with pytest.raises(Unavailable):
            await ada.connect(STRANGER, (f"/ip4/127.0.0.1/tcp/1/p2p/{STRANGER}", "nonsense"))
        with pytest.raises(Unavailable):
            await ada.connect(ada.peer_id, ada.addresses)


async def test_dialling_each_other_at_once_connects(world: World) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        bob.handle(ECHO, echo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ada.connect, bob.peer_id, bob.addresses)
            nursery.start_soon(ada.connect, bob.peer_id, bob.addresses)
            nursery.start_soon(bob.connect, ada.peer_id, ada.addresses)
        stream = await ada.open_stream(bob.peer_id, ECHO)
        await stream.write(b"still there")
        assert await read_exactly(stream, 11) == b"still there"


async def test_bytes_arrive_in_order_both_ways(world: World) -> None:
    sent = os.urandom(3 * 2**20 + 17)
    async with world.pair() as (ada, bob):
        bob.handle(ECHO, echo)
        stream = await ada.open_stream(bob.peer_id, ECHO)
        assert stream.peer == bob.peer_id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, sent)
            assert await read_exactly(stream, len(sent)) == sent
        await stream.close()


async def test_streams_can_be_opened_by_either_side(world: World) -> None:
    async with world.pair() as (ada, bob):
        ada.handle(ECHO, echo)
        stream = await bob.open_stream(ada.peer_id, ECHO)
        await stream.write(b"hi")
        assert await read_exactly(stream, 2) == b"hi"


async def test_a_handler_is_told_who_opened_the_stream(world: World) -> None:
    async with world.pair() as (ada, bob):

        async def tell(stream: Stream) -> None:
            await stream.write(stream.peer.encode())

        bob.handle("/test/who/1", tell)
        stream = await ada.open_stream(bob.peer_id, "/test/who/1")
        assert await read_exactly(stream, 52) == ada.peer_id.encode()
        assert await stream.read(1) == b"", "the handler returned, so its stream is closed"
        assert await stream.read(1) == b""


async def test_what_was_written_before_closing_arrives(world: World) -> None:
    heard: list[bytes] = []
    done = trio.Event()

    async def listen(stream: Stream) -> None:
        while piece := await stream.read(1000):
            heard.append(piece)
        done.set()

    async with world.pair() as (ada, bob):
        bob.handle("/test/listen/1", listen)
        stream = await ada.open_stream(bob.peer_id, "/test/listen/1")
        await stream.write(b"x" * 100_000)
        await stream.close()
        await stream.close()
        with pytest.raises(Unavailable):
            await stream.write(b"more")
        await done.wait()
        assert b"".join(heard) == b"x" * 100_000


async def test_a_handler_that_leaves_half_unread_ends_the_writer(world: World) -> None:
    async def read_a_little(stream: Stream) -> None:
        await stream.read(10)

    async with world.pair() as (ada, bob):
        bob.handle("/test/little/1", read_a_little)
        bob.handle(ECHO, echo)
        stream = await ada.open_stream(bob.peer_id, "/test/little/1")
        with pytest.raises(Unavailable):
            await stream.write(bytes(4 * 2**20))
        await stream.reset()
        await assert_echoes(ada, bob)


async def test_a_writer_waits_for_a_reader_that_does_not_read(world: World) -> None:
    begun, go = trio.Event(), trio.Event()
    got: list[int] = []
    done = trio.Event()

    async def read_later(stream: Stream) -> None:
        got.append(len(await stream.read(1)))
        begun.set()
        await go.wait()
        while piece := await stream.read(2**20):
            got.append(len(piece))
        done.set()

    async with world.pair() as (ada, bob):
        bob.handle("/test/later/1", read_later)
        stream = await ada.open_stream(bob.peer_id, "/test/later/1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(64 * 2**20))
            await begun.wait()
            await trio.sleep(0.5)
            assert nursery.child_tasks, "64 MiB fit nowhere but at the reader"
            nursery.cancel_scope.cancel()
        with pytest.raises(Unavailable):
            await stream.write(b"after half a write")
        await stream.close()
        go.set()
        await done.wait()
        assert 0 < sum(got) < 64 * 2**20


async def test_a_reset_is_no_end(world: World) -> None:
    seen: list[str] = []
    done = trio.Event()

    async def listen(stream: Stream) -> None:
        try:
            while await stream.read(10):
                await stream.write(b"got it")
        except Unavailable:
            seen.append("reset")
        done.set()

    async with world.pair() as (ada, bob):
        bob.handle("/test/listen/1", listen)
        stream = await ada.open_stream(bob.peer_id, "/test/listen/1")
        await stream.write(b"x")
        assert await read_exactly(stream, 6) == b"got it"
        await stream.reset()
        await done.wait()
        assert seen == ["reset"]
        for use in (stream.read(1), stream.write(b"x")):
            with pytest.raises(Unavailable):
                await use
        await stream.close()
        await stream.reset()


async def test_a_handler_that_raises_hurts_nobody(world: World) -> None:
    async def fail(stream: Stream) -> None:
        await stream.read(1)
        raise RuntimeError("a bug in a handler")

    async with world.pair() as (ada, bob):
        bob.handle("/test/fail/1", fail)
        bob.handle(ECHO, echo)
        stream = await ada.open_stream(bob.peer_id, "/test/fail/1")
        await stream.write(b"x")
        with pytest.raises(Unavailable):
            await stream.read(1)
        await assert_echoes(ada, bob)
        assert ada.connected == {bob.peer_id}


async def test_a_stream_needs_a_connection_and_a_handler(world: World) -> None:
    async with world.pair() as (ada, bob):
        with pytest.raises(Unavailable):
            await ada.open_stream(STRANGER, ECHO)
        with pytest.raises(Unavailable):
            await ada.open_stream(bob.peer_id, "/test/unheard-of/1")
        bob.handle(ECHO, echo)
        await assert_echoes(ada, bob)


async def test_a_cancelled_read_loses_nothing(world: World) -> None:
    sent = os.urandom(200_000)
    async with world.pair() as (ada, bob):

        async def drip(stream: Stream) -> None:
            for at in range(0, len(sent), 1000):
                await stream.write(sent[at : at + 1000])

        bob.handle("/test/drip/1", drip)
        stream = await ada.open_stream(bob.peer_id, "/test/drip/1")
        got = bytearray()
        while len(got) < len(sent):
            with trio.move_on_after(0.0005):
                got += await stream.read(4096)
        assert bytes(got) == sent


async def test_cancelled_writers_and_openers_leave_the_connection_whole(world: World) -> None:
    async with world.pair() as (ada, bob):
        bob.handle(ECHO, echo)
        for turn in range(30):
            with trio.move_on_after(0.0003 * turn):
                stream = await ada.open_stream(bob.peer_id, ECHO)
                await stream.write(bytes(400_000))
        assert ada.connected == {bob.peer_id}
        await assert_echoes(ada, bob)


async def test_peer_events_begin_with_who_is_there_and_miss_nothing(world: World) -> None:
    async with world.hosts("ada", "bob", "cyd") as (ada, bob, cyd):
        await ada.connect(bob.peer_id, bob.addresses)
        async with ada.peer_events() as events:
            assert await anext(events) == PeerConnected(bob.peer_id)
            await ada.connect(cyd.peer_id, cyd.addresses)
            await ada.disconnect(bob.peer_id)
            assert await anext(events) == PeerConnected(cyd.peer_id)
            assert await anext(events) == PeerLost(bob.peer_id)
            assert ada.connected == {cyd.peer_id}


async def test_disconnecting_ends_streams_on_both_sides(world: World) -> None:
    async with world.pair() as (ada, bob):
        bob.handle(ECHO, echo)
        stream = await ada.open_stream(bob.peer_id, ECHO)
        await stream.write(b"x")
        assert await read_exactly(stream, 1) == b"x"
        await bob.disconnect(ada.peer_id)
        with pytest.raises(Unavailable):
            await stream.read(1)
        await until_lost(ada, bob)
        assert bob.connected == frozenset()
        with pytest.raises(Unavailable):
            await ada.open_stream(bob.peer_id, ECHO)
        await bob.disconnect(ada.peer_id)  # does nothing
        await ada.connect(bob.peer_id, bob.addresses)
        await assert_echoes(ada, bob)


async def test_what_one_publishes_the_others_hear(world: World) -> None:
    async with (
        world.pair() as (ada, bob),
        ada.subscribe("news") as at_ada,
        bob.subscribe("news") as at_bob,
        bob.subscribe("other") as elsewhere,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeat, ada, "news", b"from ada")
            assert await anext(at_bob) == Heard("news", ada.peer_id, b"from ada")
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeat, bob, "news", b"from bob")
            assert await anext(at_ada) == Heard("news", bob.peer_id, b"from bob"), "and never its own"
            nursery.cancel_scope.cancel()
        async with ada.subscribe("other"), trio.open_nursery() as nursery:
            nursery.start_soon(repeat, ada, "other", b"last")
            assert await anext(elsewhere) == Heard("other", ada.peer_id, b"last"), "and nothing of another topic"
            nursery.cancel_scope.cancel()


async def test_two_readers_of_a_topic_each_hear_it(world: World) -> None:
    async with (
        world.pair() as (ada, bob),
        ada.subscribe("news"),
        bob.subscribe("news") as first,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(repeat, ada, "news", b"x")
        async with bob.subscribe("news") as second:
            await anext(second)
        await anext(first)
        async with bob.subscribe("news") as third:
            await anext(third)
        nursery.cancel_scope.cancel()


async def test_a_topic_can_be_left_and_entered_again(world: World) -> None:
    async with world.pair() as (ada, bob), ada.subscribe("news"):
        for payload in (b"first", b"second"):
            async with bob.subscribe("news") as at_bob, trio.open_nursery() as nursery:
                nursery.start_soon(repeat, ada, "news", payload)
                while (await anext(at_bob)).payload != payload:
                    pass
                nursery.cancel_scope.cancel()


async def test_a_subscription_that_is_given_up_half_way_is_none(world: World) -> None:
    async def enter(host: Host) -> None:
        async with host.subscribe("news"):
            await trio.sleep_forever()

    async with world.pair() as (ada, bob), ada.subscribe("news"):
        for checkpoints in range(12):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(enter, bob)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            with pytest.raises(ValueError, match="subscription"):
                await bob.publish("news", b"x")
        async with bob.subscribe("news") as at_bob, trio.open_nursery() as nursery:
            nursery.start_soon(repeat, ada, "news", b"still heard")
            assert (await anext(at_bob)).payload == b"still heard"
            nursery.cancel_scope.cancel()


async def test_the_largest_message_is_heard_and_a_larger_one_refused(world: World) -> None:
    async with world.pair() as (ada, bob), ada.subscribe("news"), bob.subscribe("news") as at_bob:
        with pytest.raises(ValueError, match="more than"):
            await ada.publish("news", bytes(MAX_PUBLISH_BYTES + 1))
        with pytest.raises(ValueError, match="subscription"):
            await ada.publish("unheard-of", b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(repeat, ada, "news", bytes(MAX_PUBLISH_BYTES))
            assert len((await anext(at_bob)).payload) == MAX_PUBLISH_BYTES
            nursery.cancel_scope.cancel()


async def test_providers_are_found(world: World) -> None:
    async with world.hosts("ada", "bob", "cyd") as (ada, bob, cyd):
        await ada.connect(bob.peer_id, bob.addresses)
        await cyd.connect(bob.peer_id, bob.addresses)
        await until_connected(bob, ada, cyd)
        assert await cyd.directory.providers("blob") == ()
        await ada.directory.provide("blob")
        await bob.directory.provide("blob")

        async def both() -> bool:
            return set(await cyd.directory.providers("blob")) == {ada.peer_id, bob.peer_id}

        await eventually(both)
        assert ada.peer_id not in await ada.directory.providers("blob")
        await cyd.connect(ada.peer_id)  # its address came with the record
        assert await cyd.directory.providers("another") == ()


async def test_a_value_is_its_owners_and_the_newest(world: World) -> None:
    async with world.pair() as (ada, bob):
        assert await bob.directory.get(ada.peer_id, "name") is None
        await ada.directory.put("name", b"one")

        async def is_one() -> bool:
            return await bob.directory.get(ada.peer_id, "name") == b"one"

        await eventually(is_one)
        await ada.directory.put("name", b"two")

        async def is_two() -> bool:
            return await bob.directory.get(ada.peer_id, "name") == b"two"

        await eventually(is_two)
        assert await ada.directory.get(ada.peer_id, "name") == b"two"
        assert await bob.directory.get(bob.peer_id, "name") is None
        await bob.directory.put("name", b"mine")
        assert await bob.directory.get(bob.peer_id, "name") == b"mine"
        assert await bob.directory.get(ada.peer_id, "name") == b"two"


async def test_the_directory_refuses_what_is_too_large(world: World) -> None:
    async with world.pair() as (ada, _):
        await ada.directory.put("k" * 50, bytes(4096))
        assert await ada.directory.get(ada.peer_id, "k" * 50) == bytes(4096)
        with pytest.raises(ValueError, match="key"):
            await ada.directory.put("k" * 51, b"")
        with pytest.raises(ValueError, match="key"):
            await ada.directory.provide("")
        with pytest.raises(ValueError, match="value"):
            await ada.directory.put("k", bytes(4097))


async def test_the_directory_needs_a_peer(world: World) -> None:
    async with world.hosts("ada") as (ada,):
        with pytest.raises(Unavailable):
            await ada.directory.provide("blob")
        with pytest.raises(Unavailable):
            await ada.directory.providers("blob")
        with pytest.raises(Unavailable):
            await ada.directory.put("name", b"x")
        with pytest.raises(Unavailable):
            await ada.directory.get(STRANGER, "name")
        assert not await ada.directory.find_peer(STRANGER)


async def test_a_peer_is_found_through_another(world: World) -> None:
    async with world.hosts("ada", "bob", "cyd") as (ada, bob, cyd):
        await ada.connect(bob.peer_id, bob.addresses)
        await cyd.connect(bob.peer_id, bob.addresses)

        async def found() -> bool:
            return await cyd.directory.find_peer(ada.peer_id)

        await eventually(found)
        await cyd.connect(ada.peer_id)
        assert not await cyd.directory.find_peer(STRANGER)


async def test_a_host_that_stops_is_lost_to_the_others(world: World) -> None:
    async with world.hosts("ada") as (ada,):
        async with world.hosts("bob") as (bob,):
            await ada.connect(bob.peer_id, bob.addresses)
        with trio.fail_after(20):  # no time-out of a library's is as short
            await until_lost(ada, bob)


async def assert_echoes(near: Host, far: Host) -> None:
    stream = await near.open_stream(far.peer_id, ECHO)
    await stream.write(b"are you there?")
    assert await read_exactly(stream, 14) == b"are you there?"
    await stream.close()


async def repeat(host: Host, topic: str, payload: bytes) -> None:
    """Until it is heard: no message of gossip can be relied on, least of all before its mesh is made."""
    while True:
        await host.publish(topic, payload)
        await trio.sleep(0.1)
