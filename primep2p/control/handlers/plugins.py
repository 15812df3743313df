"""Answers about trainers."""

from typing import Protocol

from primep2p.control.calls.plugins import PluginList, PluginLogs
from primep2p.control.handlers.table import answers
from primep2p.model.views.plugins import PluginLog, PluginView

__all__ = ["PluginNode", "PluginVerbs"]


class PluginVerbs(Protocol):
    """What a node knows of its trainers. Raises PrimeError."""

    async def list(self, *, names_only: bool) -> list[PluginView]: ...
    async def logs(self, of: str, lines: int) -> PluginLog: ...


class PluginNode(Protocol):
    """A node that has trainers."""

    @property
    def plugins(self) -> PluginVerbs: ...


@answers(PluginList)
async def list_(node: PluginNode, call: PluginList) -> list[PluginView]:
    return await node.plugins.list(names_only=call.names_only)


@answers(PluginLogs)
async def logs(node: PluginNode, call: PluginLogs) -> PluginLog:
    return await node.plugins.logs(call.of, call.lines)
