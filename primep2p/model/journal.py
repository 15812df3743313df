"""What a node writes down before anything depends on it, one entry after another, for each round."""

from msgspec import Struct

__all__ = ["JournalEntry", "Moved", "Signed", "Unreadable"]


class Entry(Struct, frozen=True, array_like=True, tag=True):
    """A journal entry."""


class Signed(Entry, frozen=True, tag="signed"):
    """An envelope that this node signed; for a proposal also the header and bundle that it puts forward."""

    envelope: bytes
    header: bytes = b""
    bundle: bytes = b""


class Moved(Entry, frozen=True, tag="moved"):
    """A quorum of prevotes made a header the valid value of a view, and the lock too where `locked`."""

    view: int
    locked: bool
    header: bytes
    bundle: bytes
    prevotes: tuple[bytes, ...]


class Unreadable(Entry, frozen=True, tag="unreadable"):
    """Stands for an entry whose bytes say nothing any more: it may have been any signature, or any lock."""


JournalEntry = Signed | Moved | Unreadable
