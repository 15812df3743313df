"""One process of a trainer, from start to reaping: its pipe, its end, and what it prints."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from itertools import dropwhile
from pathlib import Path

import msgspec
import trio

from primep2p.model.text import printable
from primep2p.plugin.frames import Answer, FrameReader, Request, decode_answer, encode
from primep2p.plugin.stopwatch import Stopwatch
from primep2p.tasks import TaskStatus

__all__ = ["Child", "Fault", "Late", "Log", "environment_for", "live"]

EXIT_S = 1.0
"""From the end of the pipe until the process has exited, so that its status can be told."""

DRAIN_S = 0.5
"""For what a dead trainer printed; only a grandchild that left the process group keeps that pipe open longer."""

LOG_BYTES = 2**20
"""The log and its predecessor: 2 MiB at the most, however much a trainer prints."""

TAIL_BYTES = 8192
TAIL_LINES = 20
READ_BYTES = 65_536

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""1 unless the owner set them: several nodes on one computer, each with a pool that spins on every core, slow each
other down, and on small models a pool is slower than one thread even alone."""

SETTINGS = "PRIMEP2P__"
"""The daemon's own settings in the environment, passphrases among them, are not for a trainer."""

SECRETS = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)S?(?:_|$)", re.ASCII)
"""Names of variables that a trainer does not get unless its owner says so."""

SOCKETS = frozenset({"SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"})
"""Doors to other programs that act for the owner."""


class Fault(Exception):
    """What the process did wrong, as the end of a sentence that begins with its name."""


class Late(Fault):
    """It did not end in time."""


class Child:
    """The living process. `gone` is set once it is reaped and its output read; then its status is known."""

    def __init__(self, process: trio.Process, pipe: trio.SocketStream) -> None:
        self.gone = trio.Event()
        self.killed = False
        self.abi_version = 0
        self.predicts = False
        """What the process says of its trainer, once that is made."""
        self.blame: Fault | None = None
        """Why it was killed, where that was for something that it did."""
        self._process = process
        self._pipe = pipe
        self._reader = FrameReader()
        self._bodies: deque[bytes] = deque()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def kill(self) -> None:
        """At once, with all that it forked; `gone` follows."""
        self.killed = True
        if self._process.returncode is None:
            _kill_group(self._process)

    @property
    def group(self) -> int:
        """Of the process and what it forked."""
        return self._process.pid

    def stop(self) -> None:
        """Stands still with all that it forked, whatever framework it is busy in."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stop`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def send(self, request: Request) -> None:
        """All of it. Raises Fault where the process has ended."""
        try:
            await self._pipe.send_all(encode(request))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise await self._ended() from None

    async def answer(self, silent_s: float, finish_s: float, clock: Stopwatch) -> Answer:
        """The next one. Raises Fault when none comes in `silent_s` or until `finish_s`, or what comes is none."""
        with clock.move_on_at(min(clock.now() + silent_s, finish_s)):
            try:
                while not self._bodies:
                    received = await self._pipe.receive_some(READ_BYTES)
                    if not received:
                        raise await self._ended()
                    self._bodies.extend(self._reader.feed(received))
                return decode_answer(self._bodies.popleft())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise await self._ended() from None
            except (ValueError, msgspec.DecodeError, RecursionError) as error:
                raise Fault(f" wrote nonsense into the daemon's pipe: {error}") from error
        if clock.now() >= finish_s:
            raise Late(" was not done by its deadline")
        raise Fault(f" reported nothing for {silent_s:g} s")

    async def _ended(self) -> Fault:
        if self.blame is not None:
            return self.blame
        with trio.move_on_after(EXIT_S):
            await self._process.wait()
        status = self._process.returncode
        if status is None:
            return Fault(" closed the daemon's pipe")
        if status == -signal.SIGKILL:
            return Fault(" was killed, perhaps for want of memory")
        return Fault(f" exited with status {status}" if status >= 0 else f" died of signal {-status}")


async def live(directory: Path, log: "Log", kept: Collection[str] = (), *, task_status: TaskStatus[Child]) -> None:
    """Owns one process: starts it in `directory` with the variables `kept` of the environment besides the usual ones,
    keeps its output, leaves neither it nor its group behind."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = await _open(directory, theirs, environment_for(os.environ, kept))
        theirs.close()  # so that the end of the process is the end of the pipe
        output = process.stdout
        assert output is not None
        pipe = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        child = Child(process, pipe)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.keep, output)
                task_status.started(child)
                await process.wait()
                _kill_group(process)  # what it forked holds its pipes open
                nursery.cancel_scope.deadline = trio.current_time() + DRAIN_S
        finally:
            child.kill()
            pipe.socket.close()
            with trio.CancelScope(shield=True):
                await process.wait()
                await output.aclose()
            child.gone.set()


def environment_for(ours: Mapping[str, str], kept: Collection[str] = ()) -> dict[str, str]:
    """What a trainer sees of the environment `ours`."""

    def is_given(name: str) -> bool:
        if name.startswith(SETTINGS):
            return False
        return name in kept or (name not in SOCKETS and not SECRETS.search(name.upper()))

    return dict.fromkeys(THREADS, "1") | {name: value for name, value in ours.items() if is_given(name)}


async def _open(directory: Path, theirs: socket.socket, environment: dict[str, str]) -> trio.Process:
    """In a process group of its own, so that it is stopped and killed with all its children, but in the daemon's
    session: a stopped group whose last parent in the session dies is sent SIGHUP and SIGCONT by the system, so that a
    paused trainer ends with a killed daemon. PR_SET_PDEATHSIG would not do: it strikes when the thread that forked
    ends, and trio's threads do."""
    start = partial(
        trio.lowlevel.open_process,
        [sys.executable, "-P", "-m", "primep2p.plugin.worker", str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[theirs.fileno()],
        process_group=0,
    )
    return await start(cwd=directory, env=environment)


def _kill_group(process: trio.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone; macOS says "not permitted" of a group of zombies
        os.killpg(process.pid, signal.SIGKILL)


class Log:
    """What a trainer prints: in a file and its predecessor, both capped, with the last lines at hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail = b""

    async def keep(self, output: trio.abc.ReceiveStream) -> None:
        """One process's output until its end; the last process's lines are no longer the tail."""
        self._tail = b""
        async for printed in output:
            self._tail = (self._tail + printed)[-TAIL_BYTES:]
            with suppress(OSError):  # a full disk costs these lines in the file, and nothing else
                self._append(printed)

    def _append(self, printed: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(printed)
            is_long = file.tell() > LOG_BYTES
        if is_long:
            self.path.replace(self.path.with_suffix(".log.1"))

    def tail(self) -> str:
        """The last lines; they do not begin within an entry of a traceback, whose code and carets are indented."""
        lines = self._tail.decode(errors="replace").splitlines()
        last = lines[-TAIL_LINES:]
        if len(lines) > TAIL_LINES:
            last = list(dropwhile(lambda line: line.startswith("    "), last)) or last
        return "\n".join(map(printable, last))
