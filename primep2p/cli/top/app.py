"""`primep2p top` on the screen: a line about the node, a pane for each of the things that it knows, and the keys."""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static, TabbedContent, TabPane

from primep2p.cli.top.feed import Feed
from primep2p.cli.top.panes import PANES, fitted, head_line

__all__ = ["Top"]

FRAME_S = 0.2
"""How often it is looked whether something is to be drawn anew: what happens comes by itself."""


class Top(App[None]):
    """Draws the picture of `feed`, which it starts and ends."""

    CSS = """
    #node { height: 1; background: $boost; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    Footer { scrollbar-size: 0 0; }
    VerticalScroll { scrollbar-size-vertical: 1; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(place), f"show('{name}')", name.capitalize()) for place, name in enumerate(PANES, 1)),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        self._drawn = (-1, "", 0)

    def compose(self) -> ComposeResult:
        """See the class."""
        yield Static(id="node")
        with TabbedContent(initial="runs", id="panes"):
            for name in PANES:
                with TabPane(name.capitalize(), id=name), VerticalScroll(id=f"{name}-scroll"):
                    yield Static(id=f"{name}-lines")
        yield Footer()

    def on_mount(self) -> None:
        """Begins to listen and to draw."""
        self._feed.start()
        self.set_interval(FRAME_S, self._draw)
        self._focus()

    def on_unmount(self) -> None:
        """Nobody looks any more."""
        self._feed.end()

    def action_show(self, name: str) -> None:
        """Another pane."""
        self.query_one("#panes", TabbedContent).active = name

    def on_tabbed_content_tab_activated(self) -> None:
        """The keys that scroll are for the pane that is seen."""
        self._focus()
        self._draw()

    def _focus(self) -> None:
        name = self.query_one("#panes", TabbedContent).active
        if name:
            self.query_one(f"#{name}-scroll").focus()

    def _draw(self) -> None:
        """The pane that is seen, where it is not as it was."""
        name = self.query_one("#panes", TabbedContent).active
        width = self.size.width
        if not name or self._drawn == (self._feed.changes, name, width):
            return
        with self._feed.lock:
            self._drawn = self._feed.changes, name, width
            head = head_line(self._feed.picture, self._feed.trouble, width)
            lines = PANES[name](self._feed.picture, width - 2)
        self.query_one("#node", Static).update(head)
        self.query_one(f"#{name}-lines", Static).update(fitted(lines, width - 2))
