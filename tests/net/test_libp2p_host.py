"""What only a real network does: processes that die, sockets that are taken, libraries that talk too much."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from primep2p.model.errors import ConfigError, Unavailable
from primep2p.net.host import Host, PeerConnected, PeerLost, Stream
from primep2p.net.libp2p_host import LibP2PHost
from tests.net.conftest import LOOPBACK, World, eventually, identity, until_connected, until_lost
from tests.net.peer_process import echo


@pytest.fixture
def world() -> World:
    return World(lambda who: LibP2PHost(who, LOOPBACK, (), "test"))


class Lines:
    """What a process prints."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""

    async def next(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            piece = await self.process.stdout.receive_some()
            assert piece, "the process has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    async def until(self, wanted: str) -> None:
        while await self.next() != wanted:
            pass


@asynccontextmanager
async def process(name: str, listen: str = LOOPBACK[0], *bootstrap: str) -> AsyncIterator[tuple[Lines, str]]:
    """A peer in a process of its own, which is gone at the end; and its address."""
    running = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.net.peer_process", name, listen, *bootstrap], stdout=subprocess.PIPE
    )
    try:
        lines = Lines(running)
        yield lines, (await lines.next()).split()[1]
    finally:
        with trio.CancelScope(shield=True):
            if running.poll() is None:
                os.kill(running.pid, signal.SIGKILL)
            await running.wait()
            assert running.stdout is not None
            await running.stdout.aclose()


async def assert_echoes(near: Host, far: str) -> None:
    stream = await near.open_stream(far, "/test/echo/1")
    await stream.write(b"x" * 100_000)
    left = 100_000
    while left:
        piece = await stream.read(left)
        assert piece
        left -= len(piece)
    await stream.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_dialling_each_other_at_once_connects_every_time(world: World) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        ada.handle("/test/echo/1", echo)
        bob.handle("/test/echo/1", echo)
        for _ in range(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ada.connect, bob.peer_id, bob.addresses)
                nursery.start_soon(bob.connect, ada.peer_id, ada.addresses)
            await assert_echoes(ada, bob.peer_id)
            await assert_echoes(bob, ada.peer_id)
            assert ada.connected == {bob.peer_id}
            assert bob.connected == {ada.peer_id}
            await eventually(partial(is_quiet, ada, bob))  # a dial that was overtaken still comes to its end
            await ada.disconnect(bob.peer_id)
            await until_lost(bob, ada)
            await until_lost(ada, bob)


async def is_quiet(*hosts: LibP2PHost) -> bool:
    return not any(host._dialling for host in hosts)


async def test_two_connections_make_one_peer_until_both_are_gone(world: World) -> None:
    async with world.pair() as (ada, bob), ada.peer_events() as events:
        assert await anext(events) == PeerConnected(bob.peer_id)
        await bob._swarm.dial_addr(ada._host.get_addrs()[0], ada._host.get_id())
        assert len(bob._swarm.get_connections()) == 2
        first, second = ada._swarm.get_connections()
        await first.close()
        assert ada.connected == {bob.peer_id}
        await second.close()
        assert await anext(events) == PeerLost(bob.peer_id)


async def test_a_killed_peer_is_lost_by_its_sockets_end_and_back_when_it_is_back(world: World) -> None:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    async with world.hosts("ada") as (ada,), ada.subscribe("news") as news, ada.peer_events() as events:
        ada.handle("/test/echo/1", echo)
        bob = identity("bob").peer_id
        for _ in range(2):
            async with process("bob", listen, ada.addresses[0]) as (lines, _):
                assert await anext(events) == PeerConnected(bob)
                await assert_echoes(ada, bob)
                while (await anext(news)).origin != bob:
                    pass
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish, ada)
                    await lines.until("heard ada")
                    nursery.cancel_scope.cancel()
                died_s = trio.current_time()
                os.kill(lines.process.pid, signal.SIGKILL)
                assert await anext(events) == PeerLost(bob)
                took_s = trio.current_time() - died_s
                print(f"lost after {took_s * 1000:.1f} ms")
                assert took_s < 10, "by the socket's end, and not by a time-out of 30 s"
                with pytest.raises(Unavailable):
                    await ada.open_stream(bob, "/test/echo/1")


async def publish(host: Host) -> None:
    while True:
        await host.publish("news", b"ada")
        await trio.sleep(0.1)


async def test_a_bootstrap_peer_is_dialled_until_it_is_there_and_again_when_it_is_lost() -> None:
    listen = f"/ip4/127.0.0.1/tcp/{free_port()}"
    bob = identity("bob").peer_id
    ada = LibP2PHost(identity("ada"), LOOPBACK, (f"{listen}/p2p/{bob}",), "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(ada.run)
        async with ada.peer_events() as events:
            for _ in range(2):
                there = LibP2PHost(identity("bob"), (listen,), (), "test")  # here: a process starts late under load,
                there.handle("/test/echo/1", echo)  # and the pauses between dials grow with the time that it takes
                async with trio.open_nursery() as inner:
                    await inner.start(there.run)
                    assert await anext(events) == PeerConnected(bob)
                    await assert_echoes(ada, bob)
                    inner.cancel_scope.cancel()
                assert await anext(events) == PeerLost(bob)
        nursery.cancel_scope.cancel()


async def test_a_host_stops_by_itself_whatever_its_peers_do(world: World) -> None:
    """One peer talks, one is frozen with its buffers full."""
    async with process("bob") as (lines, address), process("cyd") as (_, other):
        ada = LibP2PHost(identity("ada"), LOOPBACK, (address, other), "test")
        async with trio.open_nursery() as nursery:
            await nursery.start(ada.run)
            bob = identity("bob").peer_id
            async with ada.peer_events() as events:
                while len(ada.connected) < 2:
                    await anext(events)
            os.kill(lines.process.pid, signal.SIGSTOP)
            for _ in range(40):
                nursery.start_soon(flood, ada, bob)
                nursery.start_soon(flood, ada, identity("cyd").peer_id)
            began_s = trio.current_time()
            with trio.move_on_after(1) as patience:
                stream = await ada.open_stream(bob, "/test/echo/1")
                await stream.write(bytes(2**20))
            took_s = trio.current_time() - began_s
            print(f"left after {took_s * 1000:.0f} ms")
            assert patience.cancelled_caught
            assert took_s < 9, "who waits for a frozen peer can leave before the 10 s in which it may accept a stream"
            began_s = trio.current_time()
            nursery.cancel_scope.cancel()
        took_s = trio.current_time() - began_s
        print(f"stopped after {took_s * 1000:.0f} ms")
        assert took_s < 15, "and not by a time-out of 30 s; 0.8 s at most on a machine at rest"
        os.kill(lines.process.pid, signal.SIGCONT)


async def flood(host: Host, peer: str) -> None:
    try:
        stream = await host.open_stream(peer, "/test/echo/1")
        while True:
            await stream.write(bytes(2**20))
    except Unavailable:
        return


async def test_a_stopped_host_can_be_followed_by_another_on_its_port(world: World) -> None:
    listen = (f"/ip4/127.0.0.1/tcp/{free_port()}",)
    async with world.hosts("bob") as (bob,):
        for _ in range(3):
            ada = LibP2PHost(identity("ada"), listen, bob.addresses, "test")
            ada.handle("/test/echo/1", echo)
            async with trio.open_nursery() as nursery:
                await nursery.start(ada.run)
                await until_connected(bob, ada)
                await assert_echoes(bob, ada.peer_id)
                nursery.cancel_scope.cancel()
            await until_lost(bob, ada)


async def test_a_taken_port_is_the_configurations_fault() -> None:
    for options in ((), (socket.SO_REUSEPORT,)):
        with socket.socket() as taken:
            for option in options:
                taken.setsockopt(socket.SOL_SOCKET, option, 1)
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            host = LibP2PHost(identity("ada"), (f"/ip4/127.0.0.1/tcp/{port}",), (), "test")
            with pytest.raises(ConfigError, match=rf"p2p\.listen.*{port}"):
                await host.run()


async def test_a_taken_port_is_told_through_nursery_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host = LibP2PHost(identity("ada"), (f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}",), (), "test")
        async with trio.open_nursery() as nursery:
            with pytest.raises(ConfigError):
                await nursery.start(host.run)


@pytest.mark.parametrize("listen", ["", "4001", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1"])
def test_a_listen_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"p2p\.listen"):
        LibP2PHost(identity("ada"), (listen,), (), "test")


@pytest.mark.parametrize("bootstrap", ["", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/Qm", "/p2p/x"])
def test_a_bootstrap_address_that_is_none_is_refused(bootstrap: str) -> None:
    with pytest.raises(ConfigError, match=r"p2p\.bootstrap"):
        LibP2PHost(identity("ada"), LOOPBACK, (bootstrap,), "test")


@pytest.mark.parametrize("listen", ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"])
async def test_an_unspecified_address_is_told_as_those_of_the_interfaces(listen: str, world: World) -> None:
    if "ip6" in listen and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    host = LibP2PHost(identity("ada"), (listen,), (), "test")
    async with trio.open_nursery() as nursery, world.hosts("bob") as (bob,):
        await nursery.start(host.run)
        assert host.addresses
        assert not [each for each in host.addresses if "/0.0.0.0/" in each or "/::/" in each]
        await bob.connect(host.peer_id, host.addresses)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["dns", "dns4"])
async def test_a_name_is_dialled_as_what_it_stands_for_here(world: World, kind: str) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        (address,) = bob.addresses
        await ada.connect(bob.peer_id, (address.replace("/ip4/127.0.0.1", f"/{kind}/localhost"),))
        with pytest.raises(Unavailable, match=r"no\.such\.name\.invalid"):
            await bob.connect(identity("cyd").peer_id, (f"/{kind}/no.such.name.invalid/tcp/1",))


async def test_accepted_connections_leave_nothing_behind(world: World) -> None:
    async with world.hosts("ada", "bob") as (ada, bob):
        for _ in range(5):
            await ada.connect(bob.peer_id, bob.addresses)
            await until_connected(bob, ada)
            await ada.disconnect(bob.peer_id)
            await until_lost(bob, ada)

        async def none_left() -> bool:
            return bob._swarm._inbound_limiter.borrowed_tokens == 0

        await eventually(none_left)


async def test_closed_streams_leave_nothing_behind(world: World) -> None:
    async with world.pair() as (ada, bob):
        bob.handle("/test/echo/1", echo)
        (connection,) = ada._swarm.get_connections()
        for _ in range(20):
            await assert_echoes(ada, bob.peer_id)

        async def none_left() -> bool:
            return len(connection.muxed_conn.streams) <= 2  # gossip's, one each way

        await eventually(none_left)


@pytest.mark.parametrize("failure", [trio.TooSlowError, OSError])
async def test_a_subscription_that_the_library_fails_at_is_unavailable_and_none(
    world: World, failure: type[Exception]
) -> None:
    async with world.pair() as (ada, bob), ada.subscribe("news"):
        router = bob._gossip._router
        join = router.join

        async def fail(topic: str) -> None:
            router.join = join
            raise failure

        router.join = fail
        with pytest.raises(Unavailable):
            await bob.subscribe("news").__aenter__()
        with pytest.raises(ValueError, match="subscription"):
            await bob.publish("news", b"x")
        async with bob.subscribe("news") as at_bob, trio.open_nursery() as nursery:
            nursery.start_soon(publish, ada)
            assert (await anext(at_bob)).payload == b"ada"
            nursery.cancel_scope.cancel()


async def test_a_stream_opened_for_nobody_is_reset(world: World) -> None:
    """Its opener is cancelled while the other side agrees."""
    met: list[Stream] = []

    async def meet(stream: Stream) -> None:
        met.append(stream)
        with pytest.raises(Unavailable):
            await stream.read(1)
        met.remove(stream)

    async with world.pair() as (ada, bob):
        bob.handle("/test/meet/1", meet)
        for turn in range(10):
            with trio.move_on_after(0.0005 * turn):
                await ada.open_stream(bob.peer_id, "/test/meet/1")
                break

        async def nobody_waits() -> bool:
            return not met

        await ada.disconnect(bob.peer_id)
        await eventually(nobody_waits)


QUIET = """
import trio, logging
from tests.net.conftest import identity
from primep2p.net.libp2p_host import LibP2PHost

async def main():
    absent = "/ip4/127.0.0.1/tcp/1/p2p/" + identity("absent").peer_id
    ada = LibP2PHost(identity("ada"), ("/ip4/127.0.0.1/tcp/0",), (absent,), "n")
    bob = LibP2PHost(identity("bob"), ("/ip4/127.0.0.1/tcp/0",), (), "n")
    async with trio.open_nursery() as nursery:
        await nursery.start(ada.run)
        async with trio.open_nursery() as inner:
            await inner.start(bob.run)
            await ada.connect(bob.peer_id, bob.addresses)
            async with ada.subscribe("t"), bob.subscribe("t"):
                await ada.publish("t", b"x")
                await ada.directory.put("k", b"v")
                await bob.directory.get(identity("y").peer_id, "k")
                try:
                    await ada.open_stream(bob.peer_id, "/nothing/1")
                except Exception:
                    pass
                await trio.sleep(0.3)
                inner.cancel_scope.cancel()
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()

trio.run(main)
logging.getLogger("someone.else").warning("still heard")
"""


def test_the_library_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-X", "dev", "-c", QUIET], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "Warning" not in done.stderr
    assert done.stderr in ("", "still heard\n")
