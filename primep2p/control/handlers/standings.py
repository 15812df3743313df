"""Answers about what this node does in a run."""

from typing import Protocol

from primep2p.control.calls.standings import RunLeave, RunPause, RunResume
from primep2p.control.handlers.table import answers
from primep2p.model.views.runs import RunLeft, RunSummary

__all__ = ["StandingVerbs", "Standings"]


class Standings(Protocol):
    """Runs are named by their id in hex or the beginning of it. Raises PrimeError."""

    async def leave(self, prefix: str, *, now: bool) -> RunLeft: ...
    async def pause(self, prefix: str) -> RunSummary: ...
    async def resume(self, prefix: str) -> RunSummary: ...


class StandingVerbs(Protocol):
    """A node with such a service."""

    @property
    def standings(self) -> Standings: ...


@answers(RunLeave)
async def leave(node: StandingVerbs, call: RunLeave) -> RunLeft:
    return await node.standings.leave(call.run, now=call.now)


@answers(RunPause)
async def pause(node: StandingVerbs, call: RunPause) -> RunSummary:
    return await node.standings.pause(call.run)


@answers(RunResume)
async def resume(node: StandingVerbs, call: RunResume) -> RunSummary:
    return await node.standings.resume(call.run)
