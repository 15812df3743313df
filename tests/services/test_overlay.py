"""The overlay: who stays connected, and who is let go."""

import trio

from primep2p.model.ids import PeerId
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from primep2p.services.peers.members import KEPT_CONNECTIONS, Overlay
from tests.core.kit import member

ME, *OTHERS = sorted(member(i).peer_id for i in range(KEPT_CONNECTIONS + 6))
RUN = bytes(32)


async def _connected_to(host: MemoryHost, peers: set[PeerId]) -> None:
    """Returns when these, and no others, are connected."""
    async with host.peer_events() as events:
        async for _ in events:
            if host.connected == peers:
                return


async def test_of_connections_that_nobody_needs_any_more_the_oldest_are_let_go() -> None:
    network = MemoryNetwork()
    host = network.host(ME)
    others = [network.host(peer) for peer in OTHERS]
    overlay = Overlay(host, lambda peer, reason: None, lambda peer, addresses: None)
    first, second, third = OTHERS[:3], OTHERS[3:6], OTHERS[6:]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for each in (host, *others):
                await nursery.start(each.run)
            await nursery.start(overlay.run)
            wanted: set[PeerId] = set()
            for peers in (first, second, third):
                overlay.want(RUN, peers)
                wanted |= set(peers)
                await _connected_to(host, wanted)
            overlay.want(RUN, third[1:])
            await _connected_to(host, wanted - set(OTHERS[:5]))  # of six that are not needed the five oldest
            nursery.cancel_scope.cancel()
