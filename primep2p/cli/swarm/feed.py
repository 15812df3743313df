"""Events of several daemons in one queue, so that whoever waits for something waits for all of them at once."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from primep2p.cli.swarm.daemons import Daemon
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.runs import RunShow
from primep2p.control.client import BlockingClient
from primep2p.model.errors import PrimeError, Unavailable
from primep2p.model.views.events import AnyEvent, EventsMissed, RoundCertified, RunFinished
from primep2p.model.views.runs import RunDetail

__all__ = ["Feed", "Happened", "Silent"]


@dataclass(frozen=True)
class Silent:
    """A daemon tells nothing more: it is gone, or the run is over."""

    reason: str


@dataclass(frozen=True)
class Happened:
    """An event on a daemon."""

    daemon: Daemon
    event: AnyEvent | Silent


class Feed:
    """What happens in one run: rounds that were certified before come first, and none comes twice from a daemon."""

    def __init__(self, run: str) -> None:
        self.run = run
        # Unbounded: a few dozen small events a round, of one run, for a reader that reads until it ends.
        self._queue: queue.Queue[Happened] = queue.Queue()

    def follow(self, *daemons: Daemon) -> None:
        """Hear of these until they are silent. What happens after this returns is not missed."""
        for daemon in daemons:
            client = BlockingClient(daemon.home)
            detail = client.call(RunShow(run=self.run))
            events = client.stream(EventsWatch(run=self.run, after=detail.cursor))
            threading.Thread(target=self._read, args=(daemon, client, detail, events), daemon=True).start()

    def next(self, within_s: float) -> Happened:
        """The next event. Raises Unavailable where none comes."""
        try:
            return self._queue.get(timeout=max(0.0, within_s))
        except queue.Empty as error:
            raise Unavailable(f"nothing happened in the run for {within_s:.0f} s") from error

    def until(self, wanted: Callable[[Happened], bool], within_s: float) -> Happened:
        """The first event that is wanted; those before it are passed over. Raises Unavailable."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                happened = self.next(deadline - time.monotonic())
            except Unavailable as error:
                raise Unavailable(f"what was awaited did not happen within {within_s:g} s") from error
            if wanted(happened):
                return happened

    def _read(self, daemon: Daemon, client: BlockingClient, detail: RunDetail, events: Iterator[AnyEvent]) -> None:
        newest = -1
        try:
            with client:
                for event in self._whole(daemon, detail, events):
                    if isinstance(event, RoundCertified):
                        if event.round <= newest:
                            continue
                        newest = event.round
                    self._queue.put(Happened(daemon, event))
                    if isinstance(event, RunFinished):
                        self._queue.put(Happened(daemon, Silent("the run is finished")))
                        return
        except PrimeError as error:
            self._queue.put(Happened(daemon, Silent(error.sentence)))

    def _whole(self, daemon: Daemon, detail: RunDetail, events: Iterator[AnyEvent]) -> Iterator[AnyEvent]:
        """What was before, and what happens; where events were missed, what became of it."""
        yield from _past(detail)
        for event in events:
            yield event
            if isinstance(event, EventsMissed):
                yield from _past(daemon.call(RunShow(run=self.run)))


def _past(detail: RunDetail) -> Iterator[AnyEvent]:
    yield from detail.rounds
    if detail.phase == "finished":
        yield RunFinished(run=detail.run, round=detail.head_round)
