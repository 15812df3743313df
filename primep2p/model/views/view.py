"""What answers of the control socket are made of."""

from msgspec import Struct

__all__ = ["View"]


class View(Struct, frozen=True, kw_only=True):
    """Read-only."""
