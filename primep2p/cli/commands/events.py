"""`primep2p events`."""

from typing import Annotated

from cyclopts import App

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.derive import described
from primep2p.cli.render.events import show_event
from primep2p.cli.render.printing import print_json
from primep2p.control.calls.events import EventsWatch

__all__ = ["app"]

app = App(name="events", help="What happens on this node.", help_format="plaintext")


@app.command
def watch(
    *,
    kinds: Annotated[tuple[str, ...], described(EventsWatch, "kinds", name="--kind", negative="")] = (),
    run: Annotated[str, described(EventsWatch, "run")] = "",
    after: Annotated[str, described(EventsWatch, "after")] = "",
    json: Json = False,
    at: At = HERE,
) -> None:
    """Print what happens on this node as it happens, until Ctrl-C. With --json each event has a cursor: --after goes on
    there."""
    with at.connect() as client:
        for event in client.stream(EventsWatch(kinds=kinds, run=run, after=after)):
            print_json(event) if json else show_event(event)
