"""The seam to the network: everything above it knows peers, streams of bytes and topics, and no libp2p.

Two real implementations are held to the same contract suite: `LibP2PHost` and `MemoryHost`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from primep2p.model.ids import PeerId
from primep2p.tasks import TaskStatus

__all__ = [
    "MAX_HEARD_BEHIND",
    "MAX_KEY_BYTES",
    "MAX_PUBLISH_BYTES",
    "MAX_VALUE_BYTES",
    "Directory",
    "Handler",
    "Heard",
    "Host",
    "PeerConnected",
    "PeerEvent",
    "PeerLost",
    "Stream",
    "check_key",
    "check_payload",
    "check_value",
]

MAX_PUBLISH_BYTES = 512 * 1024
"""Half of what libp2p's gossip carries before it drops a message without a word."""

MAX_HEARD_BEHIND = 256
MAX_KEY_BYTES = 50
MAX_VALUE_BYTES = 4 * 1024


class Stream(Protocol):
    """A two-way stream of bytes to an authenticated peer. Whoever opened or was handed it closes it."""

    @property
    def peer(self) -> PeerId: ...

    async def read(self, max_bytes: int) -> bytes:
        """1 to `max_bytes` bytes, or b"" at the other side's close. Raises Unavailable when reset or lost.

        One task reads at a time. A read that is cancelled loses nothing.
        """
        ...

    async def write(self, data: bytes) -> None:
        """All of `data`, in order; waits while the peer reads slower. Raises Unavailable when it is reset or lost, or
        the peer has closed it.

        Writers queue. A write that is cancelled leaves a stream that can only be closed or reset.
        """
        ...

    async def close(self) -> None:
        """Both ways, in order; never raises."""
        ...

    async def reset(self) -> None:
        """At once, what is under way is lost; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The first connection to a peer is up."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The last connection to a peer is gone."""

    peer: PeerId


PeerEvent = PeerConnected | PeerLost


@dataclass(frozen=True, slots=True)
class Heard:
    """A message on a topic. `origin` signed it (libp2p's StrictSign)."""

    topic: str
    origin: PeerId
    payload: bytes


Handler = Callable[[Stream], Awaitable[None]]
"""Runs in a task of the host's own. An exception other than cancellation resets the stream, is logged, and hurts
nobody else; when it returns the stream is closed."""


class Host(Protocol):
    """This node on the network. Listens from the start of `run` until it is cancelled."""

    async def run(self, *, task_status: TaskStatus[None] = ...) -> None: ...

    @property
    def peer_id(self) -> PeerId: ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs where others can dial this node, with its peer id at the end. Unspecified hosts are resolved."""
        ...

    @property
    def connected(self) -> frozenset[PeerId]:
        """Peers with a live connection now."""
        ...

    def handle(self, protocol: str, handler: Handler) -> None:
        """Streams of `protocol` opened by peers go to `handler`."""
        ...

    async def connect(self, peer: PeerId, addresses: tuple[str, ...] = ()) -> None:
        """Connects unless connected; known addresses are tried too. Raises Unavailable within 10 s."""
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Closes every connection to `peer`, and gives up a dial to it; never raises.

        A bootstrap peer is dialled again.
        """
        ...

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        """A new stream to a connected peer. Raises Unavailable within 10 s."""
        ...

    def peer_events(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        """Connections gained and lost from now on, in order, none missed. Starts with a PeerConnected for each peer
        connected now."""
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """To every subscriber of a topic that this node has subscribed to; at most 512 KiB. Raises ValueError for more
        and for another topic, Unavailable when the host does not run."""
        ...

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[Heard]]:
        """What others publish on `topic` until the context is left; own messages are not heard. When the reader is
        more than 256 behind, the oldest are dropped: nothing may rely on one message."""
        ...

    @property
    def directory(self) -> "Directory": ...


class Directory(Protocol):
    """Pointers: who provides what. `key` is a short printable string of at most 50 bytes.

    Everything but `find_peer` asks connected peers, and is Unavailable without one. A larger key or value is a
    ValueError. What is published may take a moment until others find it.
    """

    async def provide(self, key: str) -> None:
        """Publish "I hold this". Raises Unavailable."""
        ...

    async def providers(self, key: str) -> tuple[PeerId, ...]:
        """Who said so, this node not included; their addresses are known to the host afterwards. Empty where nobody
        did. Raises Unavailable."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Publish an owner-signed record under this node's own peer id and `key`, at most 4 KiB. Raises Unavailable."""
        ...

    async def get(self, owner: PeerId, key: str) -> bytes | None:
        """The newest valid record of `owner` under `key`. Raises Unavailable."""
        ...

    async def find_peer(self, peer: PeerId) -> bool:
        """Whether an address of `peer` is known to the host now, after looking it up."""
        ...


def check_payload(payload: bytes) -> None:
    """Raises ValueError for what is too large to publish."""
    if len(payload) > MAX_PUBLISH_BYTES:
        raise ValueError(f"a message of {len(payload)} bytes, more than the {MAX_PUBLISH_BYTES} allowed")


def check_key(key: str) -> None:
    """Raises ValueError for what is not a key of the directory."""
    if not 0 < len(key.encode()) <= MAX_KEY_BYTES or not key.isprintable():
        raise ValueError(f"a directory key is 1 to {MAX_KEY_BYTES} printable bytes, not {key!r}")


def check_value(value: bytes) -> None:
    """Raises ValueError for what is too large for the directory."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"a directory value of {len(value)} bytes, more than the {MAX_VALUE_BYTES} allowed")
