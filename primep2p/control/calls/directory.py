"""Calls to the directory: pointers that nodes hold for each other in the DHT."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.directory import DirectoryProviders, DirectoryValue, Published

__all__ = ["DhtGet", "DhtProvide", "DhtProviders", "DhtPut"]

Key = Annotated[str, Meta(min_length=1, max_length=50, description="At most 50 printable bytes.")]

LOOKUP_S = 30.0
"""A look-up takes 10 s at the most, and two may be needed."""


class DhtGet(Call[DirectoryValue], frozen=True):
    """Print the newest record that a peer has published under a key of its own."""

    name: ClassVar[str] = "dht.get"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "dht get"
    deadline_s: ClassVar[float] = LOOKUP_S

    key: Key
    owner: Annotated[str, Meta(description="Whose record: a whole peer id; empty: this node's.")] = ""


class DhtPut(Call[Published], frozen=True):
    """Publish a record under a key of this node's own, signed by it, in place of the one before. Keys with a colon are
    those that nodes use themselves: they are refused."""

    name: ClassVar[str] = "dht.put"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "dht put"
    deadline_s: ClassVar[float] = LOOKUP_S

    key: Key
    value: Annotated[str, Meta(max_length=8192, description="At most 4,096 bytes in UTF-8; or in base64, see below.")]
    base64: Annotated[bool, Meta(description="The value is bytes in base64.")] = False


class DhtProvide(Call[Published], frozen=True):
    """Tell others that this node holds what a key stands for. Of a CID that must be true, and keys with a colon are
    those that nodes use themselves: they are refused."""

    name: ClassVar[str] = "dht.provide"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "dht provide"
    deadline_s: ClassVar[float] = LOOKUP_S

    key: Key


class DhtProviders(Call[DirectoryProviders], frozen=True):
    """List the peers that say that they hold what a key or a CID stands for."""

    name: ClassVar[str] = "dht.providers"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "dht providers"
    deadline_s: ClassVar[float] = LOOKUP_S

    key: Annotated[str, Meta(min_length=1, max_length=128, description="A key, or the CID of a blob.")]
