"""A model on its way here, for people: a bar on stderr."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from primep2p.model.views.events import (
    KINDS,
    AnyEvent,
    ModelNotPulled,
    ModelPulled,
    ModelPulling,
    TransferBegun,
    TransferMoved,
)

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PULL_KINDS", "show_pull"]

PULL_KINDS = tuple(KINDS[kind] for kind in (ModelPulling, ModelPulled, ModelNotPulled, TransferBegun, TransferMoved))
"""The events that a bar is made of."""


def show_pull(events: Iterable[AnyEvent], asked: str, console: "Console | None" = None) -> None:
    """Until the model that was `asked` for is here, or cannot be had."""
    # By name: rich takes longer to import than all else that a command needs.
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console or Console(stderr=True), transient=True) as bar:
        task, params = bar.add_task("asking the directory", total=None), ""
        for event in events:
            match event:
                case ModelPulling(asked=model, params=params, bytes=total) if model == asked:
                    bar.update(task, description="fetching", total=total)
                case TransferBegun(cid=cid) | TransferMoved(cid=cid) if cid == params:
                    bar.update(task, completed=event.bytes_here)
                case ModelPulled(asked=model) | ModelNotPulled(asked=model) if model == asked:
                    return
