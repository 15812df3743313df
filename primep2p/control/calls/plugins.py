"""Calls about trainers."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.plugins import PluginLog, PluginView

__all__ = ["PluginList", "PluginLogs"]


class PluginList(Call[list[PluginView]], frozen=True):
    """List the trainers that runs of this node can name, and whether each loads: tried in a process of its own."""

    name: ClassVar[str] = "plugin.list"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "plugin list"
    deadline_s: ClassVar[float] = 600.0  # a framework may take half a minute to import

    names_only: Annotated[bool, Meta(description="Start no process: say only what there is.")] = False


class PluginLogs(Call[PluginLog], frozen=True):
    """Print the newest lines that a trainer has printed."""

    name: ClassVar[str] = "plugin.logs"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "plugin logs"

    of: Annotated[
        str,
        Meta(description="The beginning of a run's id, or a trainer's name: what it printed while it made params."),
    ]
    lines: Annotated[int, Meta(ge=1, le=1000, description="How many of the newest lines.")] = 50
