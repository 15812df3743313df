"""A world's story, one line for each thing that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from primep2p.model.messages import Certified, Digest, OverlayMessage, Proposed, Proven, Records
from primep2p.model.records import Ban, Collected, Join, Proposal, Update, Vote

if TYPE_CHECKING:
    from tests.sim.node import SimNode

__all__ = ["Printer", "said"]


class Printer:
    """Prints what it is told; messages only where asked to, since there are thousands."""

    def __init__(self, *, messages: bool = False) -> None:
        self.messages = messages

    def __call__(self, now: float, who: str, what: str) -> None:
        """Something happened to `who`; a star marks liars."""
        print(f"{now:9.3f}  {who:>5}  {what}")


def said(node: SimNode, message: OverlayMessage) -> str:
    """A message in a few words."""
    match message:
        case Records(items=items):
            return "; ".join(_record(node, raw) for raw in items[:4]) + (" ..." if len(items) > 4 else "")
        case Proposed(proposal=raw):
            return _record(node, raw)
        case Digest(round=round, have=have):
            return f"holds {len(have)} records of round {round}"
        case Proven(evidence=evidence):
            return f"evidence: {_record(node, evidence.first)}; {_record(node, evidence.second)}"
        case Certified(checkpoint=checkpoint):
            return f"checkpoint {checkpoint.certificate.round} {checkpoint.certificate.header.hex()[:8]}"


def _record(node: SimNode, raw: bytes) -> str:
    record = node.record(raw)
    match record:
        case Vote(round=round, view=view, step=step, header=header):
            return f"{step} r{round} v{view} {header.hex()[:8] or 'nil'}"
        case Proposal(round=round, view=view, valid_view=valid_view, header=header):
            return f"proposal r{round} v{view} valid {valid_view} {header.hex()[:8]}"
        case Collected(round=round, updates=updates):
            return f"list r{round} of {len(updates)}"
        case Update(round=round, delta=delta):
            return f"update r{round} {delta[-8:]}"
        case Ban(peer=peer):
            return f"ban of {peer[-6:]}"
        case Join(round=round):
            return f"join r{round}"
        case _:
            return type(record).__name__
