"""Each call of the control socket as a verb of the node: a module for each group of calls."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from primep2p.control.calls.call import Call
from primep2p.control.handlers import (
    daemon,
    directory,
    events,
    jobs,
    models,
    plans,
    plugins,
    rounds,
    runs,
    speed,
    standings,
)
from primep2p.control.handlers.table import ANSWERS, STREAMS
from primep2p.model.views.events import AnyEvent

__all__ = ["NodeHandlers", "NodeVerbs"]


class NodeVerbs(
    daemon.DaemonVerbs,
    events.EventVerbs,
    runs.RunVerbs,
    standings.StandingVerbs,
    speed.SpeedNode,
    jobs.JobNode,
    rounds.RoundVerbs,
    models.ModelVerbs,
    directory.DirectoryVerbs,
    plugins.PluginNode,
    plans.PlanVerbs,
    Protocol,
):
    """All that a node does for its owner."""


class NodeHandlers:
    """Answers calls with the verbs of a node."""

    def __init__(self, node: NodeVerbs) -> None:
        self._node = node

    async def answer(self, call: Call[Any]) -> object:
        """The answer to a call that is no stream. Raises PrimeError."""
        return await ANSWERS[type(call)](self._node, call)

    def watch(self, call: Call[Any]) -> AsyncIterator[AnyEvent]:
        """The events of a stream, from now on. Raises PrimeError."""
        return STREAMS[type(call)](self._node, call)
