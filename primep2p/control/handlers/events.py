"""The stream of what happens."""

from collections.abc import AsyncIterator
from typing import Protocol

from primep2p.control.calls.events import EventsWatch
from primep2p.control.handlers.table import streams
from primep2p.model.views.events import AnyEvent
from primep2p.services.watching.hub import Hub

__all__ = ["EventVerbs"]


class EventVerbs(Protocol):
    """What a node tells."""

    @property
    def events(self) -> Hub: ...

    def run_named(self, prefix: str) -> str:
        """A run's whole id. Raises CallError."""
        ...


@streams(EventsWatch)
def watch(node: EventVerbs, call: EventsWatch) -> AsyncIterator[AnyEvent]:
    run = node.run_named(call.run) if call.run else ""
    return node.events.watch(kinds=call.kinds, run=run, after=call.after)
