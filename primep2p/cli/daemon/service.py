"""The daemon as a service of its owner: a systemd user unit on Linux, a launchd agent on macOS."""

import os
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primep2p.cli.exits import EXIT_CODES
from primep2p.model.errors import ConfigError, StoreError, Unavailable

__all__ = ["STOP_S", "Service", "launch_agent", "service", "systemd_unit", "tell"]

STOP_S = 30
"""A daemon ends within a second or two; a trainer that will not is killed with it after so long."""

RESTART_S = 5
"""Before a daemon that failed starts again."""

COMMAND_S = 60.0
"""For the system's own tool to answer."""


@dataclass(frozen=True)
class Service:
    """A daemon to be started by the system: its command, and where the system looks for what describes it."""

    name: str
    path: Path
    text: bytes
    start: tuple[tuple[str, ...], ...]
    """Commands that make the system know it, and start it now and at each login."""
    stop: tuple[tuple[str, ...], ...]

    def write(self) -> None:
        """Raises StoreError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(self.text)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error

    def remove(self) -> bool:
        """Whether it was there. Raises StoreError."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"cannot remove {self.path}: {error.strerror}") from error
        return True


def service(name: str, home: Path, options: Sequence[str], platform: str = sys.platform) -> Service:
    """The service of the daemon of `home`, which starts with `options`."""
    command = [sys.executable, "-P", "-m", "primep2p.cli.main", "daemon", "start", *options]
    if platform == "darwin":
        label = f"org.primep2p.{name}"
        path = Path("~/Library/LaunchAgents").expanduser() / f"{label}.plist"
        domain = f"gui/{os.getuid()}"
        return Service(
            name=label,
            path=path,
            text=launch_agent(label, home, command),
            start=(("launchctl", "bootstrap", domain, str(path)),),
            stop=(("launchctl", "bootout", f"{domain}/{label}"),),
        )
    directory = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "systemd" / "user"
    unit = f"{name}.service"
    tool = ("systemctl", "--user")
    return Service(
        name=unit,
        path=directory / unit,
        text=systemd_unit(home, command).encode(),
        start=((*tool, "daemon-reload"), (*tool, "enable", "--now", unit)),
        stop=((*tool, "disable", "--now", unit),),
    )


def systemd_unit(home: Path, command: Sequence[str]) -> str:
    """What a user's systemd needs to know.

    Nothing that hides files, devices or the network, or forbids code made at run time: a trainer is anything.
    """
    return f"""[Unit]
Description=primep2p daemon of {str(home).replace("%", "%%")}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
ExecStart={" ".join(map(_quoted, command))}
# A wrong configuration is still wrong after {RESTART_S} seconds.
Restart=on-failure
RestartSec={RESTART_S}
RestartPreventExitStatus={EXIT_CODES[ConfigError]}
# The daemon hears SIGTERM and ends its trainers; whoever is left is killed.
KillMode=mixed
TimeoutStopSec={STOP_S}
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
"""


def _quoted(argument: str) -> str:
    """One argument of systemd's ExecStart, whatever it holds."""
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def launch_agent(label: str, home: Path, command: Sequence[str]) -> bytes:
    """What launchd needs to know, as a property list."""
    return plistlib.dumps(
        {
            "Label": label,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_S,
            "ExitTimeOut": STOP_S,
            "Umask": 0o077,
            "StandardOutPath": str(home / "daemon.err"),
            "StandardErrorPath": str(home / "daemon.err"),
        }
    )


def tell(commands: Sequence[Sequence[str]]) -> None:
    """Runs the system's own commands. Raises Unavailable with the last words of the first that fails."""
    for command in commands:
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"`{' '.join(command)}` cannot be run: {error}") from error
        if ran.returncode:
            said = (ran.stderr.strip() or ran.stdout.strip() or f"it ended with {ran.returncode}").splitlines()[-1]
            raise Unavailable(f"`{' '.join(command)}` failed: {said}")
