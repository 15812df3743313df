"""Events for whoever watches: nothing waits for a watcher."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from primep2p.model.views.events import AnyEvent, RunFinished

__all__ = ["Hub"]

WATCHER_CAPACITY = 1024
"""Events a watcher may be behind; one that is further behind is let go, and may come again."""


class Hub:
    """Hands each event to every watcher."""

    def __init__(self) -> None:
        self._watchers: dict[trio.MemorySendChannel[AnyEvent], str] = {}

    def tell(self, event: AnyEvent) -> None:
        """Stamp and hand on; never waits."""
        event = msgspec.structs.replace(event, at_s=time.time())
        for watcher, run in list(self._watchers.items()):
            if run and event.run not in ("", run):
                continue
            try:
                watcher.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._let_go(watcher)
                continue
            if run and isinstance(event, RunFinished):
                self._let_go(watcher)

    @asynccontextmanager
    async def watch(self, run: str) -> AsyncIterator[trio.MemoryReceiveChannel[AnyEvent]]:
        """Events of one run (in full hex), or of all for ""; the channel ends when the run is finished."""
        send, receive = trio.open_memory_channel[AnyEvent](WATCHER_CAPACITY)
        self._watchers[send] = run
        try:
            with receive:
                yield receive
        finally:
            self._let_go(send)

    def _let_go(self, watcher: trio.MemorySendChannel[AnyEvent]) -> None:
        self._watchers.pop(watcher, None)
        watcher.close()
