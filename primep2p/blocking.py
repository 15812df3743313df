"""The blocking client, with what is more than one call: `primep2p.blocking.Client`."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy.typing as npt

from primep2p.config import load
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.jobs import MAX_WAIT_S
from primep2p.control.client import BlockingClient
from primep2p.model.errors import Unavailable
from primep2p.model.views.events import RoundCertified
from primep2p.plugin.api import Arrays, Metrics, Params
from primep2p.sdk.federated import Federated, Part, Partaker
from primep2p.sdk.jobs import BlockingJob, NoJob, asked, driven

__all__ = ["Client", "Part"]


class Client(Partaker, BlockingClient):
    """A connection to the daemon of `home`, without it of the one that commands mean: one call at a time, and a stream
    takes it for itself. With the `run` of a Part it learns too, as `primep2p.Client` does."""

    def __init__(
        self, home: Path | None = None, env: Mapping[str, str] = os.environ, *, part: Part | None = None
    ) -> None:
        """Raises Unavailable where no daemon runs, CallError where it is not in the run."""
        self._at = (home or load(env=env).home, env)
        self._watching: BlockingClient | None = None
        self._listeners: list[Callable[[Params, int | None, int], object]] = []
        super().__init__(self._at[0], env=env)
        if part is not None:
            self._federated = driven(self, Federated.beginning(part))

    def close(self) -> None:
        """Ends what is under way."""
        if self._watching is not None:
            self._watching.close()
        if self._federated is not None:
            self._federated.close()
        super().close()

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

    def fit(self, x: npt.ArrayLike, y: npt.ArrayLike) -> int:
        """As `primep2p.Client.fit`."""
        return driven(self, self._learning().fitting(x, y))

    def predict(self, x: npt.ArrayLike) -> Arrays:
        """As `primep2p.Client.predict`."""
        return driven(self, self._learning().predicting(x))

    def evaluate(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Metrics:
        """As `primep2p.Client.evaluate`."""
        return driven(self, self._learning().evaluating(x, y))

    def model_version(self) -> int | None:
        """The round of the newest certified model; None before the first."""
        return driven(self, self._learning().version())

    def on_new_version(self, listener: Callable[[Params, int | None, int], object]) -> None:
        """Have `listener` called with (model, old, new) for each version that is certified from now on, in a thread of
        its own with a connection of its own, until `close`."""
        federated = self._learning()
        self._listeners.append(listener)
        if self._watching is None:
            old = self.model_version()
            self._watching = BlockingClient(self._at[0], env=self._at[1])
            wanted = EventsWatch(run=federated.run, kinds=("round-certified",))
            events = self._watching.stream(wanted)  # subscribed, before anybody relies on it
            threading.Thread(target=self._tell_of, args=(federated, events, old), daemon=True).start()

    def _tell_of(self, federated: Federated, events: Iterator[object], old: int | None) -> None:
        with suppress(Unavailable), BlockingClient(self._at[0], env=self._at[1]) as asking:  # closed meanwhile
            for event in events:
                if isinstance(event, RoundCertified) and not event.void:
                    model = driven(asking, federated.model(event.round))
                    for listener in self._listeners:
                        listener(model, old, event.round)
                    old = event.round
