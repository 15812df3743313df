"""Answers about certified rounds."""

from typing import Protocol

from primep2p.control.calls.rounds import RoundShow
from primep2p.control.handlers.table import answers
from primep2p.model.views.rounds import RoundView

__all__ = ["HistoryVerbs", "RoundVerbs"]


class HistoryVerbs(Protocol):
    """What a node knows of what was certified. Raises PrimeError."""

    async def show(self, prefix: str, round: int) -> RoundView: ...


class RoundVerbs(Protocol):
    """Where that is."""

    @property
    def history(self) -> HistoryVerbs: ...


@answers(RoundShow)
async def show(node: RoundVerbs, call: RoundShow) -> RoundView:
    return await node.history.show(call.run, call.round)
