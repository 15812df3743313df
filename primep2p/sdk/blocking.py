"""The blocking client, with what is more than one call."""

from collections.abc import Iterator
from functools import partial

from primep2p.control.calls.jobs import MAX_WAIT_S
from primep2p.control.client import BlockingClient
from primep2p.sdk.jobs import BlockingJob, NoJob, asked, driven

__all__ = ["Client"]


class Client(BlockingClient):
    """A connection to the daemon of a home: one call at a time; a stream takes the connection for itself."""

    def next_job(self, run: str, *, wait_s: float = MAX_WAIT_S, worker: str = "") -> BlockingJob | NoJob:
        """The training of the round under way, in a run where this node's owner trains in a loop of their own: waits
        for one so long. `worker` is a name, where several loops share this node's jobs. Raises CallError where the
        node trains with a plugin."""
        return driven(self, asked(partial(BlockingJob, self), run, wait_s, worker))

    def jobs(self, run: str, *, worker: str = "") -> Iterator[BlockingJob]:
        """One job after the other, until there will never be one again."""
        while True:
            job = self.next_job(run, worker=worker)
            if job.accepted:
                yield job
            elif job.retry_after_s is None:
                return
