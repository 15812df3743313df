"""What a run is given by its node: the seams through which it trains, fetches, stores and speaks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import trio

from primep2p.model.ids import Cid, PeerId
from primep2p.model.views.events import AnyEvent
from primep2p.net.host import Host
from primep2p.plugin.process import Trained
from primep2p.services.aggregating.compute import Compute
from primep2p.services.peers.book import Book
from primep2p.services.peers.members import Overlay
from primep2p.services.peers.sync import Sync
from primep2p.services.runs.claims import Claims
from primep2p.services.training.turns import Gate
from primep2p.store.seam import BlobStore, RunStore
from primep2p.tasks import Offload, TaskStatus
from primep2p.wire.envelope import Envelopes

__all__ = ["Seams", "TrainingVerbs", "Transfers"]


class TrainingVerbs(Protocol):
    """What a run needs of its trainer."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...
    async def prepare(self) -> None: ...
    async def train(self, round: int, params: Path) -> Trained: ...
    async def evaluate(self, round: int, params: Path) -> dict[str, float]: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Transfers(Protocol):
    """What a run needs of blob transfer."""

    async def fetch(self, cid: Cid, providers: Sequence[PeerId], *, max_bytes: int, durable: bool = False) -> None: ...
    async def provide(self, cid: Cid) -> None: ...


@dataclass(frozen=True)
class Seams:
    """What a run is given: shared by all runs of a node."""

    envelopes: Envelopes
    host: Host
    blobs: BlobStore
    runs: RunStore
    overlay: Overlay
    book: Book
    sync: Sync
    transfer: Transfers
    tell: Callable[[AnyEvent], None]
    offload: Offload
    """For what blocks."""
    compute: Compute
    gate: Gate
    """What says whether a run may train now."""
    unix_time: Callable[[], float]
    """This node's clock: what a run's time is over by."""
    scratch: Path
    residuals: Path
    """Where each run keeps what its deltas left out."""
    keep_updates: int
    addresses: Callable[[], tuple[str, ...]]
    """Where this node can be dialled."""
    claims: Claims = field(default_factory=Claims)
    """Which runs need which deltas."""
    keeping: trio.Lock = field(default_factory=trio.Lock)
    """Held by whoever begins to need a blob that may be old, until that is written down; and by whoever removes what
    nothing needs."""
