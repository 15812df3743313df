"""A command in a real terminal: what it writes is shown by pyte, and keys are typed into it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

WITHIN_S = 60.0
"""For what must come to be seen: a process that imports much on a machine that does much."""

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """`screen` is what is seen now, `written` all that was written."""

    def __init__(self, columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.written = b""
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self.theirs = pty.openpty()
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """The process hears of it as from any terminal."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def rows(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display]

    def until(self, seen: Callable[[str], bool]) -> None:
        """That is so of all rows together."""
        deadline = time.monotonic() + WITHIN_S
        while not seen("\n".join(self.rows)):
            left_s = deadline - time.monotonic()
            assert left_s > 0, "not seen:\n" + "\n".join(self.rows)
            self._take(left_s)

    def until_all(self, *parts: str) -> None:
        """All of these are seen. What is written comes in pieces: look for each, and not at what is beside one."""
        self.until(lambda text: all(part in text for part in parts))

    def until_end(self, process: "subprocess.Popen[bytes]") -> int:
        """The exit code, when all that was written is read."""
        while self._take(WITHIN_S):
            pass
        return process.wait(WITHIN_S)

    def _take(self, within_s: float) -> bool:
        if not select.select([self._ours], [], [], within_s)[0]:
            return False
        try:
            written = os.read(self._ours, 65_536)
        except OSError:  # nobody has it open any more
            return False
        self.written += written
        self._stream.feed(written)
        return bool(written)

    @property
    def left_as_it_was(self) -> bool:
        """The alternate screen was entered, and left for good."""
        return -1 < self.written.rfind(ENTER) < self.written.rfind(LEAVE)


@contextmanager
def shown(columns: int, rows: int, *arguments: str, home: Path) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    """The command in a terminal of that size; its process is gone afterwards."""
    terminal = Terminal(columns, rows)
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "primep2p.cli.main", *arguments, "--home", str(home)],
        stdin=terminal.theirs, stdout=terminal.theirs, stderr=terminal.theirs, start_new_session=True,
        env={**env, "TERM": "xterm-256color"}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal.theirs)
    try:
        yield terminal, process
    finally:
        process.kill()
        process.wait()
