"""Frames survive any cutting of the bytes, and no length that a peer claims costs memory."""

import struct
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from primep2p.keys import Identity
from primep2p.model.errors import PeerError, Unavailable
from primep2p.net.frames import Frames
from primep2p.net.memory_host import MemoryNetwork

PEER = Identity(b"p" * 32).peer_id
LIMIT = 1000


class Pipe:
    """A stream whose reader gets the bytes in the pieces asked for, and whose writer's bytes are kept."""

    def __init__(self, incoming: bytes = b"", cuts: tuple[int, ...] = (), *, is_whole: bool = True) -> None:
        self.written: list[bytes] = []
        self._incoming = incoming
        self._cuts = list(cuts)
        self._is_whole = is_whole

    @property
    def peer(self) -> str:
        return PEER

    async def read(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._incoming and not self._is_whole:
            raise Unavailable("lost")
        size = min(max_bytes, self._cuts.pop(0) if self._cuts else max_bytes)
        piece, self._incoming = self._incoming[:size], self._incoming[size:]
        return piece

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.written.append(data)

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


def receive_all(pipe: Pipe, limit: int = LIMIT) -> list[bytes]:
    async def main() -> list[bytes]:
        frames = Frames(pipe, limit)
        got: list[bytes] = []
        while (payload := await frames.receive()) is not None:
            got.append(payload)
        assert await frames.receive() is None, "the end stays the end"
        return got

    return trio.run(main)


def written(payloads: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


payloads_of_any_kind = st.lists(st.binary(max_size=LIMIT), max_size=8)


@given(payloads_of_any_kind, st.lists(st.integers(1, 50), max_size=100))
def test_frames_arrive_whole_however_the_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    assert receive_all(Pipe(written(payloads), tuple(cuts))) == payloads


@given(payloads_of_any_kind)
def test_what_is_sent_is_what_is_received(payloads: list[bytes]) -> None:
    async def send(pipe: Pipe) -> None:
        frames = Frames(pipe, LIMIT)
        for payload in payloads:
            await frames.send(payload)
        await frames.send_many(payloads)

    pipe = Pipe()
    trio.run(send, pipe)
    assert receive_all(Pipe(b"".join(pipe.written))) == payloads * 2


@given(payloads_of_any_kind.filter(bool), st.data())
def test_an_end_within_a_frame_is_a_loss(payloads: list[bytes], data: st.DataObject) -> None:
    raw = written(payloads)
    last = len(raw) - len(payloads[-1]) - 4
    cut = data.draw(st.integers(last + 1, len(raw) - 1))
    with pytest.raises(Unavailable):
        receive_all(Pipe(raw[:cut]))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_lost_but_never_more_than_was_sent(raw: bytes) -> None:
    try:
        got = receive_all(Pipe(raw))
    except (PeerError, Unavailable):
        return
    assert written(got) == raw


def test_a_length_beyond_the_limit_is_refused_before_anything_of_it_is_read() -> None:
    with pytest.raises(PeerError, match="4294967295"):
        receive_all(Pipe(b"\xff\xff\xff\xff", is_whole=False))
    with pytest.raises(PeerError):
        receive_all(Pipe(struct.pack(">I", LIMIT + 1), is_whole=False))
    assert receive_all(Pipe(written([bytes(LIMIT)]))) == [bytes(LIMIT)]


def test_header_and_payload_go_in_one_write() -> None:
    async def main() -> None:
        pipe = Pipe()
        frames = Frames(pipe, LIMIT)
        await frames.send(b"abc")
        await frames.send_many([b"d", b"", b"ef"])
        await frames.send_many([])
        assert pipe.written == [written([b"abc"]), written([b"d", b"", b"ef"])]
        with pytest.raises(ValueError, match="1001"):
            await frames.send(bytes(LIMIT + 1))
        with pytest.raises(ValueError, match="1001"):
            await frames.send_many([b"x", bytes(LIMIT + 1)])
        assert len(pipe.written) == 2

    trio.run(main)


def test_many_senders_do_not_mix_their_frames() -> None:
    payloads = [bytes([sender]) * 50_000 for sender in range(8)]

    async def main() -> None:
        network = MemoryNetwork()
        ada, bob = network.host(PEER), network.host(Identity(b"q" * 32).peer_id)
        async with trio.open_nursery() as nursery:
            await nursery.start(ada.run)
            await nursery.start(bob.run)
            got: list[bytes] = []
            bob.handle("/test/1", collect(got))
            await ada.connect(bob.peer_id)
            frames = Frames(stream := await ada.open_stream(bob.peer_id, "/test/1"), 2**20)
            async with trio.open_nursery() as senders:
                for payload in payloads:
                    senders.start_soon(frames.send_many, [payload, payload])
            assert await stream.read(4) == b"done"
            assert sorted(got) == sorted(payloads * 2)
            assert all(got[at] == got[at + 1] for at in range(0, len(got), 2)), "a batch stays together"
            nursery.cancel_scope.cancel()

    def collect(got: list[bytes]) -> Callable[..., object]:
        async def handle(stream: object) -> None:
            frames = Frames(stream, 2**20)
            while len(got) < 2 * len(payloads):
                got.append(await frames.receive() or b"")
            await stream.write(b"done")

        return handle

    trio.run(main)
