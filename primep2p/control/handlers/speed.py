"""Answers about this node's network."""

from typing import Protocol

from primep2p.control.calls.speed import SpeedMeasure
from primep2p.control.handlers.table import answers
from primep2p.model.views.node import SpeedView

__all__ = ["SpeedNode", "SpeedVerbs"]


class SpeedVerbs(Protocol):
    """What a node knows of its network. Raises PrimeError."""

    async def measure(self, peer: str) -> SpeedView: ...


class SpeedNode(Protocol):
    """A node with such a service."""

    @property
    def speed(self) -> SpeedVerbs: ...


@answers(SpeedMeasure)
async def measure(node: SpeedNode, call: SpeedMeasure) -> SpeedView:
    return await node.speed.measure(call.peer)
