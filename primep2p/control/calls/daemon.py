"""Calls about the daemon itself, and the peers that it knows."""

from typing import ClassVar

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.node import NodeStatus, PeerView, Stopped

__all__ = ["DaemonStatus", "DaemonStop", "Discover", "PeersList"]


class DaemonStatus(Call[NodeStatus], frozen=True):
    """Show who this node is, where it listens, and its runs."""

    name: ClassVar[str] = "daemon.status"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "daemon status"


class DaemonStop(Call[Stopped], frozen=True):
    """Stop the daemon; answered before it goes."""

    name: ClassVar[str] = "daemon.stop"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "daemon stop"


class PeersList(Call[list[PeerView]], frozen=True):
    """List the peers that this node is connected to, or has something against."""

    name: ClassVar[str] = "peers.list"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "peers"


class Discover(Call[dict[str, object]], frozen=True):
    """Describe every call of the control socket as an OpenRPC document."""

    name: ClassVar[str] = "rpc.discover"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "rpc discover"
