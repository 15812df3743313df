"""One blob on its way: performs what the machine of core/fetch.py decides."""

import math
from collections.abc import Callable, Iterable
from typing import NoReturn

import trio

from primep2p.core.fetch import (
    Answered,
    Ask,
    Asked,
    Begin,
    Begun,
    Blame,
    Cancel,
    Done,
    Expired,
    Failed,
    Fetch,
    FetchEffect,
    FetchEvent,
    GaveUp,
    GotChunk,
    GotManifest,
    Misbehaved,
    ProviderAdded,
    Search,
    Searched,
    Started,
    Write,
)
from primep2p.model.errors import PeerError, PrimeError, StoreError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.model.transfer import BlobAnswer, Chunk, Has, Refused, Want
from primep2p.net.host import Directory
from primep2p.services.blobs.announcing import directory_key
from primep2p.services.blobs.progress import Progress, Tell
from primep2p.services.blobs.serving import MAX_ANSWER_BYTES
from primep2p.services.peers.lanes import Lane, Lanes
from primep2p.store.seam import BlobStore, Partial
from primep2p.tasks import Offload
from primep2p.wire.codec import decode, encode
from primep2p.wire.manifest import chunk_size

__all__ = ["Fetching"]


class Fetching:
    """Fetches one blob when `run`, for all who `wait`; `on_end` is called once, when it is over."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        lanes: Lanes,
        blobs: BlobStore,
        directory: Directory,
        blame: Callable[[PeerId, str], None],
        tell: Tell,
        offload: Offload,
        on_end: Callable[[], object],
    ) -> None:
        self.durable = False
        """Whether the blob is to stay; may be set until it is whole."""
        self.was_durable = False
        self.error: PrimeError | None = None
        """Why it is not here, once it has ended."""
        self.is_too_large = False
        self._fetch = fetch
        self._lanes = lanes
        self._blobs = blobs
        self._directory = directory
        self._blame = blame
        self._progress = Progress(fetch.cid, tell, trio.current_time())
        self._speaker: PeerId = ""
        """Whose manifest or chunk is handled."""
        self._offload = offload
        self._on_end = on_end
        self._partial: Partial | None = None
        self._begun, self._ended = trio.Event(), trio.Event()
        self._waiting = 0
        self._offered: list[PeerId] = []
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._conversations: dict[PeerId, trio.CancelScope] = {}
        # No room in the channel: a conversation reads one chunk ahead of the disk, and no more.
        self._tell, self._told = trio.open_memory_channel[FetchEvent](0)

    @property
    def cid(self) -> Cid:
        """Which blob."""
        return self._fetch.cid

    def offer(self, providers: Iterable[PeerId]) -> None:
        """Peers who may hold it, the best first."""
        for provider in providers:
            if self._nursery is None:
                self._offered.append(provider)
            else:
                self._nursery.start_soon(self._tell.send, ProviderAdded(provider))

    async def wait(self) -> None:
        """Until it has ended. When the last one to wait is cancelled, so is the fetch; the partial blob stays."""
        self._waiting += 1
        try:
            await self._ended.wait()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._end(Unavailable("nobody waits for it any more"))

    async def run(self) -> None:
        """Until the blob is here, cannot be had, or nobody waits for it."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._drive()
                    except (StoreError, Unavailable) as error:
                        self._end(error)
        finally:
            self._end(Unavailable("this node is stopping"))

    def _end(self, error: PrimeError | None) -> None:
        if self._ended.is_set():
            return
        self.error = error
        if error is not None:
            self._progress.failed(error.sentence)
        self._ended.set()
        self._scope.cancel()
        self._on_end()

    async def _drive(self) -> None:
        for provider in self._offered:
            await self._handle(ProviderAdded(provider))
        await self._handle(Started())
        while not self._ended.is_set():
            deadline_s = self._fetch.deadline_s
            event: FetchEvent = Expired()
            with trio.move_on_at(math.inf if deadline_s is None else deadline_s):
                event = await self._told.receive()
            await self._handle(event)

    async def _handle(self, event: FetchEvent) -> None:
        if isinstance(event, GotManifest | GotChunk):
            self._speaker = event.provider
        for effect in self._fetch.handle(event, trio.current_time()):
            await self._perform(effect)

    async def _perform(self, effect: FetchEffect) -> None:
        match effect:
            case Ask():
                assert self._nursery is not None
                scope = self._conversations[effect.provider] = trio.CancelScope()
                self._nursery.start_soon(self._ask, effect, scope)
            case Cancel(provider):
                self._conversations.pop(provider).cancel()
            case Begin(manifest):
                partial: Partial = await self._offload(self._blobs.begin, self.cid, manifest)
                self._partial = partial
                self._begun.set()
                self._tell_of_begin(partial)
                await self._handle(Begun(partial.missing))
            case Write(index, content):
                assert self._partial is not None
                await self._offload(self._partial.write, index, content)
                self._progress.got(len(content), self._speaker, trio.current_time())
            case Blame(provider, reason):
                self._blame(provider, reason)
            case Search():
                assert self._nursery is not None
                self._nursery.start_soon(self._search)
            case Done():
                await self._finish()
            case GaveUp(reason, is_too_large):
                self.is_too_large = is_too_large
                self._end(Unavailable(f"cannot fetch {self.cid}: {reason}"))

    async def _finish(self) -> None:
        assert self._partial is not None
        partial, durable = self._partial, self.durable
        await self._offload(lambda: partial.finish(durable=durable))
        self.was_durable = durable
        self._progress.done(trio.current_time())
        self._end(None)

    def _tell_of_begin(self, partial: Partial) -> None:
        manifest, missing = partial.manifest, partial.missing
        here = manifest.size_bytes - sum(chunk_size(manifest, index) for index in missing)
        self._progress.begun(manifest.size_bytes, here, self._speaker, trio.current_time())

    async def _search(self) -> None:
        try:
            found = await self._directory.providers(directory_key(self.cid))
        except Unavailable:
            found = ()
        for provider in found:
            await self._tell.send(ProviderAdded(provider))
        await self._tell.send(Searched())

    async def _ask(self, ask: Ask, scope: trio.CancelScope) -> None:
        """One conversation with one provider; its cancellation is the machine's decision and needs no event."""
        with scope:
            try:
                await self._converse(ask)
            except Unavailable as error:
                event: FetchEvent = Failed(ask.provider, error.sentence)
            except PeerError as error:
                event = Misbehaved(ask.provider, error.sentence)
            else:
                event = Answered(ask.provider)
            await self._tell.send(event)

    async def _converse(self, ask: Ask) -> None:
        """On a stream that lay idle, or on a new one where that turns out to be dead."""
        async with self._lanes.lane(ask.provider) as lane:
            first = await self._question(lane, ask)
            if first is not None:
                await self._listen(lane, ask, first)
                return
        async with self._lanes.lane(ask.provider, fresh=True) as lane:
            first = await self._question(lane, ask)
            if first is None:
                raise Unavailable(f"{ask.provider} was lost before it answered")
            await self._listen(lane, ask, first)

    async def _question(self, lane: Lane, ask: Ask) -> BlobAnswer | None:
        """Ask, and hear the first frame of the answer; None where the stream is dead."""
        await self._tell.send(Asked(ask.provider))
        try:
            await lane.frames.send(encode(Want(ask.cid, ask.first, ask.count, ask.manifest)))
            return await _receive(lane)
        except Unavailable:
            return None

    async def _listen(self, lane: Lane, ask: Ask, answer: BlobAnswer) -> None:
        """Pass on an answer as it arrives."""
        pending: BlobAnswer | None = answer
        if ask.manifest:
            if not isinstance(answer, Has):
                _refuse(lane, answer, "a manifest")
            await self._tell.send(GotManifest(ask.provider, answer.manifest))
            await self._begun.wait()  # if this manifest is wrong, this conversation is cancelled here
            pending = None
        chunk_count = len(self._fetch.manifest.chunks) if self._fetch.manifest is not None else 0
        for _ in range(ask.first, min(ask.first + ask.count, chunk_count)):
            answer, pending = pending or await _receive(lane), None
            if not isinstance(answer, Chunk):
                _refuse(lane, answer, "a chunk")
            await self._tell.send(GotChunk(ask.provider, answer.index, answer.content))
        lane.is_clean = True


async def _receive(lane: Lane) -> BlobAnswer:
    raw = await lane.frames.receive()
    if raw is None:
        raise Unavailable(f"{lane.stream.peer} ended the stream")
    answer: BlobAnswer = decode(BlobAnswer, raw, limit=MAX_ANSWER_BYTES)  # type: ignore[arg-type]
    return answer


def _refuse(lane: Lane, answer: BlobAnswer, due: str) -> NoReturn:
    """What an answer that is not the one due means."""
    if not isinstance(answer, Refused):
        raise PeerError(f"a {type(answer).__name__} where {due} was due")
    lane.is_clean = answer.reason == "absent"
    raise Unavailable(f"{lane.stream.peer} refused: {answer.reason}")
