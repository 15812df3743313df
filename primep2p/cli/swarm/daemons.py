"""Several real daemons on this machine, each with a home of its own: for the demo, for benches and for tests.

Whatever happens to the process that started them, they are gone after it: see `Swarm`.
"""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TypeVar

import psutil

from primep2p.cli.daemon.spawn import Starting
from primep2p.config import ENV_FILE, ENV_PREFIX
from primep2p.control.calls.call import Call
from primep2p.control.client import BlockingClient
from primep2p.keys import load_identity
from primep2p.model.errors import Unavailable

__all__ = ["Daemon", "Settings", "Swarm", "deferred_signals"]

START_S = 60.0
"""Many daemons start at once and share the cores."""

STOP_S = 5.0
"""A daemon that is asked to stop is gone in less than 2 s; one that is not is killed."""

ORPHANS_S = 2.0
"""A trainer ends by itself when its daemon does."""

PORTS = range(20_000, 32_000)
"""Below those that Linux and macOS give to outgoing connections, so that a port that is free now stays free."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What differs from the defaults in a daemon's node.toml."""

    data: Path | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)
    silent_s: float = 120.0
    keep_checkpoints: int = 10
    log_level: str = "info"
    host: str = "127.0.0.1"
    """Where it listens."""
    trust: Sequence[str] = ()
    """Owners of plans."""
    under: Sequence[str] = ()
    """A command that becomes the daemon, as `ip netns exec`."""


class Daemon:
    """A daemon by its home. Not running until it is started; may be started again after its end."""

    def __init__(self, number: int, home: Path, settings: Settings) -> None:
        self.number = number
        self.home = home
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the daemon is: so that others can be told of its address before it starts.
        self.peer = load_identity(home / "identity.key").peer_id
        self.address = f"/ip4/{settings.host}/tcp/{free_port()}"
        self._family: list[psutil.Process] = []

    def __repr__(self) -> str:
        return f"node {self.number}"

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self.process is not None
        return self.process.pid

    def configure(self, bootstrap: Iterable[str]) -> None:
        """Writes its node.toml."""
        settings = self.settings
        lines = [
            "[p2p]",
            f"listen = {_toml([self.address])}",
            f"bootstrap = {_toml(list(bootstrap))}",
            "[trainer]",
            f"data = {_toml(str(settings.data or ''))}",
            f"silent_s = {settings.silent_s}",
            "[store]",
            f"keep_checkpoints = {settings.keep_checkpoints}",
            "[log]",
            f"level = {_toml(settings.log_level)}",
            "[plans]",
            f"trust = {_toml(list(settings.trust))}",
            "[trainer.plugins]",
            *(f"{_toml(name)} = {_toml(target)}" for name, target in settings.plugins.items()),
        ]
        (self.home / "node.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def spawn(self) -> Starting:
        """A new process, which does not answer yet."""
        # What the owner set for a node of theirs is not meant for these.
        env = {name: value for name, value in os.environ.items() if not name.startswith((ENV_FILE, ENV_PREFIX))}
        starting = Starting(self.home, self.home / "node.toml", env, self.settings.under)
        self.process = starting.process
        return starting

    def call(self, call: Call[A]) -> A:
        """What it answers. Raises PrimeError."""
        with BlockingClient(self.home) as client:
            return client.call(call)

    def signal(self, number: int) -> None:
        """Send a signal to the daemon, and to nothing else; nothing happens if it is gone."""
        self._meet_family()
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; its process is gone when this returns."""
        self.signal(signal.SIGKILL)
        self.wait(STOP_S)

    def pause(self) -> None:
        """SIGSTOP to it and to what it started: as a laptop that sleeps, but for its connections."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        for process in self._processes():
            process.resume()

    def wait(self, within_s: float) -> int:
        """Its exit code, when it has ended. Raises Unavailable."""
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{self} (pid {self.pid}) still runs after {within_s:g} s") from error

    def end_family(self) -> list[int]:
        """Kills what processes of this daemon outlived it, and returns their ids."""
        _, left = psutil.wait_procs(self._family, timeout=ORPHANS_S)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._family.clear()
        return [process.pid for process in left]

    def _processes(self) -> list[psutil.Process]:
        this = psutil.Process(self.pid)
        return [this, *this.children(recursive=True)]

    def _meet_family(self) -> None:
        if self.alive:
            with suppress(psutil.NoSuchProcess):
                self._family += psutil.Process(self.pid).children(recursive=True)


class Swarm:
    """Daemons that know each other's addresses. As a context: none of their processes is left when it ends.

    That holds when an exception ends it, and when this process is killed outright: then a guard, a shell that waits on
    a pipe from here, kills what it was told of.
    """

    def __init__(self, base: Path, settings: Iterable[Settings]) -> None:
        self.daemons = [Daemon(number, base / f"node{number}", each) for number, each in enumerate(settings)]
        self._guard = _Guard()
        for daemon in self.daemons:
            daemon.configure(f"{other.address}/p2p/{other.peer}" for other in self.daemons if other is not daemon)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, *daemons: Daemon, ready: Callable[[Daemon], None] = lambda daemon: None) -> None:
        """Starts these, or all: they answer calls when this returns; `ready` hears of each. Raises PrimeError."""
        chosen = daemons or tuple(self.daemons)
        starting = []
        for daemon in chosen:
            with deferred_signals():  # else a process could be there that nobody knows of
                starting.append(daemon.spawn())
                self._guard.tell(each.pid for each in self.daemons if each.alive)
        for daemon, each in zip(chosen, starting, strict=True):
            each.ready(START_S)
            ready(daemon)

    def until_connected(self, within_s: float = 20.0) -> None:
        """Returns when each that runs is connected to all others that do. Raises Unavailable."""
        from primep2p.control.calls.daemon import DaemonStatus

        alive = [daemon for daemon in self.daemons if daemon.alive]
        deadline = time.monotonic() + within_s
        for daemon in alive:
            others = {other.peer for other in alive if other is not daemon}
            while missing := others - set(daemon.call(DaemonStatus()).connected):
                if time.monotonic() > deadline:
                    raise Unavailable(f"{daemon} is not connected to {len(missing)} others after {within_s:g} s")
                time.sleep(0.05)

    def stop(self, *daemons: Daemon) -> None:
        """Ends these, or all, at the same time: asked first, killed if they do not."""
        chosen = [daemon for daemon in daemons or self.daemons if daemon.process is not None]
        for daemon in chosen:
            daemon.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for daemon in chosen:
            try:
                daemon.wait(max(0.1, deadline - time.monotonic()))
            except Unavailable:
                daemon.kill()

    def close(self) -> None:
        """Ends all that is left. A second Ctrl-C takes effect afterwards."""
        with deferred_signals():
            self.stop()
            for daemon in self.daemons:
                daemon.end_family()
            self._guard.dismiss()


class _Guard:
    """A shell that does nothing until its pipe ends, then kills the processes that it heard of last."""

    SCRIPT = 'trap "" INT TERM HUP; while read -r line; do pids=$line; done; [ -z "$pids" ] || kill -9 $pids'

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", self.SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def tell(self, pids: Iterable[int]) -> None:
        """Those that are to be gone."""
        assert self._process.stdin is not None
        self._process.stdin.write((" ".join(map(str, pids)) + "\n").encode())
        self._process.stdin.flush()

    def dismiss(self) -> None:
        """Ends it before its pipe does: the ids may belong to others by now."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Within, a signal that ends this process waits. Nothing changes outside the main thread: none arrives there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, defer) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


_SHUFFLED = iter(random.sample(PORTS, len(PORTS)))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and that this process has not been given before: daemons
    are given theirs long before they listen."""
    for port in _SHUFFLED:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable("no free port was found on the loopback interface")


def _toml(value: object) -> str:
    """Strings and lists of them are written alike in JSON and TOML."""
    return json.dumps(value, ensure_ascii=False)
