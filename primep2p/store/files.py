"""The few file operations that durability needs, with failures named by path."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primep2p.model.errors import StoreError

__all__ = ["disk", "make_directory", "require_room", "sync_directory", "sync_file"]

LEAST_ROOM_BYTES = 1 << 20
"""A journal, a few rounds of a small model: with less a daemon would start, and end at its first record."""


@contextmanager
def disk(path: Path, purpose: str = "use") -> Iterator[None]:
    """Whatever fails inside is the disk's fault: raises StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        hint = "make room on that disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StoreError(f"cannot {purpose} {path}: {error.strerror or error}", hint=hint) from error


def make_directory(path: Path) -> None:
    """`path` as a directory that only its owner enters. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def require_room(directory: Path) -> None:
    """There is room for what comes first. By writing, since a quota shows in no other way. Raises OSError."""
    probe = directory / "room"
    try:
        probe.write_bytes(bytes(LEAST_ROOM_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """The file's bytes are on disk for good when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """The names in the directory are on disk for good when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
