"""The end of a log file, and what is added to it."""

import json
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from primep2p.cli.render.printing import clock
from primep2p.model.text import printable

__all__ = ["follow", "for_people", "readable", "tail"]

POLL_S = 0.2
"""Files tell nobody portably that they grew; five looks a second cost nothing."""


def tail(path: Path, lines: int) -> list[str]:
    """The newest whole lines."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=max(0, lines))]


def follow(path: Path, lines: int) -> Iterator[str]:
    """The newest lines, then each new one, across rotations; never ends."""
    file = path.open(encoding="utf-8", errors="replace")
    yield from (line.rstrip("\n") for line in deque(file, maxlen=max(0, lines)))
    pending = ""
    while True:
        pending += file.read()
        *whole, pending = pending.split("\n")
        yield from whole
        if whole:
            continue
        if _rotated(path, file.fileno()):
            file.close()
            file = path.open(encoding="utf-8", errors="replace")
        else:
            time.sleep(POLL_S)


def readable(line: str) -> str:
    """A line of the log for people, without what would drive a terminal; with its traceback, it is several."""
    try:
        return for_people(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return printable(line)


def for_people(fields: dict[str, Any]) -> str:
    """What happened, from what a line of the log holds; takes `fields` apart."""
    moment = datetime.fromisoformat(fields.pop("timestamp")).astimezone()
    head = f"{moment:%Y-%m-%d} {clock(moment)} {fields.pop('level'):7} {fields.pop('event')}"
    fields.pop("logger", None)
    traceback = fields.pop("exception", "")
    rest = "".join(f" {key}={value}" for key, value in fields.items() if value != "")
    return "\n".join(map(printable, [head + rest, *traceback.splitlines()]))


def _rotated(path: Path, descriptor: int) -> bool:
    import os

    try:
        return path.stat().st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False  # between two files: the new one comes with the next line
