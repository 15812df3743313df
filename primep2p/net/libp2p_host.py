"""A node on a real network: libp2p's TCP, Noise, Yamux, gossipsub and Kademlia behind the seam.

Only the modules libp2p_*.py of this package know libp2p.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any

import trio
from libp2p.abc import INotifee
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from primep2p.config import is_dialable
from primep2p.keys import Identity, public_key_of
from primep2p.model.errors import ConfigError, PeerError, Unavailable
from primep2p.model.ids import PeerId
from primep2p.net.host import Directory, Handler, Heard, PeerEvent, Stream
from primep2p.net.libp2p_calls import Calls
from primep2p.net.libp2p_directory import ADDRESS_TTL_S, KadDirectory
from primep2p.net.libp2p_gossip import Gossip
from primep2p.net.libp2p_stream import LibP2PStream
from primep2p.net.libp2p_transport import build_host, keep_logs_quiet, looked_up, parse_listen, require_free_port
from primep2p.net.peers import PeerTable
from primep2p.tasks import TaskStatus

__all__ = ["LibP2PHost"]

_CONNECT_S = 10.0
_OPEN_S = 10.0
_NEXT_ADDRESS_S = 0.25  # a head start for each address over the next (RFC 8305's 250 ms)
_STEADY_S = 5.0  # a connection that held this long was a good one: start over with short pauses
_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 30.0
_STOP_S = 0.7  # for goodbyes; sockets that are still open then are closed without

_log = logging.getLogger(__name__)


class LibP2PHost:
    """See `Host`. It runs once: a stopped host is not started again."""

    def __init__(self, identity: Identity, listen: tuple[str, ...], bootstrap: tuple[str, ...], network: str) -> None:
        """`listen` and `bootstrap` are multiaddrs, the latter with a peer id at the end. Raises ConfigError."""
        keep_logs_quiet()
        self._identity = identity
        self._network = network
        self._listen = parse_listen(listen)
        self._bootstrap = tuple(_parse_bootstrap(address) for address in bootstrap)
        self._host = build_host(identity, self._listen)
        self._swarm = self._host.get_network()
        self._peers = PeerTable()
        self._calls = Calls()
        self._gossip = Gossip(self._host, identity.peer_id, self._calls)
        self._directory = KadDirectory(self._host, identity, network, self._calls)
        self._dialling: dict[PeerId, _Dial] = {}
        self._swarm.register_notifee(_Notifee(self._on_connection))

    @property
    def peer_id(self) -> PeerId:
        return self._identity.peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(str(address) for address in self._host.get_addrs())

    @property
    def connected(self) -> frozenset[PeerId]:
        return self._peers.connected

    @property
    def directory(self) -> Directory:
        return self._directory

    def peer_events(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        return self._peers.events()

    async def publish(self, topic: str, payload: bytes) -> None:
        await self._gossip.publish(topic, payload)

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[Heard]]:
        return self._gossip.subscribe(topic)

    # -- life

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled, which takes less than a second. Raises ConfigError when it cannot listen."""
        for address in self._listen:
            require_free_port(address)
        failed: ConfigError | None = None
        async with trio.open_nursery() as nursery:
            self._calls.open(nursery)
            try:
                failed = await self._serve(nursery, task_status)
            finally:
                self._calls.close()
                nursery.cancel_scope.cancel()
        if failed is not None:  # raised here: out of a nursery it would come in a group
            raise failed

    async def _serve(self, nursery: trio.Nursery, task_status: TaskStatus[None]) -> ConfigError | None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._host.run(listen_addrs=self._listen))
            await self._swarm.auto_connector.stop()  # it dials whomever it has heard of, whatever its watermarks
            deaf = set(map(str, self._listen)) - set(self._swarm.listeners)
            if deaf:
                return ConfigError(f"p2p.listen: cannot listen on {', '.join(sorted(deaf))}")
            await stack.enter_async_context(background_trio_service(self._directory.dht))
            await stack.enter_async_context(self._gossip.running())
            # Leaving says goodbye first, while what writes to the connections still runs.
            stack.push_async_callback(self._hang_up)
            for peer, address in self._bootstrap:
                if peer != self.peer_id:
                    nursery.start_soon(self._keep, peer, address)
            task_status.started()
            await trio.sleep_forever()
        return None

    async def _hang_up(self) -> None:
        """Closes every connection: in order for those that can, at once for the others; then stops listening."""
        with trio.CancelScope(shield=True):
            connections = self._swarm.get_connections()
            with trio.move_on_after(_STOP_S / 2):
                async with trio.open_nursery() as nursery:
                    for connection in connections:
                        nursery.start_soon(_close, connection)
            for connection in connections:
                await _sever(connection)
            with trio.move_on_after(_STOP_S / 2):
                await self._host.close()

    async def _keep(self, peer: PeerId, address: str) -> None:
        """Connects to a bootstrap peer, and again whenever it is lost."""
        pause = _FIRST_PAUSE_S
        while True:
            since = trio.current_time()
            try:
                await self.connect(peer, (address,))
                await self._peers.until_lost(peer)
            except Unavailable as error:
                _log.debug("bootstrap peer %s: %s", peer, error)
            if trio.current_time() - since > _STEADY_S + _CONNECT_S:
                pause = _FIRST_PAUSE_S
            with trio.move_on_after(pause):
                await self._peers.until_connected(peer)
            pause = min(2 * pause, _LAST_PAUSE_S)

    # -- connections

    async def connect(self, peer: PeerId, addresses: tuple[str, ...] = ()) -> None:
        if peer == self.peer_id:
            raise Unavailable("a node does not connect to itself")
        while peer not in self._peers.connected:
            dial = self._dialling.get(peer)
            is_mine = dial is None  # who dials already, dials for all, but perhaps with worse addresses
            if dial is None:
                dial = _Dial(self._candidates(peer, addresses))
                if not self._calls.start(self._dial, peer, dial):
                    raise Unavailable("the host does not run")
                self._dialling[peer] = dial
            await dial.settled.wait()
            if peer in self._peers.connected:
                return
            await dial.ended.wait()
            if is_mine and peer not in self._peers.connected:
                raise Unavailable(f"cannot reach {peer}: {'; '.join(dial.errors) or 'the connection was lost at once'}")

    def _candidates(self, peer: PeerId, addresses: tuple[str, ...]) -> list[Multiaddr]:
        identity = _identity_of(peer)
        store = self._host.get_peerstore()
        given = [maddr for address in addresses if (maddr := _transport_part(address, peer)) is not None]
        self._swarm.unblock_peer(identity)
        try:
            known = [_transport_part(str(maddr), peer) for maddr in store.addrs(identity)]
        except Exception:  # the peerstore's way to say that there are none
            known = []
        every = list({str(maddr): maddr for maddr in (*given, *known) if maddr is not None}.values())
        # A loopback address of another machine leads to this one: those come last.
        every.sort(key=lambda maddr: str(maddr).startswith(("/ip4/127.", "/ip6/::1/")))
        if not every:
            raise Unavailable(f"no address of {peer} is known")
        return every

    async def _dial(self, peer: PeerId, dial: "_Dial") -> None:
        """The first address that answers wins; each gets a head start over the next. py-libp2p would try one.

        A peer that dials us in the meantime settles it too, but this dial runs to its end: when both sides gave up
        their own for the other's, there would be none.
        """
        try:
            with dial.scope, trio.move_on_after(_CONNECT_S):
                async with trio.open_nursery() as nursery:
                    for address in dial.addresses:
                        failed = trio.Event()
                        nursery.start_soon(self._attempt, peer, address, dial, failed, nursery.cancel_scope)
                        with trio.move_on_after(_NEXT_ADDRESS_S):
                            await failed.wait()
        finally:
            del self._dialling[peer]
            dial.settled.set()
            dial.ended.set()

    async def _attempt(
        self, peer: PeerId, address: Multiaddr, dial: "_Dial", failed: trio.Event, others: trio.CancelScope
    ) -> None:
        try:
            numeric = await looked_up(address)
        except OSError as error:
            dial.errors.append(f"{address}: {error.strerror}")
            numeric = []
        for each in numeric:
            try:
                await self._swarm.dial_addr(each, _identity_of(peer))
            except Exception as error:  # a dozen unrelated classes
                dial.errors.append(f"{each}: {error.__cause__ or error}")
                continue
            self._host.get_peerstore().add_addrs(_identity_of(peer), [address], ADDRESS_TTL_S)
            others.cancel()
            return
        failed.set()

    async def disconnect(self, peer: PeerId) -> None:
        with trio.CancelScope(shield=True):
            if (dial := self._dialling.get(peer)) is not None:
                dial.scope.cancel()
                await dial.ended.wait()
            connections = self._swarm.get_connections(_identity_of(peer))
            with trio.move_on_after(_STOP_S):
                async with trio.open_nursery() as nursery:
                    for connection in connections:
                        nursery.start_soon(_close, connection)
            for connection in connections:
                await _sever(connection)

    def _on_connection(self, connection: Any) -> None:
        """A connection is up; its peer has proved who it is."""
        if not self._calls.is_open:
            return
        peer = _peer_of(connection)
        if peer is None:  # a key that is not Ed25519: no member can have it
            self._calls.start(_sever, connection)
            return
        self._calls.start(self._directory.met, connection.muxed_conn.peer_id)
        self._calls.start(self._watch, peer, connection)
        self._peers.gained(peer)
        if (dial := self._dialling.get(peer)) is not None:
            dial.settled.set()

    async def _watch(self, peer: PeerId, connection: Any) -> None:
        """The life of one connection. Its end is known the moment the socket's is: no time-out, no polling."""
        try:
            await connection.event_closed.wait()
        finally:
            if self._peers.lost(peer):
                identity = connection.muxed_conn.peer_id
                self._directory.missed(identity)
                self._gossip.missed(identity)

    # -- streams

    def handle(self, protocol: str, handler: Handler) -> None:
        async def accept(stream: Any) -> None:
            peer = _peer_of(stream)
            ended = trio.Event()
            if peer is None or not self._calls.start(self._converse, handler, self._wrap(peer, stream), ended):
                await stream.reset()
                return
            await ended.wait()

        self._host.set_stream_handler(self._wire_name(protocol), accept)

    async def _converse(self, handler: Handler, stream: LibP2PStream, ended: trio.Event) -> None:
        """One conversation that a peer began: whatever its handler does ends here."""
        try:
            await handler(stream)
        except Exception:
            _log.warning("a stream from %s ended in an error of its handler", stream.peer, exc_info=True)
            await stream.reset()
        except BaseException:
            await stream.reset()
            raise
        else:
            await stream.close()
        finally:
            ended.set()

    def _wire_name(self, protocol: str) -> str:
        """Peers of another network speak other protocols."""
        return f"/{self._network}{protocol}"

    def _wrap(self, peer: PeerId, stream: Any) -> LibP2PStream:
        return LibP2PStream(peer, stream, self._calls, partial(self._calls.start, _sever, stream.swarm_conn))

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        if peer not in self._peers.connected:
            raise Unavailable(f"{peer} is not connected")
        try:
            stream = await self._calls.call(
                partial(self._host.new_stream, _identity_of(peer), [self._wire_name(protocol)]),
                _OPEN_S,
                abandoned=_reset,
            )
        except trio.TooSlowError as error:
            raise Unavailable(f"{peer} did not accept a stream within {_OPEN_S:.0f} s") from error
        return self._wrap(peer, stream)


class _Dial:
    """A dial under way, and what came of it."""

    def __init__(self, addresses: list[Multiaddr]) -> None:
        self.addresses = addresses
        self.errors: list[str] = []
        self.settled = trio.Event()
        self.ended = trio.Event()
        self.scope = trio.CancelScope()


class _Notifee(INotifee):
    """The library's news; only new connections matter here, since it reports their end 200 ms late."""

    def __init__(self, on_connection: Callable[[Any], None]) -> None:
        self._on_connection = on_connection

    async def connected(self, network: Any, conn: Any) -> None:
        self._on_connection(conn)

    async def disconnected(self, network: Any, conn: Any) -> None: ...

    async def opened_stream(self, network: Any, stream: Any) -> None: ...

    async def closed_stream(self, network: Any, stream: Any) -> None: ...

    async def listen(self, network: Any, multiaddr: Any) -> None: ...

    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...


async def _close(connection: Any) -> None:
    """In order, with a word to the other side."""
    try:
        await connection.close()
    except Exception as error:  # it was gone already
        _log.debug("closing a connection: %r", error)


async def _sever(connection: Any) -> None:
    """At once: the socket, whatever is being written to it."""
    try:
        await connection.muxed_conn.secured_conn.close()
    except Exception as error:  # it was gone already
        _log.debug("severing a connection: %r", error)


async def _reset(stream: Any) -> None:
    try:
        await stream.reset()
    except Exception as error:  # it was gone already
        _log.debug("resetting a stream: %r", error)


def _peer_of(link: Any) -> PeerId | None:
    """The peer at the other end of a connection or stream, if it can be a member."""
    peer = str(link.muxed_conn.peer_id)
    try:
        public_key_of(peer)
    except PeerError:
        return None
    return peer


def _identity_of(peer: PeerId) -> ID:
    public_key_of(peer)
    return ID.from_base58(peer)


def _transport_part(address: str, peer: PeerId) -> Multiaddr | None:
    """`address` without the peer id at its end, or None where it is no address of `peer` that can be dialled."""
    part, _, named = address.partition("/p2p/")
    if named not in ("", peer) or not is_dialable(part):
        return None
    try:
        return Multiaddr(part)
    except Exception:  # a name that the library's parser does not take; it raises many things
        return None


def _parse_bootstrap(address: str) -> tuple[PeerId, str]:
    """Raises ConfigError."""
    peer = address.rpartition("/p2p/")[2]
    try:
        public_key_of(peer)
        if _transport_part(address, peer) is None:
            raise PeerError("not an address of TCP")
    except PeerError as error:
        raise ConfigError(
            f"p2p.bootstrap: {address!r} is not the address of a peer",
            hint="an address looks like /ip4/192.0.2.7/tcp/4650/p2p/12D3KooW...",
        ) from error
    return peer, address
