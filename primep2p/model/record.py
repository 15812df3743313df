"""What every record between peers is: a frozen array."""

from msgspec import Struct

__all__ = ["Record"]


class Record(Struct, frozen=True, array_like=True):
    """A frozen array; equality is by value."""
