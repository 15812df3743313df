"""Which node a command means: the same two options everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from primep2p.config import NodeConfig, load
from primep2p.control.client import BlockingClient
from primep2p.model.errors import PrimeError

__all__ = ["HERE", "At", "Json", "Verbose", "flag"]

_SEE = "see: primep2p "
"""How a hint of the daemon begins that is a command."""


def flag(*names: str, help: str) -> Parameter:
    """An option that is there or not, without a --no- twin."""
    return Parameter(name=names, negative="", show_default=False, help=help)


Json = Annotated[bool, flag("--json", help="Print JSON, a line each.")]
Verbose = Annotated[bool, flag("--verbose", "-v", help="Show each step too.")]


@Parameter(name="*")
@dataclass(frozen=True)
class At:
    """A node, by its home or its configuration."""

    home: Annotated[Path | None, Parameter(name="--home", help="The node's home; beats node.home.")] = None
    config: Annotated[
        Path | None,
        Parameter(
            name=["--config", "-c"],
            help="The node's configuration; else $PRIMEP2P_CONFIG, else node.toml in its home.",
        ),
    ] = None

    def load(self) -> NodeConfig:
        """Raises ConfigError."""
        return load(self.config, home=self.home)

    @property
    def options(self) -> str:
        """What names this node in a further command."""
        named = [("--home", self.home), ("-c", self.config)]
        return " ".join(f"{option} {quote(str(path))}" for option, path in named if path is not None)

    def command(self, words: str) -> str:
        """The line of a further command to this node."""
        return f"primep2p {words} {self.options}".rstrip()

    @contextmanager
    def connect(self) -> Iterator[BlockingClient]:
        """A client of its daemon, whose hints name this node as the command did. Raises Unavailable where none runs."""
        try:
            with BlockingClient(self.load().home, self.options) as client:
                yield client
        except PrimeError as error:
            if error.hint.startswith(_SEE) and self.options not in error.hint:  # a command may hold two clients
                error.hint += f" {self.options}"
            raise


HERE = At()
