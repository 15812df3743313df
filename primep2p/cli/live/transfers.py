"""What is being fetched, as events tell it."""

from dataclasses import dataclass, replace

from primep2p.model.views.events import AnyEvent, TransferBegun, TransferDone, TransferFailed, TransferMoved

__all__ = ["Moving", "Transfers"]

MOST_OVER = 100
"""Transfers that are over and still shown, the newest."""


@dataclass(frozen=True)
class Moving:
    """One blob. `state` says how it ended, in words; empty while it moves."""

    cid: str
    bytes: int
    bytes_here: int
    provider: str
    at_s: float
    state: str = ""

    @property
    def share(self) -> float:
        """How much of it is here, from 0 to 1."""
        return self.bytes_here / self.bytes if self.bytes else 1.0


class Transfers:
    """Those under way, and the newest that are over."""

    def __init__(self) -> None:
        self.moving: dict[str, Moving] = {}
        self.over: list[Moving] = []

    def apply(self, event: AnyEvent) -> None:
        """Takes what concerns transfers."""
        match event:
            case TransferBegun() | TransferMoved():
                self.moving[event.cid] = Moving(event.cid, event.bytes, event.bytes_here, event.provider, event.at_s)
            case TransferDone():
                provider = event.providers[0] if event.providers else ""
                before = self.moving.get(event.cid) or Moving(event.cid, event.bytes, 0, provider, event.at_s)
                self._end(replace(before, bytes_here=event.bytes, at_s=event.at_s, state=f"{event.seconds:.2f} s"))
            case TransferFailed():
                before = self.moving.get(event.cid) or Moving(event.cid, event.bytes, 0, "", event.at_s)
                self._end(replace(before, at_s=event.at_s, state=event.reason))

    def _end(self, moving: Moving) -> None:
        self.moving.pop(moving.cid, None)
        self.over = [*self.over[1 - MOST_OVER :], moving]
