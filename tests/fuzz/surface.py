"""What a target is, and where they all are found."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.fuzz import targets

__all__ = ["MAX_INPUT_BYTES", "Shape", "Surface", "load", "names"]

MAX_INPUT_BYTES = 64 * 2**10
"""More bytes find nothing that fewer do not: what is large is claimed to be, and samples of chunks are small."""


@dataclass(frozen=True)
class Shape:
    """How an input is cut into parts, so that a mutation changes one and leaves the others whole."""

    framed: bool = False
    """Parts stand behind their length as four bytes, as in every stream between nodes; else the input is one part, or
    lines of JSON."""
    prefix_bytes: int = 0
    """Of each part, before its msgpack: what the target makes of it is its own."""
    json: bool = False


@dataclass(frozen=True)
class Surface:
    """One target: `fuzz` raises AssertionError, or whatever the code raised, where a property does not hold."""

    fuzz: Callable[[bytes], None]
    corpus: Callable[[], list[bytes]]
    """Valid inputs, made in code: where mutations begin."""
    shape: Shape = Shape()
    signers: Mapping[str, object] = field(default_factory=dict)
    """`Envelopes` of those whose keys a liar has, by peer id: what they signed is signed anew once it is changed."""
    examples: tuple[bytes, ...] = ()
    """Inputs that were found to break a property once."""
    examples_per_test: int = 60
    """Mutations that `make test` tries: fewer where one costs more."""


def names() -> list[str]:
    """Every target there is."""
    return sorted(module.name for module in pkgutil.iter_modules(targets.__path__))


def load(name: str) -> Surface:
    """The target of that name, with all that it imports."""
    surface = importlib.import_module(f"{targets.__name__}.{name}").SURFACE
    assert isinstance(surface, Surface)
    return surface
