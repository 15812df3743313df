"""The picture of a node kept true in a thread of its own: over one stream of events, and again when the daemon is."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from primep2p.cli.top.picture import Picture, Snapshot
from primep2p.control.calls.daemon import DaemonStatus, PeersList
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.runs import RunList, RunShow
from primep2p.control.client import BlockingClient
from primep2p.model.errors import PrimeError
from primep2p.model.views.events import EventsMissed

__all__ = ["Feed"]

AGAIN_S = 1.0
"""Nothing tells that a daemon has been started: until it answers it is tried as often."""

OLDEST = "oldest"

Connect = Callable[[], AbstractContextManager[BlockingClient]]


class Feed:
    """Take `lock` to read `picture`. `trouble` is why the daemon is not heard, empty while it is."""

    def __init__(self, connect: Connect) -> None:
        self.lock = threading.Lock()
        self.picture = Picture()
        self.trouble = ""
        self.changes = 0
        """Of all that is shown, so far."""
        self._connect = connect
        self._ended = threading.Event()

    def start(self) -> None:
        """Begins; ends with the process, or after `end`."""
        threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        """Nobody looks any more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow()
            except PrimeError as error:
                self._say(error.sentence)
            self._ended.wait(AGAIN_S)

    def _follow(self) -> None:
        """As long as the daemon is there. From the first event that is kept, so that the log has a past; then from
        where it was."""
        with self._connect() as asking, self._connect() as watching:
            events = watching.stream(EventsWatch(after=self.picture.cursor or OLDEST))
            if not self.picture.cursor:
                self._renew(asking)
            self._say("")
            for event in events:
                with self.lock:
                    is_unknown = self.picture.apply(event)
                    self.changes += 1
                if is_unknown or isinstance(event, EventsMissed):
                    self._renew(asking)
                if self._ended.is_set():
                    return

    def _renew(self, client: BlockingClient) -> None:
        status = client.call(DaemonStatus())
        peers = client.call(PeersList())
        details = [client.call(RunShow(run=run.run)) for run in client.call(RunList())]
        with self.lock:
            self.picture.renew(Snapshot(status, peers, details))
            self.changes += 1

    def _say(self, trouble: str) -> None:
        with self.lock:
            self.trouble = trouble
            self.changes += 1
