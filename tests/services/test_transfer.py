import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from primep2p.keys import Identity
from primep2p.model.errors import StoreError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.model.transfer import Chunk, Has, Refused, Want
from primep2p.net.frames import Frames
from primep2p.net.host import Stream
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from primep2p.services.blobs.announcing import directory_key
from primep2p.services.blobs.serving import MAX_ANSWER_BYTES, MAX_STREAMS
from primep2p.services.blobs.transfer import PROTOCOL, Transfer
from primep2p.store.db import Store, open_store
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import decode, encode
from primep2p.wire.manifest import CHUNK_BYTES, manifest_of

MIB = CHUNK_BYTES
ANY = 2**40
SMALL, LARGE = os.urandom(1000), os.urandom(40 * MIB + 17)


def cut(content: bytes) -> list[bytes]:
    return [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]


def cid_for(content: bytes) -> Cid:
    return cid_of(encode(manifest_of(cut(content))))


class Node:
    """A host with a store and a Transfer."""

    def __init__(self, network: MemoryNetwork, name: str, directory: Path, *, stall_s: float) -> None:
        self.host = MemoryHost(network, Identity(name.encode().ljust(32, b".")).peer_id)
        self.peer = self.host.peer_id
        self.directory = directory / name
        self.store: Store = open_store(self.directory)
        self.blobs = self.store.blobs
        self.blamed: list[tuple[PeerId, str]] = []
        self.transfer = Transfer(
            self.host, self.blobs, blame=lambda peer, reason: self.blamed.append((peer, reason)), stall_s=stall_s
        )

    def give(self, content: bytes) -> Cid:
        path = self.directory / "given"
        path.write_bytes(content)
        return self.blobs.add(path, durable=False)

    def content(self, cid: Cid) -> bytes:
        return self.blobs.path(cid).read_bytes()


class World:
    """Nodes on one network, all connected."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.network = MemoryNetwork()
        self.nursery = nursery
        self.directory = directory
        self.nodes: list[Node] = []

    async def add(
        self, name: str, *, stall_s: float = 30.0, speaks: Callable[[Stream], Awaitable[None]] | None = None
    ) -> Node:
        node = Node(self.network, name, self.directory, stall_s=stall_s)
        await self.nursery.start(node.host.run)
        if speaks is None:
            await self.nursery.start(node.transfer.run)
        else:
            node.host.handle(PROTOCOL, speaks)
        for other in self.nodes:
            await node.host.connect(other.peer)
        self.nodes.append(node)
        return node


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        made = World(tmp_path, nursery)
        yield made
        nursery.cancel_scope.cancel()
    for node in made.nodes:
        node.store.close()


def liar(answer: Callable[[Want], list[bytes]]) -> Callable[[Stream], Awaitable[None]]:
    """A peer that answers each question with the frames that `answer` makes up."""

    async def speak(stream: Stream) -> None:
        frames = Frames(stream, MAX_ANSWER_BYTES)
        while (raw := await frames.receive()) is not None:
            await frames.send_many(answer(decode(Want, raw)))

    return speak


def honest(content: bytes) -> Callable[[Want], list[bytes]]:
    def answer(want: Want) -> list[bytes]:
        chunks = cut(content)
        frames = [encode(Has(encode(manifest_of(chunks))))] if want.manifest else []
        wanted = range(want.first, min(want.first + want.count, len(chunks)))
        return frames + [encode(Chunk(index, chunks[index])) for index in wanted]

    return answer


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("durable", [True, False])
async def test_a_blob_comes_from_a_hinted_provider(tmp_path: Path, content: bytes, durable: bool) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        cid = ada.give(content)
        await bob.transfer.fetch(cid, [ada.peer], max_bytes=len(content), durable=durable)
        assert bob.content(cid) == content
        assert bob.blamed == ada.blamed == []
        await bob.transfer.fetch(cid, [], max_bytes=ANY, durable=True)  # is there; now for good


async def test_a_small_blob_costs_one_round_trip(tmp_path: Path) -> None:
    asked: list[Want] = []
    answer = honest(SMALL)

    async with world(tmp_path) as w:
        ada = await w.add("ada", speaks=liar(lambda want: asked.append(want) or answer(want)))  # type: ignore[func-returns-value]
        bob = await w.add("bob")
        await bob.transfer.fetch(cid_for(SMALL), [ada.peer], max_bytes=ANY)
        assert len(asked) == 1


async def test_streams_are_used_again(tmp_path: Path) -> None:
    opened = 0

    async def speak(stream: Stream) -> None:
        nonlocal opened
        opened += 1
        await liar(lambda want: next(honest(c)(want) for c in contents if cid_for(c) == want.cid))(stream)

    contents = [b"%d" % number for number in range(20)]
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada", speaks=speak), await w.add("bob")
        for content in contents:
            await bob.transfer.fetch(cid_for(content), [ada.peer], max_bytes=ANY)
        assert opened == 1
        async with trio.open_nursery() as nursery:
            for content in contents:
                bob.blobs.remove(cid_for(content))
                nursery.start_soon(lambda c=content: bob.transfer.fetch(cid_for(c), [ada.peer], max_bytes=ANY))
        assert opened <= 1 + 20


async def test_an_idle_stream_that_died_is_replaced(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        first, second = ada.give(b"first"), ada.give(b"second")
        await bob.transfer.fetch(first, [ada.peer], max_bytes=ANY)
        w.network.cut(ada.peer)
        await bob.transfer.fetch(second, [ada.peer], max_bytes=ANY)
        assert bob.content(second) == b"second"


async def test_many_fetches_at_once_share_a_few_streams(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        cids = [ada.give(os.urandom(1000)) for _ in range(50)]
        async with trio.open_nursery() as nursery:
            for cid in cids:
                nursery.start_soon(lambda c=cid: bob.transfer.fetch(c, [ada.peer], max_bytes=ANY))
        assert all(bob.blobs.has(cid) for cid in cids)


async def test_a_provider_that_is_not_hinted_is_found_in_the_directory(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob, eve = await w.add("ada"), await w.add("bob"), await w.add("eve")
        cid = ada.give(SMALL)
        await ada.transfer.provide(cid)
        while not await bob.host.directory.providers(directory_key(cid)):
            pass
        await bob.transfer.fetch(cid, [], max_bytes=ANY)
        bob.blobs.remove(cid)
        await bob.transfer.fetch(cid, [eve.peer, bob.peer], max_bytes=ANY)
        assert bob.content(cid) == SMALL
        assert bob.blamed == []  # not to hold a blob is no fault


async def test_what_nobody_holds_is_unavailable(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        stranger = Identity(b"s" * 32).peer_id
        for hints in ([], [ada.peer], [stranger], [stranger, ada.peer]):
            with pytest.raises(Unavailable):
                await bob.transfer.fetch(cid_for(SMALL), hints, max_bytes=ANY)
        assert bob.blamed == []


async def test_nothing_is_fetched_before_run_or_after_it(tmp_path: Path) -> None:
    node = Node(MemoryNetwork(), "ada", tmp_path, stall_s=1)
    with pytest.raises(Unavailable):
        await node.transfer.fetch(cid_for(SMALL), [], max_bytes=ANY)


async def test_stopping_ends_fetches_under_way(tmp_path: Path) -> None:
    asked = trio.Event()

    async def silent(stream: Stream) -> None:
        await stream.read(1)
        asked.set()
        await trio.sleep_forever()

    async with world(tmp_path) as w:
        ada = await w.add("ada", speaks=silent)
        bob = await w.add("bob", speaks=silent)
        async with trio.open_nursery() as nursery, trio.open_nursery() as service:
            await service.start(bob.transfer.run)

            async def wait() -> None:
                with pytest.raises(Unavailable, match="stopping"):
                    await bob.transfer.fetch(cid_for(SMALL), [ada.peer], max_bytes=ANY)

            nursery.start_soon(wait)
            await asked.wait()
            service.cancel_scope.cancel()


async def test_a_larger_blob_than_allowed_is_not_fetched(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        cid = ada.give(SMALL)
        with pytest.raises(Unavailable, match="1000 bytes"):
            await bob.transfer.fetch(cid, [ada.peer], max_bytes=999)
        assert not bob.blobs.has(cid)
        assert bob.blamed == []
        errors: list[Unavailable] = []

        async def modest() -> None:
            try:
                await bob.transfer.fetch(cid, [ada.peer], max_bytes=999)
            except Unavailable as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:  # the modest one must not spoil it for the other
            nursery.start_soon(modest)
            nursery.start_soon(lambda: bob.transfer.fetch(cid, [ada.peer], max_bytes=1000))
        assert len(errors) == 1
        assert bob.blobs.has(cid)


MANIFEST = encode(manifest_of(cut(SMALL)))

LIES: dict[str, Callable[[Want], list[bytes]]] = {
    "a wrong chunk": lambda want: [encode(Has(MANIFEST)), encode(Chunk(0, bytes(1000)))],
    "a short chunk": lambda want: [encode(Has(MANIFEST)), encode(Chunk(0, SMALL[:-1]))],
    "another index": lambda want: [encode(Has(MANIFEST)), encode(Chunk(3, SMALL))],
    "another manifest": lambda want: [encode(Has(encode(manifest_of([b"x"])))), encode(Chunk(0, b"x"))],
    "no manifest": lambda want: [encode(Chunk(0, SMALL))],
    "two manifests": lambda want: [encode(Has(MANIFEST))] * 2,
    "garbage": lambda want: [b"\xc1\xff garbage"],
    "nothing": lambda want: [b""],
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_provider_that_serves_nonsense_is_blamed_and_another_one_asked(tmp_path: Path, lie: str) -> None:
    async with world(tmp_path) as w:
        eve, ada, bob = await w.add("eve", speaks=liar(LIES[lie])), await w.add("ada"), await w.add("bob")
        cid = ada.give(SMALL)
        await bob.transfer.fetch(cid, [eve.peer, ada.peer], max_bytes=ANY)
        assert bob.content(cid) == SMALL
        assert [peer for peer, _ in bob.blamed] == [eve.peer]
        bob.blobs.remove(cid)
        with pytest.raises(Unavailable):
            await bob.transfer.fetch(cid, [eve.peer], max_bytes=ANY)


async def test_an_oversize_frame_is_refused_before_room_is_made(tmp_path: Path) -> None:
    async def speak(stream: Stream) -> None:
        await stream.read(1)
        await stream.write(b"\xff\xff\xff\xff")
        await trio.sleep_forever()

    async with world(tmp_path) as w:
        eve, bob = await w.add("eve", speaks=speak), await w.add("bob")
        with pytest.raises(Unavailable):
            await bob.transfer.fetch(cid_for(SMALL), [eve.peer], max_bytes=ANY)
        assert [peer for peer, _ in bob.blamed] == [eve.peer]


async def test_chunks_come_from_several_providers(tmp_path: Path) -> None:
    asked: dict[str, int] = {"ada": 0, "eve": 0}

    def counting(name: str) -> Callable[[Want], list[bytes]]:
        def answer(want: Want) -> list[bytes]:
            asked[name] += want.count
            return honest(LARGE)(want)

        return answer

    async with world(tmp_path) as w:
        ada = await w.add("ada", speaks=liar(counting("ada")))
        eve = await w.add("eve", speaks=liar(counting("eve")))
        bob = await w.add("bob")
        await bob.transfer.fetch(cid_for(LARGE), [ada.peer, eve.peer], max_bytes=ANY)
        assert bob.content(cid_for(LARGE)) == LARGE
        assert min(asked.values()) >= 8
        assert sum(asked.values()) <= 41 + 16


async def test_a_silent_provider_is_passed_by(tmp_path: Path) -> None:
    async def silent(stream: Stream) -> None:
        await trio.sleep_forever()

    async with world(tmp_path) as w:
        eve, ada, bob = await w.add("eve", speaks=silent), await w.add("ada"), await w.add("bob", stall_s=2)
        cid = ada.give(SMALL)
        await bob.transfer.fetch(cid, [eve.peer, ada.peer], max_bytes=ANY)
        assert bob.content(cid) == SMALL
        bob.blobs.remove(cid)
        with pytest.raises(Unavailable, match="no progress"):
            await bob.transfer.fetch(cid, [eve.peer], max_bytes=ANY)
        assert bob.blamed == []


async def test_a_provider_lost_half_way_is_replaced_and_its_chunks_are_kept(tmp_path: Path) -> None:
    asked: list[Want] = []

    async def breaks(stream: Stream) -> None:
        frames = Frames(stream, MAX_ANSWER_BYTES)
        raw = await frames.receive()
        assert raw is not None
        await frames.send_many(honest(LARGE)(decode(Want, raw))[:3])
        await stream.close()

    answer = honest(LARGE)
    async with world(tmp_path) as w:
        eve = await w.add("eve", speaks=breaks)
        ada = await w.add("ada", speaks=liar(lambda want: asked.append(want) or answer(want)))  # type: ignore[func-returns-value]
        bob = await w.add("bob")
        with pytest.raises(Unavailable):
            await bob.transfer.fetch(cid_for(LARGE), [eve.peer], max_bytes=ANY)
        await bob.transfer.fetch(cid_for(LARGE), [ada.peer], max_bytes=ANY)
        assert bob.content(cid_for(LARGE)) == LARGE
        later = [index for want in asked[1:] for index in range(want.first, want.first + want.count)]
        assert sorted(later) == list(range(4, 41))  # chunks 0 to 3 come with the first question


async def test_callers_share_one_fetch(tmp_path: Path) -> None:
    asked: list[Want] = []
    answer = honest(SMALL)
    async with world(tmp_path) as w:
        ada = await w.add("ada", speaks=liar(lambda want: asked.append(want) or answer(want)))  # type: ignore[func-returns-value]
        bob = await w.add("bob")
        async with trio.open_nursery() as nursery:
            for durable in (True, False, True):
                nursery.start_soon(
                    lambda durable=durable: bob.transfer.fetch(
                        cid_for(SMALL), [ada.peer], max_bytes=ANY, durable=durable
                    )
                )
        assert len(asked) == 1
        assert bob.content(cid_for(SMALL)) == SMALL


async def test_a_fetch_goes_on_while_somebody_waits_and_no_longer(tmp_path: Path) -> None:
    asked, answer_now, hung_up = trio.Event(), trio.Event(), trio.Event()

    async def slow(stream: Stream) -> None:
        frames = Frames(stream, MAX_ANSWER_BYTES)
        raw = await frames.receive()
        asked.set()
        await answer_now.wait()
        assert raw is not None
        await frames.send_many(honest(SMALL)(decode(Want, raw)))
        try:
            await frames.receive()
        except Unavailable:
            hung_up.set()

    async with world(tmp_path) as w:
        ada, bob = await w.add("ada", speaks=slow), await w.add("bob")
        scope = trio.CancelScope()

        async def impatient() -> None:
            with scope:
                await bob.transfer.fetch(cid_for(SMALL), [ada.peer], max_bytes=ANY)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            nursery.start_soon(lambda: bob.transfer.fetch(cid_for(SMALL), [ada.peer], max_bytes=ANY))
            await asked.wait()
            scope.cancel()
            answer_now.set()
        assert bob.blobs.has(cid_for(SMALL))

        bob.blobs.remove(cid_for(SMALL))
        w.network.cut(ada.peer)
        await bob.host.connect(ada.peer)
        asked, answer_now, scope = trio.Event(), trio.Event(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            await asked.wait()
            scope.cancel()
        answer_now.set()
        await hung_up.wait()
        assert not bob.blobs.has(cid_for(SMALL))


async def test_a_failing_disk_ends_the_fetch_for_all_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        cid = ada.give(SMALL)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        errors: list[StoreError] = []

        async def fetch() -> None:
            try:
                await bob.transfer.fetch(cid, [ada.peer], max_bytes=ANY)
            except StoreError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            nursery.start_soon(fetch)
        assert len(errors) == 2
        assert bob.blamed == []


async def test_a_damaged_blob_is_not_served_and_is_fetched_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, bob = await w.add("ada"), await w.add("bob")
        cid = ada.give(LARGE)
        path = ada.blobs.path(cid)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(20 * MIB)
            file.write(bytes(100))
        with pytest.raises(Unavailable, match="absent"):
            await bob.transfer.fetch(cid, [ada.peer], max_bytes=ANY)
        assert not ada.blobs.has(cid)
        assert bob.blamed == []
        eve = await w.add("eve")
        eve.give(LARGE)
        await ada.transfer.fetch(cid, [eve.peer], max_bytes=ANY)
        await bob.transfer.fetch(cid, [ada.peer], max_bytes=ANY)
        assert bob.content(cid) == LARGE


@pytest.mark.parametrize(
    "question",
    [
        b"garbage",
        encode(Want(cid_for(SMALL), 1, 1, True)),
        b"\xff" * 300,
        encode(Want(cid_for(SMALL), 0, 17, True)),
    ],
    ids=["no message", "beyond the end", "too long", "too many"],
)
async def test_who_asks_nonsense_is_blamed_and_hung_up_on(tmp_path: Path, question: bytes) -> None:
    async with world(tmp_path) as w:
        ada, eve = await w.add("ada"), await w.add("eve")
        ada.give(SMALL)
        stream = await eve.host.open_stream(ada.peer, PROTOCOL)
        await stream.write(len(question).to_bytes(4, "big") + question)
        with pytest.raises(Unavailable):
            await stream.read(1)
        assert [peer for peer, _ in ada.blamed] == [eve.peer]
        bob = await w.add("bob")
        await bob.transfer.fetch(cid_for(SMALL), [ada.peer], max_bytes=ANY)


async def test_a_peer_that_opens_too_many_streams_is_told_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, eve, bob = await w.add("ada"), await w.add("eve"), await w.add("bob")
        cid = ada.give(SMALL)
        streams = [await eve.host.open_stream(ada.peer, PROTOCOL) for _ in range(MAX_STREAMS)]
        one_too_many = Frames(await eve.host.open_stream(ada.peer, PROTOCOL), MAX_ANSWER_BYTES)
        answer = await one_too_many.receive()
        assert answer is not None
        assert decode(Refused, answer) == Refused("busy")
        assert await one_too_many.receive() is None
        for stream in streams:  # those that were there first go on
            frames = Frames(stream, MAX_ANSWER_BYTES)
            await frames.send(encode(Want(cid, 0, 1, False)))
            assert await frames.receive() == encode(Chunk(0, SMALL))
        await bob.transfer.fetch(cid, [ada.peer], max_bytes=ANY)


def test_the_directory_key_is_short_and_belongs_to_one_blob() -> None:
    keys = {directory_key(cid_for(b"%d" % number)) for number in range(100)}
    assert len(keys) == 100
    assert all(len(key) <= 50 and key.isprintable() for key in keys)
