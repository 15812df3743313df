"""A configuration for people: TOML that can be kept, with where each value comes from beside it."""

import json
import re
from itertools import groupby
from typing import Literal

from msgspec import Struct

from primep2p.cli.render.printing import say

__all__ = ["ConfigValue", "ConfigView", "show_config"]


class ConfigValue(Struct, frozen=True, kw_only=True):
    """A key, by its path, with who set it and where: FILE:LINE, a variable, or an option."""

    key: str
    value: object
    origin: Literal["default", "file", "environment", "option"]
    place: str


class ConfigView(Struct, frozen=True, kw_only=True):
    """All keys, in the order of node.toml; `file` is empty where none was read."""

    file: str
    values: list[ConfigValue]


def show_config(view: ConfigView) -> None:
    """A table a section; without a comment, a value is the default."""
    lines = {value.key: f"{value.key.partition('.')[2]} = {_toml(value.value)}" for value in view.values}
    commented = [len(lines[value.key]) for value in view.values if value.place]
    width = min(max(commented, default=0), 60)
    say(f"# {view.file or 'no file was read'}; what has no comment is the default")
    for section, values in groupby(view.values, key=lambda value: value.key.partition(".")[0]):
        say()
        say(f"[{section}]")
        for value in values:
            say(f"{lines[value.key]:{width}}  # {value.place}" if value.place else lines[value.key])


def _toml(value: object) -> str:
    """A value as TOML: what JSON writes is right for text, numbers and truth."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(str(key))} = {_toml(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
