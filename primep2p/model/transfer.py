"""What travels on /primep2p/blob/1: a question on a stream of the asker's, the answer behind it, then the next one.

The answer to Want is Has, if it was asked for, then the chunks in order, as many of them as the blob has from `first`
on; or Refused at any point, which ends it. Nothing is signed: the CID says which bytes are right.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from primep2p.model.ids import Cid
from primep2p.model.records import MAX_CHUNKS

__all__ = ["MAX_WANTED", "BlobAnswer", "Chunk", "Has", "Refused", "Want"]

MAX_WANTED = 16
"""Chunks in one answer: 16 MiB, after which the asker may prefer somebody else."""

Index = Annotated[int, Meta(ge=0, lt=MAX_CHUNKS)]


class Message(Struct, frozen=True, array_like=True, tag=True):
    """One frame."""


class Want(Message, frozen=True, tag="want"):
    """Chunks `first` and up to `count - 1` more of a blob, please; its manifest first if `manifest`."""

    cid: Cid
    first: Index
    count: Annotated[int, Meta(ge=0, le=MAX_WANTED)]
    manifest: bool


class Has(Message, frozen=True, tag="has"):
    """The manifest's exact bytes."""

    manifest: bytes


class Chunk(Message, frozen=True, tag="chunk"):
    """One chunk."""

    index: Index
    content: bytes


class Refused(Message, frozen=True, tag="refused"):
    """No more than this: not held here, or too many conversations at once."""

    reason: Literal["absent", "busy"]


BlobAnswer = Has | Chunk | Refused
