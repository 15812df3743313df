from base64 import b64encode
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from primep2p.control.calls.directory import DhtGet, DhtProvide, DhtProviders, DhtPut
from primep2p.control.handlers.table import ANSWERS
from primep2p.model.errors import CallError, Unavailable
from primep2p.net.memory_host import MemoryNetwork
from primep2p.services.peers.pointers import Pointers
from primep2p.store.db import open_store
from tests.nodes.world import inline
from tests.sim.keys import FakeRing

RING = FakeRing()
ONE, OTHER = (RING.make(bytes([seed])).peer_id for seed in (1, 2))


class Node:
    """As much of one as these calls need."""

    def __init__(self, pointers: Pointers) -> None:
        self.pointers = pointers

    async def ask(self, call):
        return await ANSWERS[type(call)](self, call)


async def between_two(home: Path, story: Callable[[Node, Node], Awaitable[None]], *, met: bool = True) -> None:
    """Two nodes, which are connected; the first holds the bytes of a blob at `home`/blob if that is there."""
    network = MemoryNetwork()
    hosts = [network.host(peer) for peer in (ONE, OTHER)]
    with closing(open_store(home / "store", fsync=False)) as store:
        async with trio.open_nursery() as nursery:
            for host in hosts:
                await nursery.start(host.run)
            if met:
                await hosts[0].connect(OTHER)
            await story(*(Node(Pointers(host.peer_id, host.directory, store.blobs, inline)) for host in hosts))
            nursery.cancel_scope.cancel()


async def test_what_one_publishes_the_other_reads_as_that_peers(tmp_path):
    async def story(one: Node, other: Node) -> None:
        published = await one.ask(DhtPut(key="note", value="hello"))
        assert (published.owner, published.key) == (ONE, "note")
        read = await other.ask(DhtGet(key="note", owner=ONE))
        assert (read.text, read.base64) == ("hello", b64encode(b"hello").decode())
        assert (await one.ask(DhtGet(key="note"))).text == "hello"
        with pytest.raises(CallError, match="has published nothing under 'note'"):
            await other.ask(DhtGet(key="note"))
        await one.ask(DhtPut(key="note", value=b64encode(b"\xff\x00").decode(), base64=True))
        read = await other.ask(DhtGet(key="note", owner=ONE))
        assert (read.text, read.base64) == (None, "/wA=")

    await between_two(tmp_path, story)


async def test_who_provides_a_key_is_found(tmp_path):
    async def story(one: Node, other: Node) -> None:
        await one.ask(DhtProvide(key="mirror/x"))
        assert (await other.ask(DhtProviders(key="mirror/x"))).providers == [ONE]
        assert (await one.ask(DhtProviders(key="mirror/x"))).providers == []

    await between_two(tmp_path, story)


async def test_of_a_cid_only_who_holds_the_blob_may_say_so(tmp_path):
    with closing(open_store(tmp_path / "store", fsync=False)) as store:
        (tmp_path / "blob").write_bytes(b"bytes")
        held = store.blobs.add(tmp_path / "blob", durable=False)
    missing = "bafkreicyft4eneypolmjvdmhxv2atpgutpzlnvtsuzqploautvk74m23oa"

    async def story(one: Node, other: Node) -> None:
        await one.ask(DhtProvide(key=held))
        assert (await other.ask(DhtProviders(key=held))).providers == [ONE]
        with pytest.raises(CallError, match="this node does not hold bafkrei"):
            await one.ask(DhtProvide(key=missing))
        assert (await other.ask(DhtProviders(key=missing))).providers == []

    await between_two(tmp_path, story)


@pytest.mark.parametrize(
    "call",
    [
        DhtPut(key="model:digits", value="x"),
        DhtPut(key="models", value="x"),
        DhtProvide(key="run:00"),
        DhtPut(key="a\nb", value="x"),
        DhtProvide(key="ü" * 26),
        DhtGet(key="x", owner="12D3KooWnobody"),
        DhtPut(key="x", value="é" * 2049),
        DhtPut(key="x", value="not base64", base64=True),
    ],
    ids=repr,
)
async def test_what_the_directory_does_not_take_is_refused_with_what_to_do(tmp_path, call):
    async def story(one: Node, other: Node) -> None:
        with pytest.raises(CallError) as refused:
            await one.ask(call)
        assert refused.value.hint

    await between_two(tmp_path, story)


async def test_without_a_peer_there_is_nobody_to_ask(tmp_path):
    async def story(one: Node, other: Node) -> None:
        for call in (DhtGet(key="x"), DhtPut(key="x", value=""), DhtProvide(key="x"), DhtProviders(key="x")):
            with pytest.raises(Unavailable):
                await one.ask(call)

    await between_two(tmp_path, story, met=False)
