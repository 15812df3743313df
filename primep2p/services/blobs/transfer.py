"""Blobs between peers: serves those that this node holds, fetches others, and tells the directory."""

from collections.abc import Callable, Sequence

import trio

from primep2p.core.fetch import Fetch
from primep2p.model.errors import StoreError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.net.host import Host
from primep2p.services.blobs.announcing import Announcing, directory_key
from primep2p.services.blobs.fetching import Fetching
from primep2p.services.blobs.progress import Tell
from primep2p.services.blobs.serving import MAX_ANSWER_BYTES, Serving
from primep2p.services.peers.lanes import Lanes
from primep2p.store.seam import BlobStore
from primep2p.tasks import Offload, TaskStatus

__all__ = ["PROTOCOL", "STALL_S", "Transfer", "directory_key"]

PROTOCOL = "/primep2p/blob/1"

STALL_S = 10.0
"""A provider that delivers no chunk for so long is given up, one of 1 MiB at 100 kB/s being about the slowest of use.
After half of it others take over its chunks."""


class Transfer:
    """Verbs may be called while `run` runs. `blame` hears of peers that sent what they must not, and of nobody else;
    `tell` of what is fetched."""

    def __init__(
        self,
        host: Host,
        blobs: BlobStore,
        *,
        blame: Callable[[PeerId, str], None],
        tell: Tell = lambda event: None,
        stall_s: float = STALL_S,
        offload: Offload = trio.to_thread.run_sync,
    ) -> None:
        self._host = host
        self._blobs = blobs
        self._blame = blame
        self._tell = tell
        self._stall_s = stall_s
        self._offload = offload
        self._lanes = Lanes(host, PROTOCOL, MAX_ANSWER_BYTES)
        self._announcing = Announcing(host.directory, blobs)
        self._serving = Serving(blobs, blame=blame, offload=offload)
        self._fetches: dict[Cid, tuple[Fetching, int]] = {}  # with the most bytes that it may have
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves and fetches until cancelled; fetches under way end as Unavailable then."""
        self._host.handle(PROTOCOL, self._serving.serve)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._announcing.run)
                self._nursery = nursery
                task_status.started()
        finally:
            self._nursery = None
            with trio.CancelScope(shield=True):
                await self._lanes.close()

    async def provide(self, cid: Cid) -> None:
        """Tell the directory, soon and for as long as the blob is held, that it is here. Never waits for it."""
        self._announcing.add(cid)
        await trio.lowlevel.checkpoint()

    async def fetch(self, cid: Cid, providers: Sequence[PeerId], *, max_bytes: int, durable: bool = False) -> None:
        """Have the blob in the store when this returns, from `providers` or else from whom the directory knows.

        Callers for one CID share one fetch, which goes on as long as one of them waits. Raises Unavailable where
        nobody gives it, or where it is larger than `max_bytes`; StoreError where this node's disk fails.
        """
        is_durable = False
        while not await self._is_held(cid, max_bytes, make_durable=durable and not is_durable):
            fetching, allowed_bytes = self._fetches.get(cid) or self._begin(cid, max_bytes)
            fetching.durable |= durable
            others = set(providers) - {self._host.peer_id}
            fetching.offer(sorted(others, key=lambda peer: (peer not in self._host.connected, providers.index(peer))))
            await fetching.wait()
            error = fetching.error
            if error is not None and not (fetching.is_too_large and allowed_bytes < max_bytes):
                raise type(error)(error.sentence, hint=error.hint) from error
            is_durable = error is None and fetching.was_durable

    def _begin(self, cid: Cid, max_bytes: int) -> tuple[Fetching, int]:
        if self._nursery is None:
            raise Unavailable("this node is stopping, or has not started")
        fetching = Fetching(
            Fetch(cid, max_bytes=max_bytes, stall_s=self._stall_s),
            lanes=self._lanes,
            blobs=self._blobs,
            directory=self._host.directory,
            blame=self._blame,
            tell=self._tell,
            offload=self._offload,
            on_end=lambda: self._fetches.pop(cid),
        )
        self._fetches[cid] = fetching, max_bytes
        self._nursery.start_soon(fetching.run)
        return self._fetches[cid]

    async def _is_held(self, cid: Cid, max_bytes: int, *, make_durable: bool) -> bool:
        await trio.lowlevel.checkpoint()
        if not self._blobs.has(cid):
            return False
        try:
            path = await self._offload(self._blobs.path, cid)
            if path.stat().st_size > max_bytes:
                raise Unavailable(f"{cid} is larger than the {max_bytes} bytes allowed")
            if make_durable:
                await self._offload(lambda: self._blobs.add(path, durable=True))
        except (StoreError, FileNotFoundError):
            if self._blobs.has(cid):
                raise
            return False  # it was damaged, or removed: fetch it again
        return True
