"""`primep2p config`: check, show. No daemon is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json
from primep2p.cli.exits import EXIT_CODES
from primep2p.cli.render.config import ConfigValue, ConfigView, show_config
from primep2p.cli.render.printing import print_json, say
from primep2p.config import Effective, Origin, effective
from primep2p.model.errors import ConfigError
from primep2p.strict import plain

__all__ = ["app", "told"]

CONFIGURED_WRONG = EXIT_CODES[ConfigError]

app = App(name="config", help="The configuration of this node.", help_format="plaintext")


class Checked(msgspec.Struct, frozen=True):
    """What is wrong in a configuration."""

    file: str
    mistakes: list[str]


@app.command
def check(
    file: Annotated[Path | None, Parameter(help="A node.toml; else the one that a daemon would read.")] = None,
    *,
    json: Json = False,
    at: At = HERE,
) -> int:
    """Say what is wrong in a configuration, all of it: 0 where a daemon would start with it, else 2."""
    try:
        found = effective(file or at.config, home=at.home)
    except ConfigError as error:
        return told(str(file or at.config or ""), error.mistakes, json=json)
    return told(str(found.file or ""), [], json=json)


def told(file: str, mistakes: Sequence[str], *, json: bool) -> int:
    """Prints every mistake, one a line; gives the exit code."""
    if json:
        print_json(Checked(file, list(mistakes)))
    else:
        for line in mistakes or [f"{file or 'no file, all defaults'}: no mistake"]:
            say(line)
    return CONFIGURED_WRONG if mistakes else 0


@app.command
def show(*, json: Json = False, at: At = HERE) -> None:
    """Print what a daemon would run with, as a node.toml, and where each value comes from."""
    view = _view(effective(at.config, home=at.home))
    print_json(view) if json else show_config(view)


def _view(found: Effective) -> ConfigView:
    default = Origin("default")
    values = []
    for section in msgspec.structs.fields(type(found.config)):
        for field in msgspec.structs.fields(section.type):
            key = f"{section.name}.{field.name}"
            origin = found.origins.get(key, default)
            value = plain(getattr(getattr(found.config, section.name), field.name))
            values.append(ConfigValue(key=key, value=value, origin=origin.kind, place=origin.place))
    return ConfigView(file=str(found.file) if found.file else "", values=values)
