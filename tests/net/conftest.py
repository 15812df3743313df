"""Networks to test on, and how to wait on one without sleeping."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from primep2p.keys import Identity
from primep2p.net.host import Host
from primep2p.net.libp2p_host import LibP2PHost
from primep2p.net.memory_host import MemoryNetwork

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


def identity(name: str) -> Identity:
    return Identity(name.encode().ljust(32, b"."))


class World:
    """Hosts of one kind, by name."""

    def __init__(self, make: Callable[[Identity], Host]) -> None:
        self._make = make

    @asynccontextmanager
    async def hosts(self, *names: str) -> AsyncIterator[list[Host]]:
        """Running, and not connected."""
        async with trio.open_nursery() as nursery:
            made = [self._make(identity(name)) for name in names]
            for host in made:
                await nursery.start(host.run)
            yield made
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def pair(self) -> AsyncIterator[list[Host]]:
        """Two hosts that are connected, in the eyes of both."""
        async with self.hosts("ada", "bob") as (ada, bob):
            await ada.connect(bob.peer_id, bob.addresses)
            await until_connected(bob, ada)
            yield [ada, bob]


@pytest.fixture(params=["memory", "libp2p"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "libp2p":
        return World(lambda who: LibP2PHost(who, LOOPBACK, (), "test"))
    network = MemoryNetwork(seed=1)
    return World(lambda who: network.host(who.peer_id))


async def until_connected(host: Host, *others: Host) -> None:
    missing = {other.peer_id for other in others}
    async with host.peer_events() as events:
        while not missing <= host.connected:
            await anext(events)


async def until_lost(host: Host, other: Host) -> None:
    async with host.peer_events() as events:
        while other.peer_id in host.connected:
            await anext(events)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """For what no event tells, like a record that lies at another node: asked again until it is so."""
    with trio.fail_after(60):
        while not await condition():  # noqa: ASYNC110  (there is no event to wait for)
            await trio.sleep(0.02)
