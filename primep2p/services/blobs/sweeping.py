"""Certified models that nothing needs any more leave the disk, round by round."""

from collections.abc import Iterator

import trio

from primep2p.model.ids import Cid, RunId
from primep2p.model.records import Header, RunSpec
from primep2p.model.views.events import AnyEvent, RoundCertified
from primep2p.services.blobs.keeping import named_by, needed_by_heads, needed_by_shelf, rounds_kept
from primep2p.services.seams import Seams
from primep2p.store.seam import ShelfStore
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode

__all__ = ["Sweeping"]


class Sweeping:
    """Removes params and optimisers' states of checkpoints that are not among the newest `keep` of their run, unless a
    newer checkpoint of any run names them, or a run that has not begun, or the shelf. Certificates stay."""

    def __init__(self, seams: Seams, store: ShelfStore, keep: int) -> None:
        self._seams = seams
        self._store = store
        self._keep = keep
        self._swept: dict[RunId, int] = {}
        """The last round of each run that was looked at since the start."""
        self._due: set[RunId] = set()
        self._wake = trio.Event()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises StoreError where the disk fails."""
        self._due |= {row.run for row in await self._seams.offload(self._seams.runs.runs)}
        task_status.started()
        while True:
            while self._due:
                await self._sweep(self._due.pop())
            self._wake = trio.Event()
            await self._wake.wait()

    def hear(self, event: AnyEvent) -> None:
        """A certified round makes another one old."""
        if isinstance(event, RoundCertified):
            self._due.add(bytes.fromhex(event.run))
            self._wake.set()

    async def _sweep(self, run: RunId) -> None:
        seams = self._seams
        async with seams.keeping:
            for cid in await seams.offload(self._unneeded, run):
                await seams.offload(seams.blobs.remove, cid)

    def _unneeded(self, run: RunId) -> set[Cid]:
        """Blocks."""
        seams = self._seams
        newest, rows = seams.runs.head(run), [row for row in seams.runs.runs() if row.run == run]
        if newest is None or not rows:
            return set()  # it has not begun, or was left
        kept = rounds_kept(seams.envelopes.open(RunSpec, rows[0].spec).record, self._keep)
        old = {cid for header in self._old_headers(run, newest[0] - kept) for cid in named_by(header)}
        old = {cid for cid in old if seams.blobs.has(cid)}
        if not old:
            return set()
        needed = needed_by_heads(self._keep, seams.runs, seams.envelopes)
        return old - needed - needed_by_shelf(self._store, seams.envelopes.peer_id)

    def _old_headers(self, run: RunId, last: int) -> Iterator[Header]:
        """Of checkpoints up to round `last` that were not looked at."""
        while rows := self._seams.runs.headers(run, self._swept.get(run, -1), last):
            for round_, raw in rows:
                self._swept[run] = round_
                yield decode(Header, raw)
