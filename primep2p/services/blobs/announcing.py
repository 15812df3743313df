"""Telling the directory which blobs this node holds, in the background: a provider record takes 0.1 to 0.3 s."""

import trio

from primep2p.model.errors import Unavailable
from primep2p.model.ids import Cid
from primep2p.net.host import Directory
from primep2p.store.seam import BlobStore
from primep2p.tasks import TaskStatus

__all__ = ["MAX_ANNOUNCED", "REPEAT_S", "Announcing", "directory_key"]

MAX_ANNOUNCED = 1024
"""Blobs that this node keeps announcing. When one more comes, the one announced first is not repeated any more: it
is the one that most others have had time to fetch."""

REPEAT_S = 12 * 3600.0
"""Half of what provider records live; a restart begins anew."""

RETRY_S = 30.0
"""After a failure: the directory is of no use until somebody is connected."""


def directory_key(cid: Cid) -> str:
    """Where the directory lists who holds a blob: its keys are short, and the end of a CID is all hash."""
    return "blob:" + cid[-40:]


class Announcing:
    """One task that provides one blob after the other."""

    def __init__(self, directory: Directory, blobs: BlobStore) -> None:
        self._directory = directory
        self._blobs = blobs
        self._due_s: dict[Cid, float] = {}
        self._added = trio.Event()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        task_status.started()
        while True:
            cid = min(self._due_s, key=self._due_s.__getitem__, default=None)
            if cid is None or self._due_s[cid] > trio.current_time():
                self._added = trio.Event()
                with trio.move_on_at(trio.current_time() + REPEAT_S if cid is None else self._due_s[cid]):
                    await self._added.wait()
            elif not self._blobs.has(cid):
                del self._due_s[cid]
            else:
                await self._provide(cid)

    def add(self, cid: Cid) -> None:
        """Announce a blob soon, and again and again for as long as it is held."""
        if cid not in self._due_s and len(self._due_s) >= MAX_ANNOUNCED:
            del self._due_s[next(iter(self._due_s))]
        self._due_s[cid] = trio.current_time()
        self._added.set()

    async def _provide(self, cid: Cid) -> None:
        try:
            await self._directory.provide(directory_key(cid))
            pause_s = REPEAT_S
        except Unavailable:
            pause_s = RETRY_S
        if cid in self._due_s:
            self._due_s[cid] = trio.current_time() + pause_s
