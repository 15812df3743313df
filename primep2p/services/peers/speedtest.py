"""How fast this node's network is: measured with a peer, in both directions, and seen in real transfers."""

from collections.abc import Callable
from random import Random

import trio

from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.model.speed import MAX_TEST_BYTES, PIECE_BYTES, Heard, Measure, NotNow, Piece, SpeedMessage
from primep2p.model.views.events import AnyEvent, TransferDone
from primep2p.model.views.node import SpeedView
from primep2p.net.frames import Frames
from primep2p.net.host import Host, Stream
from primep2p.wire.codec import decode, encode

__all__ = ["FRESH_S", "PROTOCOL", "SpeedTest"]

PROTOCOL = "/primep2p/speedtest/1"

DIRECTION_S = 5.0
"""Longest for the bytes of one direction: slower ones are measured by what came in that time."""

TEST_S = 30.0
"""Longest for all of it."""

EVERY_S, EVERY_OF_ONE_S = 15.0, 60.0
"""At most so often it is measured with anybody who asks, and with one peer: 16 MiB each time are about 1 MiB/s."""

FRESH_S = 3600.0
"""What was seen in the last hour still says something."""

LEAST_BYTES = 2**20
"""A smaller transfer is over before it is fast."""

FRAME_BYTES = PIECE_BYTES + 64


class SpeedTest:
    """Verbs may be called at any time. `blame` hears of peers that say what they must not."""

    def __init__(self, host: Host, blame: Callable[[PeerId, str], None], chance: Random) -> None:
        self._host = host
        self._blame = blame
        self._chance = chance
        self._seen: dict[str, list[tuple[float, float]]] = {"up": [], "down": []}
        """When, and how fast."""
        self._served_at: dict[PeerId, float] = {}
        self._tried_at = float("-inf")
        host.handle(PROTOCOL, self._serve)

    # ---- what is known

    @property
    def up_mbps(self) -> float | None:
        """The fastest of the last hour: a transfer is slowed down by its other end too."""
        return self._fastest("up")

    @property
    def down_mbps(self) -> float | None:
        """See `up_mbps`."""
        return self._fastest("down")

    def hear(self, event: AnyEvent) -> None:
        """A real transfer is as good as a test."""
        if isinstance(event, TransferDone) and event.bytes >= LEAST_BYTES and event.seconds > 0:
            self._note("down", _mbps(event.bytes, event.seconds))

    # ---- measuring

    async def refresh(self) -> None:
        """Measure with somebody who is connected, where that was not tried in the last hour."""
        now, peers = trio.current_time(), sorted(self._host.connected)
        if not peers or now - self._tried_at < FRESH_S:
            return
        self._tried_at = now
        try:
            await self.measure(self._chance.choice(peers))
        except (CallError, Unavailable):
            self._tried_at = now - FRESH_S + EVERY_OF_ONE_S  # somebody else, soon

    async def measure(self, peer: PeerId = "") -> SpeedView:
        """With `peer`, or with any that is connected. Raises CallError, Unavailable."""
        peers = sorted(self._host.connected)
        if not peers or (peer and peer not in peers):
            raise CallError(f"{peer} is not connected" if peer else "nobody is connected", hint="see: primep2p peers")
        chosen = peer or self._chance.choice(peers)
        try:
            with trio.fail_after(TEST_S):
                up, down = await self._measure(chosen)
        except trio.TooSlowError as error:
            raise Unavailable(f"{chosen} took longer than {TEST_S:g} s", hint="try another peer") from error
        except PeerError as error:
            self._blame(chosen, error.sentence)
            raise Unavailable(f"{chosen} gave an answer that makes no sense", hint="try another peer") from error
        self._note("up", up)
        self._note("down", down)
        return SpeedView(peer=chosen, up_mbps=round(up, 3), down_mbps=round(down, 3))

    async def _measure(self, peer: PeerId) -> tuple[float, float]:
        stream = await self._host.open_stream(peer, PROTOCOL)
        try:
            frames = Frames(stream, FRAME_BYTES)
            await frames.send(encode(Measure(MAX_TEST_BYTES, MAX_TEST_BYTES)))
            down = await _receive(frames, MAX_TEST_BYTES)
            await _send(frames, MAX_TEST_BYTES)
            match await _next(frames):
                case Heard(bytes=heard, seconds=seconds):
                    return _mbps(heard, seconds), _mbps(*down)
                case _:
                    raise PeerError("it did not say what it heard")
        finally:
            await stream.reset()

    async def _serve(self, stream: Stream) -> None:
        """A question, if it is time for one."""
        peer, frames = stream.peer, Frames(stream, FRAME_BYTES)
        try:
            with trio.move_on_after(TEST_S):
                asked = await _next(frames)
                if not isinstance(asked, Measure):
                    raise PeerError("it asked for something else than a measurement")
                if not self._may_serve(peer):
                    await frames.send(encode(NotNow("busy")))
                    return
                await _send(frames, asked.down)
                await frames.send(encode(Heard(*await _receive(frames, asked.up))))
        except PeerError as error:
            self._blame(peer, error.sentence)
            await stream.reset()
        except Unavailable:
            return

    def _may_serve(self, peer: PeerId) -> bool:
        now = trio.current_time()
        self._served_at = {other: at for other, at in self._served_at.items() if now - at < EVERY_OF_ONE_S}
        if peer in self._served_at or any(now - at < EVERY_S for at in self._served_at.values()):
            return False
        self._served_at[peer] = now
        return True

    def _note(self, direction: str, mbps: float) -> None:
        now = trio.current_time()
        kept = [seen for seen in self._seen[direction] if now - seen[0] < FRESH_S and seen[1] > mbps]
        self._seen[direction] = [*kept, (now, mbps)]  # a slower one before a faster one will never be the fastest

    def _fastest(self, direction: str) -> float | None:
        now = trio.current_time()
        return max((mbps for at, mbps in self._seen[direction] if now - at < FRESH_S), default=None)


async def _send(frames: Frames, bytes_: int) -> None:
    """So many bytes, or as many as go in the time."""
    until, left = trio.current_time() + DIRECTION_S, bytes_
    while True:
        size = min(left, PIECE_BYTES)
        left -= size
        is_last = not left or trio.current_time() >= until
        await frames.send(encode(Piece(bytes(size), is_last)))
        if is_last:
            return


async def _receive(frames: Frames, most_bytes: int) -> tuple[int, float]:
    """What came, and in what time since the first piece, which is not counted: before it the line was idle. Of a single
    piece all there is."""
    began, heard, counted = 0.0, 0, 0
    while True:
        piece = await _next(frames)
        if isinstance(piece, NotNow):
            raise Unavailable("that peer has measured lately", hint="try again in a minute, or another peer")
        if not isinstance(piece, Piece):
            raise PeerError("it sent something else in a measurement")
        heard += len(piece.content)
        if heard > most_bytes:
            raise PeerError("it sent more than was asked for")
        began, counted = (began or trio.current_time(), counted + len(piece.content) if began else 0)
        if piece.last:
            return counted or heard, max(trio.current_time() - began, 0.0)


async def _next(frames: Frames) -> SpeedMessage:
    payload = await frames.receive()
    if payload is None:
        raise Unavailable("it ended the measurement", hint="try another peer")
    message: SpeedMessage = decode(SpeedMessage, payload, limit=FRAME_BYTES)  # type: ignore[arg-type]
    return message


def _mbps(bytes_: int, seconds: float) -> float:
    return 8e-6 * bytes_ / max(seconds, 1e-6)
