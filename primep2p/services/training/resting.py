"""Why a run does not train on this node now: its owner says so, or what the owner asks of the machine is not so.

Nothing tells a program on every system that a plug was pulled or a network became a paid one: where the owner asks for
such things, they are looked at now and then, and before anything trains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import time
from typing import Protocol

import trio

from primep2p.config import TrainWhenSection
from primep2p.model.ids import RunId
from primep2p.tasks import Offload, TaskStatus

__all__ = ["LEAVING", "LOOK_S", "PAUSED", "Machine", "Resting", "Speeds", "is_within"]

PAUSED = "its owner has paused it"
LEAVING = "it is leaving the run"

LOOK_S = 30.0
"""How late a pulled plug is noticed: a laptop's battery bears it, and a look costs a few milliseconds."""


class Machine(Protocol):
    """What this node runs on. Methods may block; None: it cannot be told."""

    def on_ac_power(self) -> bool | None: ...
    def is_metered(self) -> bool | None: ...
    def time_of_day(self) -> time: ...
    def succeeds(self, command: tuple[str, ...]) -> bool:
        """Whether a command of the owner's ends with 0, in time."""
        ...


class Speeds(Protocol):
    """What this node's network has been seen to do, in Mbit/s."""

    @property
    def up_mbps(self) -> float | None: ...
    @property
    def down_mbps(self) -> float | None: ...
    async def refresh(self) -> None:
        """Measure anew where what is known is not of the last hour, if there is anybody to measure with."""
        ...


@dataclass(frozen=True)
class _Unknown:
    """In place of speeds, where nobody asks for any."""

    up_mbps: float | None = None
    down_mbps: float | None = None

    async def refresh(self) -> None:
        """Nothing is measured."""


class Resting:
    """The gate of all runs of a node."""

    def __init__(
        self, wanted: TrainWhenSection, machine: Machine, offload: Offload, speeds: Speeds | None = None
    ) -> None:
        self.changed = trio.Event()
        self._wanted = wanted
        self._machine = machine
        self._offload = offload
        self._speeds: Speeds = speeds or _Unknown()
        self._owners: dict[RunId, str] = {}
        self._missing = ""
        """What of the owner's conditions does not hold."""

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; the machine has been looked at once when this has started."""
        if self._wanted != TrainWhenSection():
            await self._look()
        task_status.started()
        while self._wanted != TrainWhenSection():
            if self._wanted.min_upload_mbps or self._wanted.min_download_mbps:
                await self._speeds.refresh()
            await self._look()
            await trio.sleep(LOOK_S)

    def reason(self, run: RunId) -> str:
        """Why the run rests, in words that go on from "this node does not train: "; empty: it trains."""
        return self._owners.get(run, "") or self._missing

    def order(self, run: RunId, reason: str) -> None:
        """What the owner wants: that it rests for `reason`, or with "" that nothing of theirs keeps it."""
        self._owners[run] = reason
        self._stir()

    async def _look(self) -> None:
        missing = await self._offload(self._first_missing)
        if missing != self._missing:
            self._missing = missing
            self._stir()

    def _first_missing(self) -> str:
        """The first condition that does not hold: the cheapest to look at come first."""
        wanted, machine = self._wanted, self._machine
        checks: tuple[Callable[[], str], ...] = (
            self._outside_hours,
            lambda: _power(machine.on_ac_power()) if wanted.ac_power else "",
            lambda: _metered(machine.is_metered()) if wanted.unmetered else "",
            lambda: _slow("upload", self._speeds.up_mbps, wanted.min_upload_mbps),
            lambda: _slow("download", self._speeds.down_mbps, wanted.min_download_mbps),
            self._command,
        )
        return next((reason for check in checks if (reason := check())), "")

    def _outside_hours(self) -> str:
        hours, now = self._wanted.hours, self._machine.time_of_day()
        return f"it is {now:%H:%M}, and it trains at {hours} only" if hours and not is_within(hours, now) else ""

    def _command(self) -> str:
        command = self._wanted.command
        return f"{command[0]} says no" if command and not self._machine.succeeds(command) else ""

    def _stir(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


def is_within(hours: str, now: time) -> bool:
    """Whether a time of the day lies within `hours`, such as 22:00-06:00, the end excluded; equal ends are all day."""
    first, last = (time.fromisoformat(end) for end in hours.split("-"))
    if first < last:
        return first <= now < last
    return now >= first or now < last


def _power(on_ac: bool | None) -> str:
    if on_ac is None:
        return "it cannot be told whether this machine is on AC power"
    return "" if on_ac else "this machine is on battery"


def _metered(metered: bool | None) -> str:
    if metered is None:
        return "it cannot be told here whether the network is metered: train_when.command can, by a command of yours"
    return "the network is metered" if metered else ""


def _slow(direction: str, known_mbps: float | None, least_mbps: float) -> str:
    """What is not known is not held against the network: it is measured as soon as somebody is there."""
    if not least_mbps or known_mbps is None or known_mbps >= least_mbps:
        return ""
    return f"the network is too slow: {known_mbps:.3g} Mbit/s of {direction}, and it takes {least_mbps:g}"
