"""Why a run does not train on this node now: its owner says so, or what the owner asks of the machine is not so."""

import trio

from primep2p.model.ids import RunId

__all__ = ["LEAVING", "PAUSED", "Resting"]

PAUSED = "its owner has paused it"
LEAVING = "it is leaving the run"


class Resting:
    """The gate of all runs of a node."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        self._owners: dict[RunId, str] = {}

    def reason(self, run: RunId) -> str:
        """Why the run rests, in words that go on from "this node does not train: "; empty: it trains."""
        return self._owners.get(run, "")

    def order(self, run: RunId, reason: str) -> None:
        """What the owner wants: that it rests for `reason`, or with "" that nothing of theirs keeps it."""
        self._owners[run] = reason
        self._stir()

    def _stir(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()
