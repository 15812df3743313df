"""`primep2p speedtest`."""

from typing import Annotated

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.derive import described
from primep2p.cli.render.printing import number, print_json, say
from primep2p.control.calls.speed import SpeedMeasure

__all__ = ["speedtest"]


def speedtest(
    peer: Annotated[str, described(SpeedMeasure, "peer")] = "",
    *,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Measure how fast the network to a peer is, in both directions: up to 8 MiB each, 5 s at the most."""
    with at.connect() as client:
        found = client.call(SpeedMeasure(peer=peer))
    if json:
        print_json(found)
        return
    say(f"with {found.peer}")
    say(f"up    {number(found.up_mbps)} Mbit/s")
    say(f"down  {number(found.down_mbps)} Mbit/s")
