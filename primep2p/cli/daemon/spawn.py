"""A daemon as a process of its own: it says on a pipe that it answers calls, or why it cannot start."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from primep2p.control.jsonrpc import ErrorObject, InternalError, failure, failure_error
from primep2p.model.errors import PrimeError, StoreError, Unavailable
from primep2p.model.views.node import NodeStatus

__all__ = ["START_S", "Ready", "Starting", "tell_failure", "tell_ready"]

START_S = 15.0
"""Until a daemon must answer: libp2p and its dependencies take 2 s to import on a slow machine."""

ERRORS = "daemon.err"
"""In its home: what a daemon prints that has no terminal. Its log is another file."""


class Ready(msgspec.Struct, frozen=True):
    """A daemon that answers calls."""

    peer_id: str
    pid: int


class _Word(msgspec.Struct):
    """What a new daemon says on its pipe, once."""

    peer_id: str = ""
    pid: int = 0
    error: ErrorObject | None = None


def tell_ready(parent: IO[bytes], status: NodeStatus) -> None:
    """The daemon's side: it answers calls from now on."""
    _tell(parent, _Word(peer_id=status.peer_id, pid=status.pid))


def tell_failure(parent: IO[bytes], error: PrimeError) -> None:
    """The daemon's side: it ends with `error`."""
    _tell(parent, _Word(error=failure(error)))


class Starting:
    """A daemon on its way up, which outlives its terminal. The caller owns `process`, and waits for `ready` once."""

    def __init__(
        self,
        home: Path,
        config: Path | None = None,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """`under` is a command that becomes the daemon, as `ip netns exec`. Raises StoreError where the home cannot be
        written."""
        self._home = home
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            last_words = (home / ERRORS).open("wb")
        except OSError as error:
            raise StoreError(f"cannot write to the home {home}: {error.strerror}") from error
        reading, writing = os.pipe()
        self._pipe = os.fdopen(reading, "rb", buffering=0)
        command = [
            *under,
            sys.executable,
            "-P",
            "-m",
            "primep2p.cli.main",
            "daemon",
            "start",
            "--ready-fd",
            str(writing),
        ]
        command += ["--home", str(home)] + (["--config", str(config.absolute())] if config else [])
        try:
            with last_words:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=last_words, stderr=last_words, pass_fds=[writing],
                    start_new_session=True, env=env,
                )  # fmt: skip
        finally:
            os.close(writing)

    def ready(self, within_s: float = START_S) -> Ready:
        """What the daemon says at last. The process is over when this raises: what kept it from starting, or
        Unavailable where that took too long."""
        with self._pipe:
            word = self._word(within_s)
        if word.error is not None:
            self.process.wait()
            raise failure_error(word.error)
        return Ready(word.peer_id, word.pid)

    def _word(self, within_s: float) -> _Word:
        received, deadline = b"", time.monotonic() + within_s
        while not received.endswith(b"\n"):
            if not select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.process.kill()
                self.process.wait()
                raise Unavailable(f"the daemon did not start within {within_s:g} s", hint="see primep2p daemon logs")
            more = self._pipe.read(65_536)
            if not more:
                code = self.process.wait()
                tail = (self._home / ERRORS).read_text(errors="replace").strip().splitlines()[-1:]
                raise InternalError(f"the daemon died at its start with exit code {code}", hint="".join(tail))
            received += more
        return msgspec.json.decode(received, type=_Word)


def _tell(parent: IO[bytes], word: _Word) -> None:
    with suppress(BrokenPipeError):  # nobody waits any more
        parent.write(msgspec.json.encode(word) + b"\n")
