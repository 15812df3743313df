from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from trio.testing import MockClock

from primep2p.keys import Identity
from primep2p.model.ids import Cid
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from primep2p.services.blobs.announcing import MAX_ANNOUNCED, REPEAT_S, RETRY_S, Announcing, directory_key
from primep2p.store.db import Store, open_store
from primep2p.wire.cid import cid_of


def give(store: Store, directory: Path, content: bytes) -> Cid:
    path = directory / "given"
    path.write_bytes(content)
    return store.blobs.add(path, durable=False)


def in_virtual_time(
    tmp_path: Path, script: Callable[[Announcing, MemoryNetwork, Store, MemoryHost, MemoryHost], Awaitable[None]]
) -> None:
    """Runs `script` with an Announcing at the first of two hosts that are not connected yet."""

    async def main() -> None:
        network, store = MemoryNetwork(), open_store(tmp_path / "home")
        ada, bob = (network.host(Identity(name * 32).peer_id) for name in (b"a", b"b"))
        announcing = Announcing(ada.directory, store.blobs)
        async with trio.open_nursery() as nursery:
            for service in (ada.run, bob.run, announcing.run):
                await nursery.start(service)
            await script(announcing, network, store, ada, bob)
            nursery.cancel_scope.cancel()
        store.close()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_announcement_is_tried_again_until_somebody_is_connected(tmp_path: Path) -> None:
    async def script(
        announcing: Announcing, network: MemoryNetwork, store: Store, ada: MemoryHost, bob: MemoryHost
    ) -> None:
        cid = give(store, tmp_path, b"x")
        announcing.add(cid)
        await trio.sleep(RETRY_S / 2)
        await ada.connect(bob.peer_id)
        assert await bob.directory.providers(directory_key(cid)) == ()
        await trio.sleep(RETRY_S)
        assert await bob.directory.providers(directory_key(cid)) == (ada.peer_id,)

    in_virtual_time(tmp_path, script)


def test_what_is_held_is_announced_again_and_what_is_gone_is_not(tmp_path: Path) -> None:
    async def script(
        announcing: Announcing, network: MemoryNetwork, store: Store, ada: MemoryHost, bob: MemoryHost
    ) -> None:
        await ada.connect(bob.peer_id)
        kept, gone = give(store, tmp_path, b"kept"), give(store, tmp_path, b"gone")
        announcing.add(kept)
        announcing.add(gone)
        await trio.sleep(1)
        assert len(network._providers) == 2
        store.blobs.remove(gone)
        network._providers.clear()  # they expired
        await trio.sleep(REPEAT_S)
        assert network._providers == {directory_key(kept): {ada.peer_id}}

    in_virtual_time(tmp_path, script)


def test_the_newest_announcements_are_kept(tmp_path: Path) -> None:
    async def script(
        announcing: Announcing, network: MemoryNetwork, store: Store, ada: MemoryHost, bob: MemoryHost
    ) -> None:
        newest = give(store, tmp_path, b"newest")
        for number in range(MAX_ANNOUNCED):
            announcing.add(cid_of(b"not held %d" % number))
        announcing.add(newest)
        await ada.connect(bob.peer_id)
        await trio.sleep(2 * RETRY_S)
        assert network._providers == {directory_key(newest): {ada.peer_id}}

    in_virtual_time(tmp_path, script)
