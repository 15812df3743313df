"""The overlay: one long-lived stream each way to every member, over `/primep2p/votes/1`.

Messages go out in order and in batches; what cannot be sent now is dropped, since digests repair. Connections to
members are sought again when they are lost.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import trio

from primep2p.core.effects import Connected, Event, Lost, Received
from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.ids import PeerId, RunId
from primep2p.model.messages import OverlayMessage
from primep2p.net.frames import Frames
from primep2p.net.host import Host, PeerConnected, Stream
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import MAX_RECORD_BYTES, decode, encode

__all__ = ["PROTOCOL", "Inbox", "Overlay"]

PROTOCOL = "/primep2p/votes/1"

MAX_FRAME_BYTES = MAX_RECORD_BYTES + 2**20
"""A proposal with its header and the largest bundle."""

OUTBOX = 256
"""Messages waiting for one peer: several rounds' worth; a peer slower than that is repaired by digests."""

BATCH = 32
"""Messages written to a stream at once."""

MAX_ADDRESSES = 16
"""Of one peer: what a Join has room for."""

MAX_KNOWN = 1024
"""Peers whose addresses are kept in mind: far more than there are members, and an end to what joins can fill."""

MAX_CONVERSATIONS = 4
"""Streams that one peer may have open here: one, and those that it lost and this node does not know of yet."""
SEND_S = 20.0
"""No batch of small messages takes so long over a link that is any good; a stuck stream is opened anew."""

KEPT_CONNECTIONS = 96
"""Connections that nobody needs any more are kept while there are no more than so many in all: a large run draws other
members each round, and may draw the same again."""

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
POLITE_S = 1.0
"""Of two members the one with the smaller id dials at once, the other after so long: else both would dial at once."""

Inbox = trio.MemorySendChannel[Event]


class Overlay:
    """Messages of all runs, to and from peers. `blame(peer, reason)` hears of broken rules."""

    def __init__(
        self, host: Host, blame: Callable[[PeerId, str], None], remember: Callable[[PeerId, tuple[str, ...]], None]
    ) -> None:
        self._host = host
        self._blame = blame
        self._remember = remember
        self._conversations: dict[PeerId, set[Stream]] = {}
        self._inboxes: dict[RunId, Inbox] = {}
        self._outboxes: dict[PeerId, trio.MemorySendChannel[bytes]] = {}
        self._wanted: dict[RunId, frozenset[PeerId]] = {}
        self._sought: set[PeerId] = set()
        self._idle: dict[PeerId, None] = {}
        """Peers that were wanted and are not any more, the longest first."""
        self._known: dict[PeerId, tuple[str, ...]] = {}
        self._lost: dict[PeerId, trio.Event] = {}
        self._nursery: trio.Nursery | None = None
        host.handle(PROTOCOL, self._listen)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery, self._host.peer_events() as events:
            self._nursery = nursery
            task_status.started()
            async for event in events:
                if isinstance(event, PeerConnected):
                    self._outbox(event.peer)
                    await self._tell(Connected(event.peer))
                else:
                    self._drop(event.peer)
                    await self._tell(Lost(event.peer))

    # ---- verbs

    async def attach(self, run: RunId, inbox: Inbox) -> None:
        """Events of `run` go to `inbox` from now on, and who is connected already."""
        self._inboxes[run] = inbox
        for peer in self._host.connected:
            await inbox.send(Connected(peer))

    def detach(self, run: RunId) -> None:
        """Nothing more goes there, and nobody is wanted for the sake of `run`; never waits."""
        self._inboxes.pop(run, None)
        self.want(run, ())

    def send(self, peers: Iterable[PeerId], message: OverlayMessage) -> None:
        """To each peer that is connected; never waits."""
        payload = encode(message)
        for peer in peers:
            if peer in self._host.connected and peer != self._host.peer_id:
                try:
                    self._outbox(peer).send_nowait(payload)
                except (trio.WouldBlock, trio.BrokenResourceError):
                    continue  # digests repair; or this node is stopping, and nothing leaves it any more

    def want(
        self, run: RunId, peers: Iterable[PeerId], addresses: Mapping[PeerId, tuple[str, ...]] = MappingProxyType({})
    ) -> None:
        """Stay connected to these peers for the sake of `run`, and no longer to those of before; addresses are hints,
        added to those known."""
        before = self._wanted.get(run, frozenset())
        self._wanted[run] = frozenset(peers) - {self._host.peer_id}
        self.know(addresses)
        self._note_idle(before)
        for peer in self._wanted[run] - self._sought:
            if self._nursery is not None:
                self._sought.add(peer)
                self._nursery.start_soon(self._stay_connected, peer)

    def know(self, addresses: Mapping[PeerId, tuple[str, ...]]) -> None:
        """Where peers were heard of, newest first, for when they are wanted."""
        for peer, heard in addresses.items():
            before = self._known.pop(peer, ())
            now = tuple(dict.fromkeys((*heard, *before)))[:MAX_ADDRESSES]
            self._known[peer] = now
            if now != before and self._is_wanted(peer):
                self._remember(peer, now)
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def end_conversation(self, peer: PeerId) -> None:
        """What `peer` is sending is of no use: its streams are reset, soon. It may open others."""
        for stream in self._conversations.pop(peer, ()):
            if self._nursery is not None:
                self._nursery.start_soon(stream.reset)

    def addresses_of(self, peer: PeerId) -> tuple[str, ...]:
        """Where a peer was heard of."""
        return self._known.get(peer, ())

    # ---- in

    async def _listen(self, stream: Stream) -> None:
        frames = Frames(stream, MAX_FRAME_BYTES)
        mine = self._conversations.setdefault(stream.peer, set())
        if len(mine) >= MAX_CONVERSATIONS:
            await stream.reset()
            return
        mine.add(stream)
        try:
            while (payload := await frames.receive()) is not None:
                message: OverlayMessage = decode(OverlayMessage, payload, limit=MAX_FRAME_BYTES)  # type: ignore[arg-type]
                inbox = self._inboxes.get(message.run)
                if inbox is not None:
                    await inbox.send(Received(stream.peer, message))
        except PeerError as error:
            self._blame(stream.peer, error.sentence)
            await stream.reset()
        except (Unavailable, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            mine.discard(stream)
            if not mine and self._conversations.get(stream.peer) is mine:
                del self._conversations[stream.peer]

    async def _tell(self, event: Event) -> None:
        for inbox in list(self._inboxes.values()):
            try:
                await inbox.send(event)
            except trio.BrokenResourceError:
                continue

    # ---- out

    def _outbox(self, peer: PeerId) -> trio.MemorySendChannel[bytes]:
        outbox = self._outboxes.get(peer)
        if outbox is None:
            outbox, receive = trio.open_memory_channel[bytes](OUTBOX)
            self._outboxes[peer] = outbox
            if self._nursery is not None:
                self._nursery.start_soon(self._deliver, peer, receive)
        return outbox

    def _drop(self, peer: PeerId) -> None:
        if (outbox := self._outboxes.pop(peer, None)) is not None:
            outbox.close()
        self._lost.pop(peer, trio.Event()).set()

    async def _deliver(self, peer: PeerId, outbox: trio.MemoryReceiveChannel[bytes]) -> None:
        """Batches in order over one stream, which is opened again when it breaks."""
        frames: Frames | None = None
        stream: Stream | None = None
        try:
            async for first in outbox:
                batch = [first]
                while len(batch) < BATCH:
                    try:
                        batch.append(outbox.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                try:
                    if frames is None:
                        stream = await self._host.open_stream(peer, PROTOCOL)
                        frames = Frames(stream, MAX_FRAME_BYTES)
                    with trio.fail_after(SEND_S):
                        await frames.send_many(batch)
                except (Unavailable, trio.TooSlowError):
                    if stream is not None:
                        await stream.reset()
                    frames = stream = None
        finally:
            outbox.close()
            if stream is not None:
                await stream.reset()

    # ---- staying connected

    async def _stay_connected(self, peer: PeerId) -> None:
        """For as long as a run wants it."""
        retry_s = FIRST_RETRY_S
        try:
            while self._is_wanted(peer):
                if peer in self._host.connected:
                    retry_s = FIRST_RETRY_S
                    await self._lost.setdefault(peer, trio.Event()).wait()
                    continue
                if self._host.peer_id > peer and retry_s == FIRST_RETRY_S:
                    await trio.sleep(POLITE_S)
                try:
                    await self._host.connect(peer, self._known.get(peer, ()))
                except (Unavailable, PeerError):
                    await trio.sleep(retry_s)
                    retry_s = min(2 * retry_s, LAST_RETRY_S)
                    await self._look_up(peer)
        finally:
            self._sought.discard(peer)

    def _note_idle(self, before: frozenset[PeerId]) -> None:
        """Let go of connections that are too many, those that nobody has needed for longest first."""
        self._idle |= dict.fromkeys(peer for peer in sorted(before) if not self._is_wanted(peer))
        connected = self._host.connected
        self._idle = {peer: None for peer in self._idle if peer in connected and not self._is_wanted(peer)}
        for peer in list(self._idle)[: max(0, len(connected) - KEPT_CONNECTIONS)]:
            del self._idle[peer]
            if self._nursery is not None:
                self._nursery.start_soon(self._host.disconnect, peer)

    def _is_wanted(self, peer: PeerId) -> bool:
        return any(peer in wanted for wanted in self._wanted.values())

    async def _look_up(self, peer: PeerId) -> None:
        try:
            await self._host.directory.find_peer(peer)
        except (Unavailable, PeerError):
            return
