"""The end of a log file, and what is added to it."""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from primep2p.cli.render.printing import clock
from primep2p.model.text import printable

__all__ = ["follow", "for_people", "readable", "tail"]

POLL_S = 0.2
"""Files tell nobody portably that they grew; five looks a second cost nothing."""


def tail(path: Path, lines: int) -> list[str]:
    """The newest whole lines, from the file before it too where a new one has just begun."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return _newest(file, path, lines)


def _newest(file: TextIO, path: Path, lines: int) -> list[str]:
    newest = [line.rstrip("\n") for line in deque(file, maxlen=max(0, lines))]
    before = path.with_name(f"{path.name}.1")
    if len(newest) < lines and before.exists():
        with before.open(encoding="utf-8", errors="replace") as older:
            newest[:0] = [line.rstrip("\n") for line in deque(older, maxlen=lines - len(newest))]
    return newest


def follow(path: Path, lines: int) -> Iterator[str]:
    """The newest lines, then each new one, across rotations; never ends."""
    file = path.open(encoding="utf-8", errors="replace")
    yield from _newest(file, path, lines)
    pending = ""
    while True:
        is_over = _rotated(path, file.fileno())  # looked at before the last read: what was written until then is in it
        pending += file.read()
        *whole, pending = pending.split("\n")
        yield from whole
        if is_over:
            file.close()
            file = path.open(encoding="utf-8", errors="replace")
        elif not whole:
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
    try:
        return path.stat().st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False  # between two files: the new one comes with the next line
