"""The call that tells what happens."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.events import AnyEvent

__all__ = ["EventsWatch"]


class EventsWatch(Call[AnyEvent], frozen=True):
    """Show what happens on this node, as it happens. The newest events are kept, so that whoever was away goes on where
    it was: every event has a cursor, and those that run.show and daemon.status answer with say where the answer ends.
    What is not kept any more is told as one event, events-missed, and never left out in silence."""

    name: ClassVar[str] = "events.watch"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "events watch"
    stream: ClassVar[bool] = True

    kinds: Annotated[
        tuple[str, ...], Meta(max_length=64, description="Only these kinds, as step-changed; none: every kind.")
    ] = ()
    run: Annotated[
        str,
        Meta(
            description="A run's id, or the beginning of it: its events and those of the node itself, until the run is "
            "finished. Empty: those of all runs, for ever."
        ),
    ] = ""
    after: Annotated[
        str,
        Meta(
            description="The cursor of the last event that is known, or `oldest` for all that is kept; empty: only "
            "what happens from now on."
        ),
    ] = ""
