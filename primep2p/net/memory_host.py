"""A network in memory behind the same seam: seeded latency, lost gossip, partitions, and no socket.

Works under trio's MockClock. Two runs with one seed draw the same latencies and lose the same messages as long as
what is sent is the same: every pair of hosts has a generator of its own, so that traffic elsewhere does not move it.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from math import ceil
from random import Random

import trio

from primep2p.model.errors import Unavailable
from primep2p.model.ids import PeerId
from primep2p.net.host import (
    MAX_HEARD_BEHIND,
    Directory,
    Handler,
    Heard,
    PeerEvent,
    Stream,
    check_key,
    check_payload,
    check_value,
)
from primep2p.net.memory_stream import MemoryStream, Postman, Way, stream_pair
from primep2p.net.peers import Mailbox, PeerTable
from primep2p.tasks import TaskStatus

__all__ = ["MemoryHost", "MemoryNetwork"]

_JITTER = 0.1  # of the latency; also what makes deadlines differ, for trio shuffles tasks whose deadlines are equal

_log = logging.getLogger(__name__)


class MemoryNetwork:
    """Where `MemoryHost`s find each other, and the hand that disturbs them."""

    def __init__(
        self, seed: int = 0, *, latency_s: float = 0.001, tick_s: float = 0.0, gossip_loss: float = 0.0
    ) -> None:
        """`latency_s` one way; `gossip_loss` is the share of gossip deliveries that are lost. Streams lose nothing.
        With `tick_s`, things arrive at its multiples only, so that a large network under a clock that jumps wakes up
        less often.
        """
        self.latency_s = latency_s
        self._tick_s = tick_s
        self.gossip_loss = gossip_loss
        self._seed = seed
        self._hosts: dict[PeerId, MemoryHost] = {}
        self._links: dict[frozenset[PeerId], _Link] = {}
        self._parted: set[frozenset[PeerId]] = set()
        self._chances: dict[tuple[PeerId, PeerId], Random] = {}
        self._providers: dict[str, set[PeerId]] = {}
        self._values: dict[tuple[PeerId, str], bytes] = {}

    def host(self, peer: PeerId, bootstrap: tuple[PeerId, ...] = ()) -> "MemoryHost":
        """A host that is not running yet. One that has stopped may be followed by another of the same peer."""
        return MemoryHost(self, peer, bootstrap)

    def cut(self, peer: PeerId) -> None:
        """Every connection of `peer` drops, as when its cable is pulled for a moment."""
        for link in [link for link in self._links.values() if peer in link.ends]:
            link.drop()

    def partition(self, some: "set[PeerId] | frozenset[PeerId]", others: "set[PeerId] | frozenset[PeerId]") -> None:
        """Connections between the two sides drop, and none can be made until `heal`."""
        for one in sorted(some):
            for other in sorted(others):
                pair = frozenset((one, other))
                self._parted.add(pair)
                if (link := self._links.get(pair)) is not None:
                    link.drop()

    def heal(self) -> None:
        """No partition any more. Nobody is connected again by this alone."""
        self._parted.clear()
        for host in self._hosts.values():
            host._healed.unpark_all()

    def delay_s(self, sender: PeerId, receiver: PeerId) -> float:
        """One way, now."""
        return self.latency_s * (1 + _JITTER * self._chance(sender, receiver).random())

    def arrival_s(self, sender: PeerId, receiver: PeerId) -> float:
        """When what is sent now arrives."""
        return self.at_tick(trio.current_time() + self.delay_s(sender, receiver))

    def at_tick(self, time_s: float) -> float:
        """The first time at which things arrive, from `time_s` on."""
        return ceil(time_s / self._tick_s) * self._tick_s if self._tick_s else time_s

    def _chance(self, sender: PeerId, receiver: PeerId) -> Random:
        chance = self._chances.get((sender, receiver))
        if chance is None:
            chance = self._chances[sender, receiver] = Random(f"{self._seed}/{sender}/{receiver}")
        return chance

    def _is_reachable(self, peer: PeerId, other: PeerId) -> bool:
        return other in self._hosts and peer in self._hosts and frozenset((peer, other)) not in self._parted

    def _connect(self, peer: PeerId, other: PeerId) -> None:
        pair = frozenset((peer, other))
        if pair in self._links:
            return
        self._links[pair] = _Link(self, pair)
        for one, another in ((peer, other), (other, peer)):
            self._hosts[one]._table.gained(another)


class _Link:
    """The connection of two hosts, and the streams on it."""

    def __init__(self, network: MemoryNetwork, ends: frozenset[PeerId]) -> None:
        self.ends = ends
        self.streams: set[MemoryStream] = set()
        self._network = network

    def drop(self) -> None:
        del self._network._links[self.ends]
        for stream in list(self.streams):
            stream.sever()
        one, other = sorted(self.ends)
        self._network._hosts[one]._table.lost(other)
        self._network._hosts[other]._table.lost(one)


class MemoryHost:
    """See `Host`. Beyond it, only what a real network has too: who is not running cannot be reached."""

    def __init__(self, network: MemoryNetwork, peer: PeerId, bootstrap: tuple[PeerId, ...] = ()) -> None:
        self._network = network
        self._peer = peer
        self._bootstrap = bootstrap
        self._table = PeerTable()
        self._handlers: dict[str, Handler] = {}
        self._readers: dict[str, set[Mailbox[Heard]]] = {}
        self._healed = trio.lowlevel.ParkingLot()
        self._postman = Postman()
        self._nursery: trio.Nursery | None = None
        self._directory = _MemoryDirectory(network, self)

    @property
    def peer_id(self) -> PeerId:
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"/memory/{self._peer}",)

    @property
    def connected(self) -> frozenset[PeerId]:
        return self._table.connected

    @property
    def directory(self) -> Directory:
        return self._directory

    def peer_events(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        return self._table.events()

    def handle(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self._peer in self._network._hosts:
            raise ValueError(f"two hosts of {self._peer} at once")
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._network._hosts[self._peer] = self
            nursery.start_soon(self._postman.run)
            for peer in self._bootstrap:
                nursery.start_soon(self._keep, peer)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._network.cut(self._peer)
                del self._network._hosts[self._peer]
                self._nursery = None

    async def connect(self, peer: PeerId, addresses: tuple[str, ...] = ()) -> None:
        if peer == self._peer:
            raise Unavailable("a node does not connect to itself")
        if peer in self._table.connected:
            return
        await self._round_trip(peer)
        self._network._connect(self._peer, peer)

    async def disconnect(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if (link := self._network._links.get(frozenset((self._peer, peer)))) is not None:
            link.drop()

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        link = self._network._links.get(frozenset((self._peer, peer)))
        if link is None:
            raise Unavailable(f"{peer} is not connected")
        await self._round_trip(peer)
        if self._network._links.get(link.ends) is not link:
            raise Unavailable(f"{peer} was lost")
        other = self._network._hosts[peer]
        handler = other._handlers.get(protocol)
        if handler is None or other._nursery is None:
            raise Unavailable(f"{peer} does not speak {protocol}")
        there = Way(partial(self._network.arrival_s, self._peer, peer), other._postman.call_at)
        back = Way(partial(self._network.arrival_s, peer, self._peer), self._postman.call_at)
        near, far = stream_pair((self._peer, peer), (there, back), link.streams)
        other._nursery.start_soon(other._converse, handler, far)
        return near

    async def publish(self, topic: str, payload: bytes) -> None:
        check_payload(payload)
        if topic not in self._readers:
            raise ValueError(f"publish on {topic!r} without a subscription to it")
        await trio.lowlevel.checkpoint()
        heard = Heard(topic, self._peer, payload)
        for peer in sorted(self._within_reach()):
            chance = self._network._chance(self._peer, peer)
            arrival_s, host = self._network.arrival_s(self._peer, peer), self._network._hosts[peer]
            if chance.random() >= self._network.gossip_loss:
                host._postman.call_at(arrival_s, partial(host._hear, heard))

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[Heard]]:
        mailbox: Mailbox[Heard] = Mailbox(MAX_HEARD_BEHIND)
        readers = self._readers.setdefault(topic, set())
        readers.add(mailbox)
        try:
            yield mailbox
        finally:
            readers.discard(mailbox)
            if not readers and self._readers.get(topic) is readers:
                del self._readers[topic]

    def _within_reach(self) -> set[PeerId]:
        """Whom gossip gets to: every peer that a chain of connections leads to."""
        found: set[PeerId] = set()
        edge = {self._peer}
        while edge:
            found |= edge
            edge = {peer for each in edge for peer in self._network._hosts[each].connected} - found
        return found - {self._peer}

    def _hear(self, heard: Heard) -> None:
        for mailbox in self._readers.get(heard.topic, ()):
            mailbox.put(heard)

    async def _keep(self, peer: PeerId) -> None:
        """Connects to a bootstrap peer, and again whenever it is lost."""
        pause_s = 0.1
        while True:
            try:
                await self.connect(peer)
                pause_s = 0.1
                await self._table.until_lost(peer)
            except Unavailable:
                with trio.move_on_after(pause_s):
                    await self._healed.park()
                pause_s = min(2 * pause_s, 30.0)

    async def _round_trip(self, peer: PeerId) -> None:
        """Raises Unavailable where the peer cannot be reached, at its end as at its beginning."""
        if self._network._is_reachable(self._peer, peer):
            there_and_back_s = self._network.delay_s(self._peer, peer) + self._network.delay_s(peer, self._peer)
            await self._postman.until(self._network.at_tick(trio.current_time() + there_and_back_s))
        else:
            await trio.lowlevel.checkpoint()
        if not self._network._is_reachable(self._peer, peer):
            raise Unavailable(f"cannot reach {peer}")

    async def _converse(self, handler: Handler, stream: MemoryStream) -> None:
        """One conversation that a peer began: whatever its handler does ends here."""
        try:
            await handler(stream)
        except Exception:
            _log.warning("a stream from %s ended in an error of its handler", stream.peer, exc_info=True)
            stream.sever()
        except BaseException:
            stream.sever()
            raise
        else:
            await stream.close()


class _MemoryDirectory:
    """See `Directory`: one table for the whole network, a latency away."""

    def __init__(self, network: MemoryNetwork, host: MemoryHost) -> None:
        self._network = network
        self._host = host

    async def provide(self, key: str) -> None:
        check_key(key)
        await self._ask()
        self._network._providers.setdefault(key, set()).add(self._host.peer_id)

    async def providers(self, key: str) -> tuple[PeerId, ...]:
        check_key(key)
        await self._ask()
        return tuple(sorted(self._network._providers.get(key, set()) - {self._host.peer_id}))

    async def put(self, key: str, value: bytes) -> None:
        check_key(key)
        check_value(value)
        await self._ask()
        self._network._values[self._host.peer_id, key] = value

    async def get(self, owner: PeerId, key: str) -> bytes | None:
        check_key(key)
        await self._ask()
        return self._network._values.get((owner, key))

    async def find_peer(self, peer: PeerId) -> bool:
        await trio.lowlevel.checkpoint()
        return self._network._is_reachable(self._host.peer_id, peer)

    async def _ask(self) -> None:
        asked = sorted(self._host.connected)
        there_and_back_s = 2 * self._network.delay_s(self._host.peer_id, asked[0]) if asked else 0
        await trio.sleep_until(self._network.at_tick(trio.current_time() + there_and_back_s))
        if not self._host.connected:
            raise Unavailable("no peer is connected to ask", hint="see: primep2p doctor")
