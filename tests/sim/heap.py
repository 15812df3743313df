"""Virtual time: what will happen, in the order of when."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Protocol

__all__ = ["Heap", "Owner"]

JITTER_S = 1e-4
"""Two things that happen at one time happen in an order that the seed chooses."""


class Owner(Protocol):
    """Whose event it is: one that was planned in an earlier life does not happen."""

    life: int
    paused_until: float


class Clock:
    """The owner of what happens to nodes rather than in them."""

    life = 0
    paused_until = 0.0


class Heap:
    """Events of all nodes."""

    def __init__(self, seed: str) -> None:
        self.now = 0.0
        self.steps = 0
        self.chance = random.Random(seed)
        self.clock = Clock()
        self._entries: list[tuple[float, int, Owner, int, Callable[[], None]]] = []
        self._sequence = 0

    def after(self, owner: Owner, after_s: float, what: Callable[[], None]) -> None:
        """`what` happens so much later, if its owner still lives the same life then."""
        self._push(self.now + after_s + self.chance.random() * JITTER_S, owner, owner.life, what)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """`what` happens at a time, to whomever."""
        self._push(when, self.clock, 0, what)

    def step(self, until_s: float) -> Owner | None:
        """Let the next thing happen; gives whose it was. None: nothing more happens before `until_s`."""
        while self._entries and self._entries[0][0] <= until_s:
            self.now, _, owner, life, what = heapq.heappop(self._entries)
            if owner.life != life:
                continue
            if owner.paused_until > self.now:
                self._push(owner.paused_until, owner, life, what)
                continue
            self.steps += 1
            what()
            return owner
        return None

    def _push(self, when: float, owner: Owner, life: int, what: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._entries, (when, self._sequence, owner, life, what))
