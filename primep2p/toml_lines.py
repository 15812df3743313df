"""On which line of a TOML file a key is set: tomllib reads values, and tells no places."""

import tomllib
from collections.abc import Iterator
from typing import Any

__all__ = ["lines_of"]


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1 on, of every key of a TOML file that tomllib reads, by dotted path: `p2p.listen`."""
    found: dict[str, int] = {}
    table: tuple[str, ...] = ()
    for line, statement in _statements(text):
        if statement.lstrip().startswith("["):
            table = next(_paths(tomllib.loads(statement)))
            for depth in range(len(table), 1, -1) or [1]:  # [trainer.limits.mlp] sets trainer.limits too
                found.setdefault(".".join(table[:depth]), line)
            continue
        for path in filter(None, _paths(tomllib.loads(statement))):
            found.setdefault(".".join((*table, *path)), line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each table's head and each key with its value, alone, and where it begins: the fewest lines that are TOML, since
    no part of an array or of a text over several lines is."""
    lines = text.replace("\r\n", "\n").split("\n")
    start = 0
    for end in range(1, len(lines) + 1):
        statement = "\n".join(lines[start:end])
        try:
            table = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if table:
            yield start + 1, statement
        start = end


def _paths(table: Any) -> Iterator[tuple[str, ...]]:
    """Of every value inside and of every table on the way to it, the deepest first."""
    if isinstance(table, list) and table and isinstance(table[0], dict):
        table = table[0]  # the head of one of several tables of a name
    if isinstance(table, dict):
        for key, value in table.items():
            for path in _paths(value):
                yield (key, *path)
    yield ()
