"""`primep2p daemon`: start, stop, status, logs; install and uninstall are beside this."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from shlex import quote
from typing import Annotated

from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json, flag
from primep2p.cli.commands import service
from primep2p.cli.daemon.logtail import follow, readable, tail
from primep2p.cli.daemon.spawn import Starting, tell_failure, tell_ready
from primep2p.cli.render.node import show_started, show_status
from primep2p.cli.render.printing import print_json
from primep2p.control.calls.daemon import DaemonStatus, DaemonStop
from primep2p.control.jsonrpc import blamed
from primep2p.model.errors import PrimeError, Unavailable
from primep2p.model.views.node import NodeStatus

__all__ = ["app", "logs", "start", "status", "stop"]

STOP_S = 15.0

app = App(name="daemon", help="The daemon of this node.", help_format="plaintext")
service.register(app)


@app.command
def start(
    *,
    detach: Annotated[bool, flag("--detach", "-d", help="Go to the background.")] = False,
    ready_fd: Annotated[int, Parameter(show=False)] = -1,
    at: At = HERE,
) -> None:
    """Start the daemon in the foreground, until Ctrl-C; with --detach in the background."""
    if detach:
        _detach(at)
        return
    if ready_fd < 0:
        _serve(at, lambda ready: _tell_terminal(at, ready), console=True)
        return
    with os.fdopen(ready_fd, "wb", buffering=0) as parent:
        try:
            _serve(at, lambda status: tell_ready(parent, status), console=False)
        except PrimeError as error:
            tell_failure(parent, error)
            raise


@app.command
def stop(*, at: At = HERE) -> None:
    """Stop the daemon, and wait until its process is gone."""
    with at.connect() as client:
        pid = client.call(DaemonStop()).pid
    if not _gone(pid, STOP_S):
        raise Unavailable(f"the daemon (pid {pid}) is still stopping after {STOP_S:g} s", hint=f"kill -9 {pid}")


@app.command
def status(*, json: Json = False, at: At = HERE) -> None:
    """Show who this node is, where it listens, and its runs."""
    with at.connect() as client:
        answer = client.call(DaemonStatus())
    print_json(answer) if json else show_status(answer)


@app.command
def logs(
    *,
    lines: Annotated[int, Parameter(name=["--lines", "-n"], help="How many of the newest lines.")] = 50,
    follow_: Annotated[bool, flag("--follow", "-f", help="Go on as lines come.")] = False,
    json: Json = False,
    at: At = HERE,
) -> None:
    """Print the newest lines of the daemon's log."""
    path = at.load().home / "daemon.log"
    if not path.exists():
        raise Unavailable(f"there is no log yet at {path}", hint=f"start the daemon with: {at.command('daemon start')}")
    for line in follow(path, lines) if follow_ else tail(path, lines):
        print(line if json else readable(line), flush=True)


def _serve(at: At, ready: Callable[[NodeStatus], None], *, console: bool) -> None:
    # Until trio listens for signals there is nothing to clean up: an interrupted import ends quietly.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    config = at.load()
    # By name: libp2p takes a second to import, and no other command shall wait for it.
    serve = import_module("primep2p.cli.daemon.serve").serve
    try:
        serve(config, ready, console=console)
    except Exception as error:
        known = blamed(error)
        if known is None or known is error:
            raise
        raise known from error


def _tell_terminal(at: At, ready: NodeStatus) -> None:
    status_command = "primep2p status " + (at.options or f"--home {quote(ready.home)}")
    with suppress(OSError):  # nobody reads what it prints: it serves all the same
        show_started(ready, status_command)


def _detach(at: At) -> None:
    ready = Starting(at.load().home, at.config).ready()
    print(f"peer {ready.peer_id}, pid {ready.pid}")


def _gone(pid: int, deadline_s: float) -> bool:
    """Whether the process is over in time. A zombie is: only its parent has not looked yet."""
    import psutil

    deadline = time.monotonic() + deadline_s
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True
