"""Why a node rests: each condition of its owner's, looked at on a machine that the test makes."""

from collections.abc import Callable
from datetime import time
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from primep2p.config import TrainWhenSection
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.resting import LOOK_S, PAUSED, Resting, is_within

RUN, OTHER = b"run", b"other"
NOON = time(12, 0)


class FakeMachine:
    """What the test says."""

    def __init__(self) -> None:
        self.ac: bool | None = True
        self.metered: bool | None = False
        self.now = NOON
        self.allows = True
        self.asked: list[tuple[str, ...]] = []

    def on_ac_power(self) -> bool | None:
        return self.ac

    def is_metered(self) -> bool | None:
        return self.metered

    def time_of_day(self) -> time:
        return self.now

    def succeeds(self, command: tuple[str, ...]) -> bool:
        self.asked.append(command)
        return self.allows


class FakeSpeeds:
    """A network of which so much is known."""

    def __init__(self, up: float | None = None, down: float | None = None) -> None:
        self.up_mbps, self.down_mbps = up, down
        self.refreshed = 0

    async def refresh(self) -> None:
        self.refreshed += 1


async def inline(function: Callable[[], str]) -> str:
    await trio.lowlevel.checkpoint()
    return function()


def reason(wanted: TrainWhenSection, machine: FakeMachine, speeds: FakeSpeeds | None = None) -> str:
    """What a node says at its start."""

    async def main() -> str:
        gate = Resting(wanted, machine, inline, speeds)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(gate.run)
            said = gate.reason(RUN)
            nursery.cancel_scope.cancel()
        return said

    return trio.run(main, clock=MockClock())


def set_to(machine: FakeMachine, **what: object) -> FakeMachine:
    for name, value in what.items():
        setattr(machine, name, value)
    return machine


AC, UNMETERED, HOURS = (
    TrainWhenSection(ac_power=True),
    TrainWhenSection(unmetered=True),
    TrainWhenSection(hours="22:00-06:00"),
)


@pytest.mark.parametrize(
    ("wanted", "state", "said"),
    [
        (TrainWhenSection(), {"ac": False, "metered": True, "allows": False}, ""),
        (AC, {}, ""),
        (AC, {"ac": False}, "this machine is on battery"),
        (AC, {"ac": None}, "it cannot be told whether this machine is on AC power"),
        (UNMETERED, {}, ""),
        (UNMETERED, {"metered": True}, "the network is metered"),
        (UNMETERED, {"metered": None}, "it cannot be told here whether the network is metered"),
        (HOURS, {}, "it is 12:00, and it trains at 22:00-06:00 only"),
        (HOURS, {"now": time(23, 0)}, ""),
        (TrainWhenSection(command=("may", "train")), {}, ""),
        (TrainWhenSection(command=("may", "train")), {"allows": False}, "may says no"),
    ],
)
def test_a_condition_that_does_not_hold_is_told_and_one_that_nobody_asks_for_is_not(wanted, state, said):
    assert reason(wanted, set_to(FakeMachine(), **state)).startswith(said)
    assert bool(reason(wanted, set_to(FakeMachine(), **state))) == bool(said)


@pytest.mark.parametrize(
    ("up", "down", "said"),
    [
        (10.0, 100.0, ""),
        (9.0, 100.0, "the network is too slow: 9 Mbit/s of upload, and it takes 10"),
        (10.0, 99.0, "the network is too slow: 99 Mbit/s of download, and it takes 100"),
        (None, None, ""),  # measured as soon as somebody is there
    ],
)
def test_a_slow_network_is_one_that_was_measured(up, down, said):
    speeds = FakeSpeeds(up, down)
    assert reason(TrainWhenSection(min_upload_mbps=10, min_download_mbps=100), FakeMachine(), speeds) == said
    assert reason(TrainWhenSection(), FakeMachine(), speeds) == ""


def test_a_command_is_asked_only_where_all_else_holds():
    machine = set_to(FakeMachine(), ac=False)
    assert reason(TrainWhenSection(ac_power=True, command=("may",)), machine) == "this machine is on battery"
    assert machine.asked == []


@pytest.mark.parametrize(
    ("hours", "now", "within"),
    [
        ("09:00-17:00", "09:00", True),
        ("09:00-17:00", "17:00", False),
        ("22:00-06:00", "21:59", False),
        ("22:00-06:00", "23:59", True),
        ("22:00-06:00", "05:59", True),
        ("22:00-06:00", "06:00", False),
        ("08:00-08:00", "03:00", True),
    ],
)
def test_hours_may_go_over_midnight(hours, now, within):
    assert is_within(hours, time.fromisoformat(now)) == within


def test_what_changes_is_noticed_and_whoever_waits_is_woken():
    machine, speeds = FakeMachine(), FakeSpeeds(5.0)

    async def main() -> list[str]:
        gate = Resting(TrainWhenSection(ac_power=True, min_upload_mbps=1), machine, inline, speeds)  # type: ignore[arg-type]
        said = []
        async with trio.open_nursery() as nursery:
            await nursery.start(gate.run)
            for ac in (False, True):
                changed, machine.ac = gate.changed, ac
                with trio.fail_after(2 * LOOK_S):
                    await changed.wait()
                said.append(gate.reason(RUN))
            nursery.cancel_scope.cancel()
        return said

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == ["this machine is on battery", ""]
    assert speeds.refreshed >= 2


def test_an_owner_rests_one_run_and_not_another_and_wakes_whoever_waits():
    async def main() -> None:
        gate = Resting(TrainWhenSection(), FakeMachine(), inline)  # type: ignore[arg-type]
        changed = gate.changed
        gate.order(RUN, PAUSED)
        assert changed.is_set()
        assert (gate.reason(RUN), gate.reason(OTHER)) == (PAUSED, "")
        gate.order(RUN, "")
        assert gate.reason(RUN) == ""

    trio.run(main)


# ---- the machine itself


@pytest.mark.parametrize(("battery", "on_ac"), [(None, True), (True, True), (False, False), ("?", None)])
def test_a_machine_without_a_battery_is_on_ac_power(battery, on_ac):
    found = None if battery is None else SimpleNamespace(power_plugged=None if battery == "?" else battery)
    assert LocalMachine(battery=lambda: found).on_ac_power() is on_ac


@pytest.mark.parametrize(
    ("platform", "said", "metered"),
    [
        ("linux", "u 1\n", True),
        ("linux", "u 4\n", False),
        ("linux", "u 0\n", None),
        ("linux", None, None),
        ("darwin", "u 2\n", None),
    ],
)
def test_networkmanager_is_asked_on_linux_alone(platform, said, metered):
    assert LocalMachine(platform=platform, call=lambda command: said).is_metered() is metered


def test_a_command_says_yes_by_its_exit_code_and_one_that_is_not_there_says_no():
    here = LocalMachine()
    assert here.succeeds(("true",))
    assert not here.succeeds(("false",))
    assert not here.succeeds(("/no/such/program",))
