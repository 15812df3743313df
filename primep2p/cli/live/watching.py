"""A run in a terminal of its own while it goes on: redrawn when something happens, and when the terminal is resized."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from primep2p.cli.live.draw import frame
from primep2p.cli.live.scene import Scene
from primep2p.model.errors import PrimeError
from primep2p.model.views.events import AnyEvent, EventsMissed
from primep2p.model.views.runs import RunDetail

__all__ = ["watch_live"]

TICK_S = 1.0
"""The time since the last step is shown, and moves without events."""

LEAST_FRAME_S = 0.1
"""More frames a second nobody sees; what happens meanwhile is in the next one."""


class _Over:
    """No more events come; `error` is why, where the run is not finished."""

    def __init__(self, error: PrimeError | None) -> None:
        self.error = error


Incoming = AnyEvent | _Over | None  # None: only draw again


def watch_live(scene: Scene, events: Iterator[AnyEvent], ask: Callable[[], RunDetail]) -> None:
    """Draws until the run is finished. `ask` says what the node says of the run now, for when events were missed.
    Leaves the terminal as it was, also when interrupted. Raises what ends `events`."""
    incoming: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(events, incoming), daemon=True).start()
    console = Console(highlight=False, markup=False)
    with _on_resize(incoming), Live(Text(), console=console, screen=True, auto_refresh=False) as live:
        while not scene.finished:
            live.update(frame(scene, *console.size, time.time()), refresh=True)
            drawn_at = time.monotonic()
            for event in _all_waiting(incoming):
                match event:
                    case _Over(error=error):
                        if error is not None:
                            raise error
                        return
                    case EventsMissed():
                        scene.renew(ask())
                    case None:
                        continue
                    case _:
                        scene.apply(event)
            time.sleep(max(0.0, drawn_at + LEAST_FRAME_S - time.monotonic()))


def _read(events: Iterator[AnyEvent], incoming: "queue.SimpleQueue[Incoming]") -> None:
    try:
        for event in events:
            incoming.put(event)
    except PrimeError as error:
        incoming.put(_Over(error))
    else:
        incoming.put(_Over(None))


def _all_waiting(incoming: "queue.SimpleQueue[Incoming]") -> Iterator[Incoming]:
    """The next, which is waited for at most a tick, and all that came with it."""
    try:
        yield incoming.get(timeout=TICK_S)
        while True:
            yield incoming.get_nowait()
    except queue.Empty:
        return


@contextmanager
def _on_resize(incoming: "queue.SimpleQueue[Incoming]") -> Iterator[None]:
    """The next frame at once where the terminal has another size."""
    before = signal.signal(signal.SIGWINCH, lambda number, at: incoming.put(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
