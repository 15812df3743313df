"""Lines, tables and JSON on stdout: what all that is shown is made with.

Names, reasons and metrics are words of peers: all that is printed here goes through `printable`.
"""

import os
import re
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from primep2p.model.text import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "SHORT",
    "cells",
    "clock",
    "columns",
    "duration",
    "is_terminal",
    "many",
    "mib",
    "number",
    "print_json",
    "print_table",
    "say",
    "size",
    "yes",
]


SHORT = 12
"""Digits of a hash that people compare."""


def print_json(answer: object) -> None:
    """One line, at once: a pipe may be waiting for it."""
    line = msgspec.json.encode(answer).decode()
    # JSON itself escapes the older control characters, and not these, which drive terminals too.
    sys.stdout.write(re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether stdout can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def clock(moment: datetime) -> str:
    """A time of the day, as everywhere where one is shown."""
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def duration(seconds: float) -> str:
    """A time span in the two units that matter."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"


def number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"


def size(size_bytes: int) -> str:
    """In the unit that has one to four digits before the point."""
    if size_bytes < 10_000:
        return f"{size_bytes} B"
    return f"{size_bytes / 2**10:.0f} KiB" if size_bytes < 10_000 * 2**10 else mib(size_bytes)


def yes(value: bool) -> str:
    return "yes" if value else "no"


def say(line: str = "") -> None:
    """At once: a pipe may be waiting for it."""
    print(printable(line), flush=True)


def cells(row: Iterable[object]) -> Iterable[str]:
    return (printable(str(each)) for each in row)


def columns(*headings: str) -> "Table":
    """Columns whose heading starts with > are set right. One that starts with ! is shown whole, and the others take
    several lines where they must."""
    from rich.table import Table  # takes longer to import than all else that a command needs

    folds = any(heading.startswith("!") for heading in headings)
    table = Table(box=None, pad_edge=False, collapse_padding=folds, header_style="bold")
    for heading in headings:
        table.add_column(
            heading.lstrip(">!"),
            justify="right" if heading.startswith(">") else "left",
            no_wrap=not folds or heading.startswith("!"),
            overflow="fold" if folds else "ellipsis",
        )
    return table


def print_table(table: "Table") -> None:
    from rich.console import Console

    # What is not a terminal has room for whole ids.
    width = None if sys.stdout.isatty() else 10_000
    Console(markup=False, highlight=False, width=width).print(table)
