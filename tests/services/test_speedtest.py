"""Measuring the network between two peers: bounded in bytes, time and number, on hosts in memory."""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
from trio.testing import MockClock

from primep2p.model.errors import CallError, Unavailable
from primep2p.model.speed import MAX_TEST_BYTES, Measure, Piece
from primep2p.model.views.events import TransferDone
from primep2p.net.frames import Frames
from primep2p.net.memory_host import MemoryHost, MemoryNetwork
from primep2p.services.peers.speedtest import EVERY_OF_ONE_S, FRAME_BYTES, FRESH_S, PROTOCOL, SpeedTest
from primep2p.wire.codec import encode
from tests.wire.samples import identity

ONE, OTHER = identity(1).peer_id, identity(2).peer_id

Story = Callable[[SpeedTest, SpeedTest, MemoryHost], Awaitable[None]]


def two_peers(story: Story) -> list[tuple[str, str]]:
    """Plays a story of two who are connected; whom they blamed."""
    blamed: list[tuple[str, str]] = []

    async def main() -> None:
        network = MemoryNetwork(0, latency_s=0.01)
        hosts = [network.host(ONE), network.host(OTHER)]
        tests = [SpeedTest(host, lambda peer, reason: blamed.append((peer, reason)), Random(0)) for host in hosts]
        async with trio.open_nursery() as nursery:
            for host in hosts:
                await nursery.start(host.run)
            await hosts[0].connect(OTHER)
            await story(tests[0], tests[1], hosts[0])
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return blamed


def test_both_directions_are_measured_and_remembered_for_an_hour() -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        assert (asker.up_mbps, asker.down_mbps) == (None, None)
        found = await asker.measure(OTHER)
        assert found.peer == OTHER
        assert found.up_mbps > 0
        assert found.down_mbps > 0
        assert asker.down_mbps == pytest.approx(found.down_mbps, rel=1e-2)
        assert (answerer.up_mbps, answerer.down_mbps) == (None, None), "what an asker says is its own affair"
        await trio.sleep(FRESH_S)
        assert (asker.up_mbps, asker.down_mbps) == (None, None)

    assert two_peers(story) == []


def test_a_peer_answers_once_a_minute() -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        await asker.measure()
        with pytest.raises(Unavailable, match="lately"):
            await asker.measure()
        await trio.sleep(EVERY_OF_ONE_S)
        await asker.measure()

    assert two_peers(story) == []


def test_there_must_be_somebody_to_measure_with() -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        with pytest.raises(CallError, match="is not connected"):
            await asker.measure(identity(3).peer_id)
        await host.disconnect(OTHER)
        with pytest.raises(CallError, match="nobody is connected"):
            await asker.measure()
        await asker.refresh()

    two_peers(story)


def test_it_is_measured_by_itself_once_an_hour() -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        await asker.refresh()
        known = asker.up_mbps
        assert known is not None
        await asker.refresh()
        assert asker.up_mbps == known

    two_peers(story)


def test_real_transfers_count_if_they_are_large() -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        asker.hear(TransferDone(cid="b", bytes=1000, providers=[], seconds=0.001))
        assert asker.down_mbps is None
        asker.hear(TransferDone(cid="b", bytes=2 * 10**6, providers=[], seconds=4.0))
        asker.hear(TransferDone(cid="b", bytes=2 * 10**6, providers=[], seconds=1.0))
        asker.hear(TransferDone(cid="b", bytes=2 * 10**6, providers=[], seconds=2.0))
        assert asker.down_mbps == pytest.approx(16.0)

    two_peers(story)


async def _all(frames: Frames) -> None:
    """To the end, whichever."""
    try:
        while await frames.receive() is not None:
            continue
    except Unavailable:
        return


@pytest.mark.parametrize(
    "said",
    [
        [Piece(b"", True)],
        [Measure(1, 1), Piece(bytes(2), True)],
        [Measure(1, MAX_TEST_BYTES), Measure(1, 1)],
    ],
    ids=["pieces before a question", "more than it said", "another question"],
)
def test_who_says_what_it_must_not_is_blamed_and_let_go(said: list[object]) -> None:
    async def story(asker: SpeedTest, answerer: SpeedTest, host: MemoryHost) -> None:
        stream = await host.open_stream(OTHER, PROTOCOL)
        frames = Frames(stream, FRAME_BYTES)
        for each in said:
            await frames.send(encode(each))
        with trio.move_on_after(5):
            await _all(frames)

    assert [peer for peer, _ in two_peers(story)] == [ONE]
