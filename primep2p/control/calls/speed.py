"""Calls about this node's network."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.node import SpeedView

__all__ = ["SpeedMeasure"]


class SpeedMeasure(Call[SpeedView], frozen=True):
    """Measure how fast the network to a peer is, in both directions: up to 8 MiB each, 5 s at the most. A peer lets
    itself be asked once a minute."""

    name: ClassVar[str] = "speed.measure"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "speedtest"
    deadline_s: ClassVar[float] = 45.0  # five seconds each way, and a slow one's last pieces

    peer: Annotated[str, Meta(description="The peer's whole id; empty: any that is connected.")] = ""
