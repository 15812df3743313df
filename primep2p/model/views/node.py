"""Answers about the node: the daemon itself, and the peers that it knows."""

from primep2p.model.views.runs import RunSummary
from primep2p.model.views.view import View

__all__ = ["OTHER_KERNELS", "NodeStatus", "PeerView", "SpeedView", "Stopped"]


OTHER_KERNELS = "what this machine computes has other bytes than the protocol says: it trains, and has no vote"


class NodeStatus(View, frozen=True):
    """A daemon at a glance."""

    peer_id: str
    version: str
    pid: int
    network: str
    home: str
    addresses: list[str]
    connected: list[str]
    uptime_s: float
    rss_bytes: int
    same_kernels: bool
    """What this machine computes has the bytes that the protocol says: else it trains, and has no vote."""
    runs: list["RunSummary"]
    backend: str = ""
    """What the certified aggregate is computed with; empty until that is known."""
    threads: int = 0
    """So many share that."""
    cursor: str = ""
    """Of the newest event that is in this answer: events.watch goes on after it."""


class SpeedView(View, frozen=True):
    """How fast the network between this node and a peer is, in Mbit/s."""

    peer: str
    up_mbps: float
    down_mbps: float


class PeerView(View, frozen=True):
    """A peer that this node is connected to, or has something against."""

    peer: str
    connected: bool
    runs: list[str]
    """Runs of this node in which it is a member."""
    faults: list[str]
    """What it was accused of."""


class Stopped(View, frozen=True):
    """The daemon is on its way out; it is gone when the process `pid` is."""

    pid: int
