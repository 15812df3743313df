"""`primep2p daemon`: start, stop, status, logs."""

import json as json_module
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Annotated

import msgspec
from cyclopts import App, Parameter

from primep2p.cli.at import HERE, At, Json, flag
from primep2p.cli.logtail import follow, tail
from primep2p.cli.render import print_json, show_status
from primep2p.control.calls import DaemonStatus, DaemonStop
from primep2p.control.jsonrpc import ErrorObject, InternalError, blamed, failure, failure_error
from primep2p.model.errors import PrimeError, StoreError, Unavailable
from primep2p.model.views import NodeStatus

__all__ = ["app", "logs", "start", "status", "stop"]

START_S = 15.0
"""Until a detached daemon must answer: libp2p and its dependencies take 2 s to import on a slow machine."""

STOP_S = 15.0

app = App(name="daemon", help="The daemon of this node.", help_format="plaintext")


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
        _serve(at, lambda ready: None, console=True)
        return
    with os.fdopen(ready_fd, "wb", buffering=0) as parent:
        try:
            _serve(at, lambda ready: _tell(parent, {"peer_id": ready.peer_id, "pid": ready.pid}), console=False)
        except PrimeError as error:
            _tell(parent, {"error": failure(error)})
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
        raise Unavailable(f"there is no log yet at {path}")
    for line in follow(path, lines) if follow_ else tail(path, lines):
        print(line if json else _readable(line), flush=True)


def _serve(at: At, ready: Callable[[NodeStatus], None], *, console: bool) -> None:
    # Until trio listens for signals there is nothing to clean up: an interrupted import ends quietly.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    config = at.load()
    # By name: libp2p takes a second to import, and no other command shall wait for it.
    serve = import_module("primep2p.cli.serve").serve
    try:
        serve(config, ready, console=console)
    except Exception as error:
        known = blamed(error)
        if known is None or known is error:
            raise
        raise known from error


def _tell(parent: IO[bytes], message: object) -> None:
    with suppress(BrokenPipeError):  # nobody waits any more
        parent.write(msgspec.json.encode(message) + b"\n")


class _Word(msgspec.Struct):
    """What a detached daemon says on its pipe, once."""

    peer_id: str = ""
    pid: int = 0
    error: ErrorObject | None = None


def _detach(at: At) -> None:
    config = at.load()
    home = config.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        last_words = (home / "daemon.err").open("wb")
    except OSError as error:
        raise StoreError(f"cannot write to the home {home}: {error.strerror}") from error
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "primep2p.cli.main", "daemon", "start", "--ready-fd", str(writing)]
    command += ["--home", str(home)] + (["--config", str(at.config.absolute())] if at.config else [])
    with last_words, os.fdopen(reading, "rb", buffering=0) as pipe:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=last_words, stderr=last_words, pass_fds=[writing],
            start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        word = _word(pipe, child, home)
    if word.error is not None:
        raise failure_error(word.error)
    print(f"peer {word.peer_id}, pid {word.pid}")


def _word(pipe: IO[bytes], child: "subprocess.Popen[bytes]", home: Path) -> _Word:
    """What the child says at last; a child that says nothing is over or stopped when this raises."""
    received, deadline = b"", time.monotonic() + START_S
    while not received.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            child.kill()
            child.wait()
            raise Unavailable(f"the daemon did not start within {START_S:g} s", hint="see primep2p daemon logs")
        more = pipe.read(65_536)
        if not more:
            code = child.wait()
            tail_ = (home / "daemon.err").read_text(errors="replace").strip().splitlines()[-1:]
            raise InternalError(f"the daemon died at its start with exit code {code}", hint="".join(tail_))
        received += more
    return msgspec.json.decode(received, type=_Word)


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


def _readable(line: str) -> str:
    try:
        fields = json_module.loads(line)
        head = f"{fields.pop('timestamp')[:19].replace('T', ' ')} {fields.pop('level'):7} {fields.pop('event')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    fields.pop("logger", None)
    traceback = fields.pop("exception", "")
    rest = "".join(f" {key}={value}" for key, value in fields.items())
    return head + rest + (f"\n{traceback}" if traceback else "")
