"""The machine that this node runs on, asked about its power, its network and its clock."""

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, time

import psutil

__all__ = ["LocalMachine"]

COMMAND_S = 10.0
"""A command that has not answered by then says no."""

_METERED = (
    "busctl",
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
)
"""NetworkManager's word for the whole machine, an NMMetered: 0 unknown, 1 yes, 2 no, 3 and 4 guesses of these."""

_IS_METERED = {"u 1": True, "u 2": False, "u 3": True, "u 4": False}


class LocalMachine:
    """See resting.Machine. `battery` is how its battery is found, `call` how a command is run: its output, or None
    where it fails."""

    def __init__(
        self,
        *,
        platform: str = sys.platform,
        battery: Callable[[], object] = psutil.sensors_battery,
        call: Callable[[tuple[str, ...]], str | None] | None = None,
    ) -> None:
        self._platform = platform
        self._battery = battery
        self._call = call or _output

    def on_ac_power(self) -> bool | None:
        """A machine without a battery is on AC power."""
        battery = self._battery()
        if battery is None:
            return True
        plugged = getattr(battery, "power_plugged", None)
        return None if plugged is None else bool(plugged)

    def is_metered(self) -> bool | None:
        """On Linux as NetworkManager sees it; macOS has no way to ask for a program without a window."""
        if self._platform != "linux":
            return None
        said = self._call(_METERED)
        return _IS_METERED.get(said.strip()) if said is not None else None

    def time_of_day(self) -> time:
        """As the owner's clock on the wall has it."""
        return datetime.now().time()

    def succeeds(self, command: tuple[str, ...]) -> bool:
        """Whether a command of the owner's ends with 0, in time."""
        return self._call(command) is not None


def _output(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
