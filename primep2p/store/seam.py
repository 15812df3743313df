"""What services need of the disk. Methods block: call them in a worker thread. All raise StoreError with the path."""

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from primep2p.model.ids import Cid, Hash, PeerId, RunId
from primep2p.model.records import Checkpoint, Manifest

__all__ = [
    "BlobStore",
    "KeptRow",
    "Partial",
    "RunRow",
    "RunStore",
    "ShelfRow",
    "ShelfStore",
    "Standing",
    "StoredCheckpoint",
]


class Partial(Protocol):
    """A blob on its way in. Kept across restarts: beginning again finds the chunks that were written."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def missing(self) -> frozenset[int]:
        """Indices of chunks not yet written."""
        ...

    def write(self, index: int, chunk: bytes) -> None:
        """Store a chunk. Raises PeerError if it is not the one that the manifest names."""
        ...

    def finish(self, *, durable: bool) -> None:
        """All chunks are there: it becomes a blob."""
        ...


class BlobStore(Protocol):
    """Immutable bytes under their CID."""

    def add(self, path: Path, *, durable: bool) -> Cid:
        """Take over the file at `path` (moved where the file system allows, else copied). Durable: on disk for good
        when this returns. Adding what is there already is cheap and removes `path`."""
        ...

    def has(self, cid: Cid) -> bool: ...

    def path(self, cid: Cid) -> Path:
        """The file with the blob's bytes, to be mapped read-only. Raises BlobLost where it is missing or has
        another size than its manifest."""
        ...

    def manifest(self, cid: Cid) -> bytes | None:
        """The manifest's exact bytes, or None where the blob is not held whole."""
        ...

    def chunk(self, cid: Cid, index: int) -> bytes:
        """One chunk, verified. A damaged blob is set aside (no longer held) and raises BlobLost."""
        ...

    def verify(self, cid: Cid) -> bool:
        """Whether every byte is right; a damaged blob is set aside, to be fetched again."""
        ...

    def begin(self, cid: Cid, manifest: bytes) -> Partial:
        """Start or resume a blob. Raises PeerError if `manifest` is not the one that `cid` names or is malformed."""
        ...

    def remove(self, cid: Cid, *, unless_durable: bool = False) -> None:
        """Forget a blob, or with `unless_durable` one that nobody has wanted to stay; what is not there is fine."""
        ...


class StoredCheckpoint(Struct, frozen=True):
    """A certified checkpoint with the encoded RunState after it."""

    checkpoint: Checkpoint
    state: bytes
    at_s: float = 0.0
    """Unix time at which this node had it; 0 where that was not written down."""


class RunRow(Struct, frozen=True):
    """A run that this node takes part in."""

    run: RunId
    spec: bytes
    """The RunSpec's envelope."""
    join: bytes
    """This node's own Join's envelope, newest."""
    pin: Hash | None
    """A header that the owner trusts."""
    pin_round: int
    own_loop: bool = False
    """Its owner trains in a loop of their own, whatever trainer the run names."""


class Standing(Struct, frozen=True):
    """What the owner of this node wants of it in a run."""

    paused: bool = False
    """It votes, and does not train."""
    leave: bytes = b""
    """The envelope of its Leave; empty: it stays."""
    has_left: bool = False
    """It is out, and does nothing more for the run."""


class RunStore(Protocol):
    """Runs, their certified chain, and the journal of what this node signed."""

    def save_run(self, row: RunRow) -> None:
        """Insert or replace, durably."""
        ...

    def runs(self) -> list[RunRow]: ...

    def renew_run(self, row: RunRow) -> None:
        """Replace a run's row and forget what was signed in it: another identity takes part from now on. Durable, all
        or nothing; the certified chain stays."""
        ...

    def standing(self, run: RunId) -> Standing:
        """What was saved; else that nothing is wanted."""
        ...

    def save_standing(self, run: RunId, standing: Standing) -> None:
        """Insert or replace, durably."""
        ...

    def forget_run(self, run: RunId) -> None:
        """All that is held of a run, durably; blobs stay. What is not there is fine."""
        ...

    def append(self, run: RunId, round: int, entries: list[bytes]) -> None:
        """Journal entries, durable when this returns, all or none."""
        ...

    def entries(self, run: RunId, round: int) -> list[bytes]:
        """The journal entries of a round, in order. Entries of rounds long certified may be gone."""
        ...

    def commit(self, run: RunId, round: int, stored: StoredCheckpoint) -> None:
        """A certified checkpoint, durable when this returns. The same again is fine."""
        ...

    def checkpoint(self, run: RunId, round: int) -> StoredCheckpoint | None: ...

    def head(self, run: RunId) -> tuple[int, StoredCheckpoint] | None:
        """The newest round with its checkpoint."""
        ...

    def chain(self, run: RunId, first: int, count: int) -> list[StoredCheckpoint]:
        """Up to `count` checkpoints in a row from round `first`."""
        ...

    def headers(self, run: RunId, after: int, last: int) -> list[tuple[int, bytes]]:
        """Up to 64 rounds above `after`, to `last`, with their certified headers' bytes, whatever gaps there are."""
        ...

    def remember(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Where a member was last heard of: a hint for the next start."""
        ...

    def addresses(self) -> dict[PeerId, tuple[str, ...]]:
        """All that is remembered of members' addresses."""
        ...

    def accuse(self, peer: PeerId, reason: str, evidence: bytes | None, *, run: RunId | None) -> None:
        """Count a fault; keep evidence."""
        ...

    def accusations(self, run: RunId | None = None) -> list[tuple[PeerId, str, int]]:
        """Peer, reason, how often."""
        ...

    def evidence(self, run: RunId) -> list[tuple[PeerId, bytes]]:
        """Encoded Evidence records kept for a run."""
        ...


class ShelfRow(Struct, frozen=True):
    """The newest record that this node has seen of a name; of the owner's index, where `name` is empty."""

    owner: PeerId
    name: str
    record: bytes
    """The envelope."""
    catalog: bytes | None
    """The bytes of the catalog that the record names, once they are here."""


class KeptRow(Struct, frozen=True):
    """A version of somebody else's model whose params stay here."""

    owner: PeerId
    name: str
    label: str
    catalog: Cid
    """The catalog that it was found in."""
    version: bytes
    """An encoded ModelVersion."""
    since: float
    """When it was pulled, in seconds since 1970."""


class ShelfStore(Protocol):
    """Models under names."""

    def save(self, *rows: ShelfRow) -> None:
        """Insert or replace, durably, all or none."""
        ...

    def row(self, owner: PeerId, name: str) -> ShelfRow | None: ...

    def rows(self, owner: PeerId) -> list[ShelfRow]:
        """All of one owner's, by name."""
        ...

    def keep(self, row: KeptRow) -> None:
        """Insert or replace, durably."""
        ...

    def kept(self) -> list[KeptRow]: ...

    def drop(self, owner: PeerId, name: str, label: str) -> None:
        """Not kept any more; what is not there is fine."""
        ...
