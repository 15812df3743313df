"""Which node a command means: the same two options everywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from primep2p.config import NodeConfig, load
from primep2p.control.client import BlockingClient

__all__ = ["HERE", "At", "Json", "Verbose", "flag"]


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

    def connect(self) -> BlockingClient:
        """A client of its daemon. Raises Unavailable where none runs."""
        return BlockingClient(self.load().home)


HERE = At()
