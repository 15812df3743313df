"""Answers about the daemon itself."""

import os
from typing import Protocol

from primep2p.control.calls.daemon import DaemonStatus, DaemonStop, Discover, PeersList
from primep2p.control.handlers.table import answers
from primep2p.control.openrpc import discover
from primep2p.model.views.node import NodeStatus, PeerView, Stopped

__all__ = ["DaemonVerbs"]


class DaemonVerbs(Protocol):
    """What a node does for whoever looks after it."""

    def status(self) -> NodeStatus: ...
    def stop(self) -> None:
        """Asks the node to end; returns at once."""
        ...

    def peers(self) -> list[PeerView]: ...


@answers(DaemonStatus)
async def status(node: DaemonVerbs, call: DaemonStatus) -> NodeStatus:
    return node.status()


@answers(DaemonStop)
async def stop(node: DaemonVerbs, call: DaemonStop) -> Stopped:
    node.stop()
    return Stopped(pid=os.getpid())


@answers(PeersList)
async def peers(node: DaemonVerbs, call: PeersList) -> list[PeerView]:
    return node.peers()


@answers(Discover)
async def describe(node: DaemonVerbs, call: Discover) -> dict[str, object]:
    return discover()
