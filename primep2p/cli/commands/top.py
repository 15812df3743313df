"""`primep2p top`."""

from importlib import import_module
from importlib.util import find_spec

from primep2p.cli.at import HERE, At
from primep2p.cli.render.printing import is_terminal
from primep2p.model.errors import ConfigError

__all__ = ["top"]


def top(*, at: At = HERE) -> None:
    """Look at a node on the whole screen: its runs, peers, rounds and transfers, and what happens. Keys are shown; q
    quits. When the daemon stops, it waits for it to come back."""
    if find_spec("textual") is None:
        raise ConfigError("top needs the package textual", hint='pip install "primep2p[top]"')
    if not is_terminal():
        raise ConfigError("top needs a terminal", hint=f"for programs: {at.command('events watch --json')}")
    with at.connect():
        pass  # a daemon that does not run is one sentence, and no screen
    # By name: textual is heavy, and not always there.
    feed = import_module("primep2p.cli.top.feed").Feed(at.connect)
    import_module("primep2p.cli.top.app").Top(feed).run()
