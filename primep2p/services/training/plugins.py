"""The trainers of a node, as its owner sees them: which there are, whether they load, what they printed."""

from itertools import count
from pathlib import Path
from typing import Protocol

import trio
from msgspec.structs import replace

from primep2p.model.errors import CallError, PluginError
from primep2p.model.text import printable
from primep2p.model.views.plugins import PluginLog, PluginView
from primep2p.plugin.workers import NEW, Trainers
from primep2p.services.runs.rounds import RunService
from primep2p.tasks import Offload

__all__ = ["Plugins"]

AT_ONCE = 2
"""Processes that are started to see whether they can be: each may import a framework of hundreds of MB."""

TAIL_BYTES = 2**18
"""1,000 lines of usual length."""


class RunsByName(Protocol):
    """Where a run is found."""

    def named(self, prefix: str) -> RunService:
        """Raises CallError."""
        ...


class Plugins:
    """Verbs for the owner."""

    def __init__(self, trainers: Trainers, runs: RunsByName, offload: Offload) -> None:
        self._trainers = trainers
        self._runs = runs
        self._offload = offload
        self._places = count()

    async def list(self, *, names_only: bool) -> list[PluginView]:
        """All that there are, by name; each is made once in a process of its own, unless only names are wanted."""
        views = await self._offload(self._trainers.known)
        if names_only:
            return views
        tried: dict[str, PluginView] = {}
        turns = trio.CapacityLimiter(AT_ONCE)

        async def attempt(view: PluginView) -> None:
            async with turns:
                tried[view.name] = await self._tried(view)

        async with trio.open_nursery() as nursery:
            for view in views:
                nursery.start_soon(attempt, view)
        return [tried[view.name] for view in views]

    async def _tried(self, view: PluginView) -> PluginView:
        place = f"{NEW}trial-{next(self._places)}"
        try:
            async with trio.open_nursery() as nursery:
                worker = self._trainers.worker(view.name, {}, place, ())
                await nursery.start(worker.run)
                try:
                    made = await worker.prepare()
                    found = replace(view, loads=True, abi_version=made.abi_version, predicts=made.predicts)
                except PluginError as error:
                    found = replace(view, loads=False, problem=error.sentence)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._offload(self._trainers.discard, place)
        return found

    async def logs(self, of: str, lines: int) -> PluginLog:
        """What the trainer of that name printed, or that of the run whose id begins so. Raises CallError."""
        names = [view.name for view in await self._offload(self._trainers.known)]
        path = self._trainers.log(of if of in names else self._runs.named(of).run_id.hex())
        return PluginLog(path=str(path), lines=await self._offload(_tail, path, lines))


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(0, size_bytes - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError as error:
        raise CallError(f"nothing was printed: there is no {path}") from error
    except OSError as error:
        raise CallError(f"{path} cannot be read: {error.strerror}") from error
    return [printable(line) for line in text.splitlines()[-lines:]]
