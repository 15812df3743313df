"""Whether this node trains in a round of its run, or rests: then it tells the others not to wait, and they do not."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from primep2p.core import effects as fx
from primep2p.model.ids import RunId
from primep2p.model.views.events import Rests

__all__ = ["Gate", "Turns"]


class Gate(Protocol):
    """What says whether a run may train on this node now."""

    def reason(self, run: RunId) -> str:
        """Why it rests; empty: it trains."""
        ...

    @property
    def changed(self) -> trio.Event:
        """Is set when a reason may be another one; then there is a new event."""
        ...


class Stoppable(Protocol):
    """What trains."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Turns:
    """Of one run. A training under way is stopped where it is while the node rests, and goes on after that: if that is
    too late for its round it was for nothing, as for any that is slow.

    `train` performs a training from its beginning to the event that ends it; `abstain` says that there will be none.
    """

    def __init__(
        self,
        run: RunId,
        gate: Gate,
        training: Stoppable,
        *,
        train: Callable[[int, str], Awaitable[None]],
        abstain: Callable[[int], Awaitable[None]],
        tell: Callable[[Rests], None],
    ) -> None:
        self.reason = gate.reason(run)
        """Why this node rests; empty: it trains."""
        self._run = run
        self._gate = gate
        self._training = training
        self._train = train
        self._abstain = abstain
        self._tell = tell
        self._due: fx.Train | None = None
        """Asked for in the round under way, and not over."""
        self._has_begun = False

    async def run(self) -> None:
        """Until cancelled: rests and goes on as the gate says."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._gate.changed
                await self._look(nursery)
                await changed.wait()

    async def take(self, effect: fx.Train) -> None:
        """A round asks for training: returns when it is over, or at once where this node rests."""
        self._due, self._has_begun = effect, not self.reason
        if self.reason:
            await self._abstain(effect.round)
        else:
            await self._perform(effect)

    def end_round(self) -> None:
        """A round is certified: nothing is due in it."""
        self._due = None

    async def _look(self, nursery: trio.Nursery) -> None:
        before, self.reason = self.reason, self._gate.reason(self._run)
        if self.reason == before:
            return
        self._tell(Rests(run=self._run.hex(), reason=self.reason))
        if self.reason and not before:
            self._training.pause()
            if self._due is not None:
                await self._abstain(self._due.round)
        elif not self.reason:
            self._training.resume()
            if self._due is not None and not self._has_begun:
                self._has_begun = True
                nursery.start_soon(self._perform, self._due)

    async def _perform(self, effect: fx.Train) -> None:
        await self._train(effect.round, effect.params)
        if self._due is effect:
            self._due = None
