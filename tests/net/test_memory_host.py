"""The network in memory disturbs as it is told to, the same way for the same seed, and in virtual time."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from primep2p.model.errors import Unavailable
from primep2p.net.host import PeerConnected, PeerLost, Stream
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from tests.net.conftest import identity

NAMES = ("ada", "bob", "cyd", "dan")


def simulate(
    network: MemoryNetwork, test: Callable[[list[MemoryHost]], Awaitable[None]], names: tuple[str, ...] = NAMES
) -> float:
    """Runs `test` on hosts that are all connected. The virtual time it took."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            hosts = [network.host(identity(name).peer_id) for name in names]
            for at, host in enumerate(hosts):
                await nursery.start(host.run)
                for other in hosts[:at]:
                    await host.connect(other.peer_id)
            began_s = trio.current_time()
            await test(hosts)
            took_s = trio.current_time() - began_s
            nursery.cancel_scope.cancel()
        return took_s

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def echo(stream: Stream) -> None:
    while piece := await stream.read(65536):
        await stream.write(piece)


def test_a_cut_host_is_lost_to_all_and_they_to_it() -> None:
    network = MemoryNetwork()

    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob, cyd, dan = hosts
        bob.handle("/echo/1", echo)
        stream = await ada.open_stream(bob.peer_id, "/echo/1")
        async with ada.peer_events() as events:
            for _ in range(3):
                assert isinstance(await anext(events), PeerConnected)
            network.cut(bob.peer_id)
            assert await anext(events) == PeerLost(bob.peer_id)
        assert bob.connected == frozenset()
        assert ada.connected == {cyd.peer_id, dan.peer_id}
        with pytest.raises(Unavailable):
            await stream.read(1)
        await ada.connect(bob.peer_id)
        assert bob.connected == {ada.peer_id}

    simulate(network, test)


def test_a_partition_parts_and_a_heal_lets_meet_again() -> None:
    network = MemoryNetwork()

    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob, cyd, dan = hosts
        network.partition({ada.peer_id, bob.peer_id}, {cyd.peer_id, dan.peer_id})
        assert ada.connected == {bob.peer_id}
        assert cyd.connected == {dan.peer_id}
        with pytest.raises(Unavailable):
            await ada.connect(cyd.peer_id)
        async with ada.subscribe("t"), bob.subscribe("t") as at_bob, cyd.subscribe("t") as at_cyd:
            await ada.publish("t", b"x")
            assert (await anext(at_bob)).payload == b"x"
            with trio.move_on_after(100) as silence:
                await anext(at_cyd)
            assert silence.cancelled_caught
        network.heal()
        assert ada.connected == {bob.peer_id}
        await ada.connect(cyd.peer_id)

    simulate(network, test)


def test_a_bootstrap_peer_is_dialled_until_it_is_there_and_after_a_partition() -> None:
    network = MemoryNetwork()
    ada, bob = identity("ada").peer_id, identity("bob").peer_id

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            host = network.host(ada, bootstrap=(bob,))
            await nursery.start(host.run)
            await trio.sleep(60)
            async with host.peer_events() as events:
                nursery.start_soon(network.host(bob).run)
                assert await anext(events) == PeerConnected(bob)
                network.partition({ada}, {bob})
                assert await anext(events) == PeerLost(bob)
                await trio.sleep(3600)
                network.heal()
                assert await anext(events) == PeerConnected(bob)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_latency_is_what_was_asked_for_and_costs_no_real_time() -> None:
    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob = hosts
        bob.handle("/echo/1", echo)
        stream = await ada.open_stream(bob.peer_id, "/echo/1")
        for _ in range(10):
            await stream.write(b"x")
            assert await stream.read(1) == b"x"

    took_s = simulate(MemoryNetwork(latency_s=5), test, ("ada", "bob"))
    assert 22 * 5 <= took_s <= 22 * 5 * 1.1, "a round trip to open it, and ten to speak"


def test_with_ticks_all_that_is_said_arrives_at_one_of_them_and_in_order() -> None:
    said: list[tuple[bytes, float]] = []
    published: list[tuple[bytes, float]] = []

    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob = hosts
        done = trio.Event()

        async def note(stream: Stream) -> None:
            while piece := await stream.read(1):
                said.append((piece, trio.current_time() % 2))
            done.set()

        bob.handle("/note/1", note)
        stream = await ada.open_stream(bob.peer_id, "/note/1")
        for number in range(10):
            await stream.write(bytes([number]))
            await trio.sleep(0.7)
        await stream.close()
        await done.wait()
        await trio.sleep(0.7)
        async with ada.subscribe("t"), bob.subscribe("t") as at_bob:
            await ada.publish("t", b"heard")
            heard = await anext(at_bob)
            published.append((heard.payload, trio.current_time() % 2))

    simulate(MemoryNetwork(latency_s=0.3, tick_s=2), test, ("ada", "bob"))
    assert said == [(bytes([number]), 0.0) for number in range(10)]
    assert published == [(b"heard", 0.0)]


def lost_of_a_hundred(seed: int, loss: float) -> tuple[list[int], float]:
    heard: list[int] = []

    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob = hosts
        async with ada.subscribe("t"), bob.subscribe("t") as at_bob:
            for number in range(100):
                await ada.publish("t", bytes([number]))
                with trio.move_on_after(1):
                    heard.append((await anext(at_bob)).payload[0])

    took_s = simulate(MemoryNetwork(seed=seed, gossip_loss=loss), test, ("ada", "bob"))
    return heard, took_s


def test_gossip_is_lost_as_often_as_asked_and_the_same_for_the_same_seed() -> None:
    assert lost_of_a_hundred(1, 0.0)[0] == list(range(100))
    assert lost_of_a_hundred(1, 1.0)[0] == []
    heard, _ = lost_of_a_hundred(1, 0.3)
    assert 55 <= len(heard) <= 85
    assert lost_of_a_hundred(1, 0.3) == lost_of_a_hundred(1, 0.3)
    assert lost_of_a_hundred(2, 0.3)[0] != heard


def test_who_is_far_behind_hears_the_newest() -> None:
    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob = hosts
        async with ada.subscribe("t"), bob.subscribe("t") as at_bob:
            for number in range(300):
                await ada.publish("t", number.to_bytes(2, "big"))
                await trio.sleep(1)
            assert [int.from_bytes((await anext(at_bob)).payload, "big") for _ in range(256)] == list(range(44, 300))

    simulate(MemoryNetwork(), test, ("ada", "bob"))


def test_gossip_reaches_peers_that_are_not_neighbours() -> None:
    network = MemoryNetwork()

    async def test(hosts: list[MemoryHost]) -> None:
        ada, _bob, cyd, dan = hosts
        network.partition({ada.peer_id}, {cyd.peer_id, dan.peer_id})
        async with ada.subscribe("t"), dan.subscribe("t") as at_dan:
            await ada.publish("t", b"by way of bob")
            assert (await anext(at_dan)).origin == ada.peer_id

    simulate(network, test)


def test_what_was_on_the_way_is_lost_with_the_connection() -> None:
    network = MemoryNetwork(latency_s=1)

    async def test(hosts: list[MemoryHost]) -> None:
        ada, bob = hosts
        got: list[bytes] = []

        async def listen(stream: Stream) -> None:
            try:
                while True:
                    got.append(await stream.read(100))
            except Unavailable:
                got.append(b"lost")

        bob.handle("/listen/1", listen)
        stream = await ada.open_stream(bob.peer_id, "/listen/1")
        await stream.write(b"arrives")
        await trio.sleep(2)
        await stream.write(b"is on the way")
        network.cut(ada.peer_id)
        await trio.sleep(2)
        assert got == [b"arrives", b"lost"]

    simulate(network, test, ("ada", "bob"))


def test_two_hosts_of_one_peer_are_a_mistake() -> None:
    async def test(hosts: list[MemoryHost]) -> None:
        with pytest.raises(ValueError, match="at once"):
            await network.host(hosts[0].peer_id).run()

    network = MemoryNetwork()
    simulate(network, test, ("ada",))
