"""Small things to write down that nobody waits for: faults without evidence, and where members were last heard of."""

import trio

from primep2p.model.ids import PeerId, RunId
from primep2p.store.seam import RunStore
from primep2p.tasks import Offload, TaskStatus

__all__ = ["Book"]

CAPACITY = 256
"""Notes waiting for the disk. One more is dropped: they are counts and hints, and a peer can cause any number."""


_Note = tuple[PeerId, str | tuple[str, ...], RunId | None]
"""A peer with a fault, in a run or in none, or with its addresses."""


class Book:
    """Writes what its verbs, which never wait, are given."""

    def __init__(self, runs: RunStore, offload: Offload) -> None:
        self._runs = runs
        self._offload = offload
        self._send, self._receive = trio.open_memory_channel[_Note](CAPACITY)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises StoreError where the disk fails."""
        task_status.started()
        async for peer, note, run in self._receive:
            if isinstance(note, str):
                await self._offload(lambda p=peer, n=note, r=run: self._runs.accuse(p, n, None, run=r))
            else:
                await self._offload(self._runs.remember, peer, note)

    def accuse(self, peer: PeerId, reason: str, run: RunId | None = None) -> None:
        """Count a fault."""
        self._note(peer, reason, run)

    def remember(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Keep addresses for the next start."""
        self._note(peer, addresses, None)

    def _note(self, peer: PeerId, note: str | tuple[str, ...], run: RunId | None) -> None:
        try:
            self._send.send_nowait((peer, note, run))
        except trio.WouldBlock:
            return
