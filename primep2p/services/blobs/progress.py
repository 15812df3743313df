"""How one blob comes in, as the owner is told: its beginning, its end, and now and then how far it is."""

from collections.abc import Callable

from primep2p.model.ids import Cid, PeerId
from primep2p.model.views.events import AnyEvent, TransferBegun, TransferDone, TransferFailed, TransferMoved

__all__ = ["EVERY_S", "Progress", "Tell"]

EVERY_S = 0.25
"""Between two words about one blob: what a bar on a screen needs, and no more events for a larger model."""

Tell = Callable[[AnyEvent], None]


class Progress:
    """Of one fetch. Times are those of one clock, whichever."""

    def __init__(self, cid: Cid, tell: Tell, now: float) -> None:
        self._cid = cid
        self._tell = tell
        self._asked_at = now
        self._told_at = now
        self._bytes = 0
        self._bytes_here = 0
        self._providers: dict[PeerId, None] = {}

    def begun(self, size_bytes: int, bytes_here: int, provider: PeerId, now: float) -> None:
        """The manifest is here, by which its size is known."""
        self._bytes, self._bytes_here, self._told_at = size_bytes, bytes_here, now
        self._tell(TransferBegun(cid=self._cid, bytes=size_bytes, bytes_here=bytes_here, provider=provider))

    def got(self, chunk_bytes: int, provider: PeerId, now: float) -> None:
        """A chunk is on the disk."""
        self._bytes_here += chunk_bytes
        self._providers[provider] = None
        if now - self._told_at >= EVERY_S and self._bytes_here < self._bytes:
            self._told_at = now
            here = self._bytes_here
            self._tell(TransferMoved(cid=self._cid, bytes=self._bytes, bytes_here=here, provider=provider))

    def done(self, now: float) -> None:
        """The blob is whole."""
        seconds = round(now - self._asked_at, 3)
        self._tell(TransferDone(cid=self._cid, bytes=self._bytes, providers=list(self._providers), seconds=seconds))

    def failed(self, reason: str) -> None:
        """It is given up."""
        self._tell(TransferFailed(cid=self._cid, bytes=self._bytes, reason=reason))
