"""Where the control socket lies, and who may be at its other end.

A Unix socket's path has room for 104 bytes on macOS and 108 on Linux, less than many a home directory takes: the
socket has a short path of its own, and a symlink in the home points to it.
"""

import hashlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Protocol

from primep2p.model.errors import ConfigError, Unavailable

__all__ = ["MAX_PATH_BYTES", "find_socket", "link_path", "no_daemon", "peer_uid", "prepare_directory", "socket_path"]

MAX_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""sockaddr_un's room without the zero at its end."""


def socket_path(home: Path, configured: str = "", env: Mapping[str, str] = os.environ) -> Path:
    """The path of the socket of the daemon of `home`. Raises ConfigError where it is too long for a socket."""
    if configured:
        path = Path(configured)
    else:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:8] + ".sock"
        runtime = env.get("XDG_RUNTIME_DIR", "")
        path = (Path(runtime) / "primep2p" if runtime else Path(f"/tmp/primep2p-{os.getuid()}")) / name
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigError(
            f"the control socket's path {path} is longer than the {MAX_PATH_BYTES} bytes that a socket can have",
            hint="set control.socket to a shorter path",
        )
    return path


def link_path(home: Path) -> Path:
    """Where clients look: a symlink to the socket."""
    return home / "control.sock"


def find_socket(home: Path, options: str = "") -> Path:
    """The socket that the daemon of `home` left word of. Raises Unavailable."""
    link = link_path(home)
    try:
        return Path(os.readlink(link))
    except OSError as error:
        if link.is_socket():  # control.socket is set to this very path
            return link
        raise no_daemon(home, options) from error


def no_daemon(home: Path, options: str = "") -> Unavailable:
    """What a client says when nobody listens. `options` are those that named the node to a command."""
    named = options or f"--home {quote(str(home))}"
    return Unavailable(f"no daemon runs for {home}", hint=f"start it with: primep2p daemon start {named}")


def prepare_directory(directory: Path) -> None:
    """Makes the socket's directory unless it is there. Raises ConfigError where it is not ours alone, or a symlink:
    below /tmp anybody could have put one there first."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise ConfigError(f"cannot make the control socket's directory {directory}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"the control socket's directory {directory} is a link or a file")
    if found.st_uid != os.getuid():
        raise ConfigError(f"the control socket's directory {directory} belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise ConfigError(
            f"the control socket's directory {directory} is open to others (mode {found.st_mode & 0o777:04o})",
            hint=f"chmod 700 {directory}, or set control.socket to a path in a directory of its own",
        )


class _Connected(Protocol):
    """A socket of the standard library, or trio's."""

    def getsockopt(self, level: int, option: int, buffer_bytes: int, /) -> bytes: ...


def peer_uid(connection: _Connected) -> int:
    """The user at the other end, as the kernel knows it."""
    if sys.platform == "darwin":
        local_peercred, sol_local, xucred_bytes = 0x001, 0, 76  # from sys/un.h and sys/ucred.h
        raw = connection.getsockopt(sol_local, local_peercred, xucred_bytes)
        return int(struct.unpack_from("=II", raw)[1])  # version, uid
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])  # pid, uid, gid
