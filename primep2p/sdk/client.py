"""The async client, with what is more than one call."""

from collections.abc import AsyncIterator
from functools import partial

from primep2p.control import async_client
from primep2p.control.calls.jobs import MAX_WAIT_S
from primep2p.sdk.jobs import Job, NoJob, asked, driven_in_thread

__all__ = ["Client"]


class Client(async_client.Client):
    """Calls over one connection, many at a time, under asyncio and trio. From `open`."""

    async def next_job(self, run: str, *, wait_s: float = MAX_WAIT_S, worker: str = "") -> Job | NoJob:
        """The training of the round under way, in a run where this node's owner trains in a loop of their own: waits
        for one so long. `worker` is a name, where several loops share this node's jobs. Raises CallError where the
        node trains with a plugin."""
        return await driven_in_thread(self, asked(partial(Job, self), run, wait_s, worker))

    async def jobs(self, run: str, *, worker: str = "") -> AsyncIterator[Job]:
        """One job after the other, until there will never be one again."""
        while True:
            job = await self.next_job(run, worker=worker)
            if job.accepted:
                yield job
            elif job.retry_after_s is None:
                return
