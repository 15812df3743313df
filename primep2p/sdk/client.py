"""The async client, with what is more than one call."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt
from anyio.abc import TaskStatus

from primep2p.config import load
from primep2p.control import async_client
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.jobs import MAX_WAIT_S
from primep2p.model.views.events import RoundCertified
from primep2p.plugin.api import Arrays, Metrics, Params
from primep2p.sdk.federated import Federated, Part, Partaker
from primep2p.sdk.jobs import Job, NoJob, asked, driven_in_thread

__all__ = ["Client", "NewVersion"]

NewVersion = Callable[[Params, int | None, int], object]
"""Called with a version's params, the version before and its own: rounds; None before the first that was seen."""


class Client(Partaker, async_client.Client):
    """Calls over one connection, many at a time, under asyncio and trio. From `open`.

    With the `run` of a Part it learns too: `fit`, `predict`, `evaluate` and `on_new_version` are about that run, in
    which this node must train in a loop of its owner's own for `fit` (`run join --own-loop`).
    """

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path | None = None, env: Mapping[str, str] = os.environ, *, part: Part | None = None
    ) -> AsyncIterator[Self]:
        """A client of the daemon of `home`, without it of the one that commands mean, until the context is left. Raises
        Unavailable where no daemon runs, CallError where it is not in the run."""
        async with super().open(home or load(env=env).home, env) as client:
            if part is None:
                yield client
                return
            client._federated = federated = await driven_in_thread(client, Federated.beginning(part))
            try:
                yield client
            finally:
                federated.close()

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._version: int | None = None
        self._listeners: list[NewVersion] = []

    # ---- jobs

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

    # ---- learning in one run

    async def fit(self, x: npt.ArrayLike, y: npt.ArrayLike) -> int:
        """Learn from examples, a row of x for each y, and give what was learnt to the run; how many updates it took.

        Examples wait until there are `num_examples_per_update`, are trained on once, in a round's job, and are then
        forgotten. An update that comes too late is made again in the next round. Raises CallError where the run is over
        or this node trains with a plugin, ValueError for arrays that do not fit."""
        return await driven_in_thread(self, self._learning().fitting(x, y))

    async def predict(self, x: npt.ArrayLike) -> Arrays:
        """What the newest certified model says of x, by the trainer's `predict`. Raises CallError where there is no
        model yet, or no predict."""
        return await driven_in_thread(self, self._learning().predicting(x))

    async def evaluate(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Metrics:
        """Metrics of the newest certified model on these examples, by the trainer's `evaluate`."""
        return await driven_in_thread(self, self._learning().evaluating(x, y))

    async def on_new_version(self, listener: NewVersion) -> None:
        """Have `listener` called with (model, old, new) for each version that is certified from now on; it must not
        block. What it raises ends the client."""
        federated = self._learning()
        self._listeners.append(listener)
        if len(self._listeners) == 1 and self._background is not None:
            self._version = await self.model_version()
            await self._background.start(self._watch_versions, federated)

    async def model_version(self) -> int | None:
        """The round of the newest certified model; None before the first."""
        return await driven_in_thread(self, self._learning().version())

    async def _watch_versions(self, federated: Federated, *, task_status: TaskStatus[None]) -> None:
        async with self.stream(EventsWatch(run=federated.run, kinds=("round-certified",))) as events:
            task_status.started()
            async for event in events:
                if isinstance(event, RoundCertified) and not event.void:
                    model = await driven_in_thread(self, federated.model(event.round))
                    old, self._version = self._version, event.round
                    for listener in self._listeners:
                        listener(model, old, event.round)
