"""Topics over libp2p's gossipsub."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service

from primep2p.keys import PEER_ID_BYTES, public_key_of
from primep2p.model.errors import PeerError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.net.host import MAX_HEARD_BEHIND, Heard, check_payload
from primep2p.net.libp2p_calls import Calls
from primep2p.net.peers import Mailbox

__all__ = ["Gossip"]

T = TypeVar("T")

_GOSSIP_S = 10.0

# Fewer than six neighbours lose messages (three delivered 39 to 82 % among ten idle nodes).
_DEGREE, _DEGREE_LOW, _DEGREE_HIGH = 6, 4, 12
_HEARTBEAT_S = 1  # the library's own 120 s would leave a new member without neighbours for that long

# For a peer whose subscriptions have not come yet; it also keeps them for those that never subscribe.
_MAX_PENDING, _PENDING_S = 8, 10.0

_log = logging.getLogger(__name__)


class _Pubsub(Pubsub):  # type: ignore[misc]
    """The library's pubsub without four faults of its 0.8.1, of which the first lets a peer end the program: what a
    message raises is not caught; two tasks write to one stream at once, so that a message of more than one Yamux frame
    arrives in pieces; a stream that breaks takes with it what its peer has subscribed to; and it dials peers that were
    disconnected on purpose.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._writing: WeakKeyDictionary[Any, trio.Lock] = WeakKeyDictionary()

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception:
            if msg_forwarder == self.my_id:
                raise
            _log.debug("a message from %s made pubsub fail", msg_forwarder, exc_info=True)

    async def continuously_read_stream(self, stream: Any) -> None:
        try:
            await super().continuously_read_stream(stream)
        except Exception:
            _log.debug("a stream from %s made pubsub fail", stream.muxed_conn.peer_id, exc_info=True)
            await stream.reset()

    async def _handle_new_peer(self, peer_id: ID) -> None:
        if self._peer_is_connected(peer_id):
            await super()._handle_new_peer(peer_id)

    async def write_msg(self, stream: Any, rpc_msg: Any) -> Any:
        async with self._writing.setdefault(stream, trio.Lock()):
            return await super().write_msg(stream, rpc_msg)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        topics = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if self._peer_is_connected(peer_id):
            for topic in topics:
                self.peer_topics.setdefault(topic, set()).add(peer_id)

    def forget(self, peer: ID) -> None:
        """`peer` is gone, whatever its connection looks like at this moment."""
        self._handle_dead_peer(peer)
        self._forget_all_subscriptions(peer)


class Gossip:
    """Publish and subscribe: one library subscription a topic, however many readers it has here."""

    def __init__(self, host: Any, own: PeerId, calls: Calls) -> None:
        self._own = own
        self._calls = calls
        self._router = GossipSub(
            protocols=[PROTOCOL_ID_V11],
            degree=_DEGREE,
            degree_low=_DEGREE_LOW,
            degree_high=_DEGREE_HIGH,
            heartbeat_interval=_HEARTBEAT_S,
            adaptive_gossip_enabled=False,  # sets heartbeats of a minute on its own
            spam_protection_enabled=False,  # drops the 11th message a second, whoever made it
            eclipse_protection_enabled=False,  # wants neighbours in three networks; an office has one
            max_pending_messages_per_peer=_MAX_PENDING,
            pending_messages_ttl=_PENDING_S,
        )
        self._pubsub = _Pubsub(host, self._router, strict_signing=True)
        self._readers: dict[str, set[Mailbox[Heard]]] = {}
        self._feeds: dict[str, trio.CancelScope] = {}
        self._changing = trio.Lock()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background_trio_service(self._pubsub), background_trio_service(self._router):
            await self._pubsub.wait_until_ready()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()

    def missed(self, peer: ID) -> None:
        """`peer` is gone: forgotten at once. The library would do it later, and when the peer is back by then it would
        forget what that has just subscribed to."""
        self._pubsub.forget(peer)

    async def publish(self, topic: str, payload: bytes) -> None:
        check_payload(payload)
        if topic not in self._readers:
            raise ValueError(f"publish on {topic!r} without a subscription to it")
        await self._call(lambda: self._pubsub.publish(topic, payload))

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[Heard]]:
        mailbox: Mailbox[Heard] = Mailbox(MAX_HEARD_BEHIND)
        async with self._changing:
            if topic not in self._readers:
                await self._join(topic)
            readers = self._readers[topic]
            readers.add(mailbox)
        try:
            yield mailbox
        finally:
            readers.discard(mailbox)
            with trio.CancelScope(shield=True):
                async with self._changing:
                    if not readers and self._readers.get(topic) is readers:
                        await self._leave(topic)

    async def _join(self, topic: str) -> None:
        """All of it or nothing, also when its caller is cancelled: the library takes half a subscription for one.

        Nothing here waits for a peer: what is to be said to them is put into queues.
        """
        if self._nursery is None:
            raise Unavailable("the host is not running")
        with trio.CancelScope(shield=True):
            try:
                self._pubsub.set_topic_validator(topic, self._is_acceptable, False)
                subscription = await self._call(lambda: self._pubsub.subscribe(topic))
            except Unavailable:
                await self._unsubscribe(topic)
                raise
        if self._nursery is None:
            raise Unavailable("the host has stopped")
        self._readers[topic] = set()
        self._feeds[topic] = scope = trio.CancelScope()
        self._nursery.start_soon(self._feed, topic, subscription, scope)

    async def _leave(self, topic: str) -> None:
        del self._readers[topic]
        self._feeds.pop(topic).cancel()
        await self._unsubscribe(topic)

    async def _unsubscribe(self, topic: str) -> None:
        try:
            await self._call(lambda: self._pubsub.unsubscribe(topic))
        except Unavailable:
            return  # the host is stopping
        self._pubsub.remove_topic_validator(topic)

    async def _call(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Raises Unavailable."""
        try:
            return await self._calls.call(operation, _GOSSIP_S)
        except trio.TooSlowError as error:
            raise Unavailable(f"gossip took longer than {_GOSSIP_S:.0f} s") from error

    async def _feed(self, topic: str, subscription: Any, scope: trio.CancelScope) -> None:
        """Takes messages off the library's queue, which holds 32 and drops the newest."""
        with scope:
            while True:
                try:
                    message = await subscription.get()
                except (trio.EndOfChannel, trio.ClosedResourceError):
                    return
                heard = Heard(topic, ID(message.from_id).to_base58(), message.data)
                if heard.origin == self._own:
                    continue
                for mailbox in self._readers.get(topic, ()):
                    mailbox.put(heard)

    def _is_acceptable(self, _forwarder: Any, message: Any) -> bool:
        """Runs before a message is heard or passed on. Must not raise: that would end the program."""
        if len(message.from_id) != PEER_ID_BYTES:
            return False
        try:
            public_key_of(ID(message.from_id).to_base58())
            check_payload(message.data)
        except (PeerError, ValueError):
            return False
        return True
