"""Giving blobs to peers: answers questions on streams that peers open, as long as they read the answers."""

from collections.abc import Callable

import trio

from primep2p.model.errors import PeerError, StoreError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.model.records import Manifest
from primep2p.model.transfer import Chunk, Has, Refused, Want
from primep2p.net.frames import Frames
from primep2p.net.host import Stream
from primep2p.services.peers.lanes import MAX_LANES
from primep2p.store.seam import BlobStore
from primep2p.tasks import Offload
from primep2p.wire.codec import decode, encode
from primep2p.wire.manifest import MAX_MANIFEST_BYTES

__all__ = ["MAX_ANSWER_BYTES", "MAX_STREAMS", "SEND_S", "Serving"]

MAX_ANSWER_BYTES = MAX_MANIFEST_BYTES + 64
"""The largest frame of an answer: the manifest of 64 GiB. A chunk takes half of it."""

MAX_QUESTION_BYTES = 256

MAX_STREAMS = 2 * MAX_LANES
"""Streams that one peer may have open here."""

SEND_S = 60.0
"""A peer that takes longer to read one chunk only occupies memory."""


class Serving:
    """The serving side of the blob protocol. `blame` hears of peers whose questions make no sense."""

    def __init__(self, blobs: BlobStore, *, blame: Callable[[PeerId, str], None], offload: Offload) -> None:
        self._blobs = blobs
        self._blame = blame
        self._offload = offload
        self._open_streams: dict[PeerId, int] = {}

    async def serve(self, stream: Stream) -> None:
        """Answers a peer's questions on one stream, one after the other."""
        self._open_streams[stream.peer] = self._open_streams.get(stream.peer, 0) + 1
        try:
            await self._converse(stream, is_one_too_many=self._open_streams[stream.peer] > MAX_STREAMS)
        except (Unavailable, trio.TooSlowError):
            await stream.reset()
        except PeerError as error:
            await stream.reset()
            self._blame(stream.peer, error.sentence)
        finally:
            self._open_streams[stream.peer] -= 1
            if not self._open_streams[stream.peer]:
                del self._open_streams[stream.peer]

    async def _converse(self, stream: Stream, *, is_one_too_many: bool) -> None:
        questions, answers = Frames(stream, MAX_QUESTION_BYTES), Frames(stream, MAX_ANSWER_BYTES)
        if is_one_too_many:
            with trio.fail_after(SEND_S):
                await answers.send(encode(Refused("busy")))
            return
        while (raw := await questions.receive()) is not None:
            want = decode(Want, raw, limit=MAX_QUESTION_BYTES)
            with trio.fail_after(SEND_S) as scope:
                await self._answer(answers, want, scope)

    async def _answer(self, answers: Frames, want: Want, scope: trio.CancelScope) -> None:
        """The manifest and the first chunk go out in one write. The deadline moves with every chunk."""
        waiting: list[bytes] = []
        try:
            raw = await self._offload(self._blobs.manifest, want.cid)
            if raw is None:
                await answers.send(encode(Refused("absent")))
                return
            if want.manifest:
                waiting.append(encode(Has(raw)))
            count = len(decode(Manifest, raw).chunks)
            if want.first >= max(count, 1):
                raise PeerError(f"asked for chunk {want.first} of a blob of {count} chunks")
            for index in range(want.first, min(want.first + want.count, count)):
                content = await self._offload(self._blobs.chunk, want.cid, index)
                await answers.send_many([*waiting, encode(Chunk(index, content))])
                waiting.clear()
                scope.deadline = trio.current_time() + SEND_S
        except StoreError:
            if self._blobs.has(want.cid):
                raise
            waiting.append(encode(Refused("absent")))  # found damaged, or removed meanwhile
        await answers.send_many(waiting)
