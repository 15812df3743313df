"""The home of a node: who may look into it, and whether its disk does what a store needs."""

import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil

from primep2p.cli.doctor.finding import Finding, Scene
from primep2p.cli.render.previews import size

__all__ = ["disk", "files", "home"]

LEAST_FREE_BYTES = 64 * 2**20
"""Below this a daemon would soon end: the journal, a log, a few rounds of a small model."""

SPARE_MODELS = 20
"""So many more of the largest model here should have room: a few rounds of everybody's deltas."""

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smbfs", "smb3", "afpfs", "9p", "fuse.sshfs", "webdav"})
"""File systems of other machines, on which locks and sqlite's log cannot be relied on."""


def home(scene: Scene) -> Iterator[Finding]:
    """Whether it is there, and its owner's alone."""
    path = scene.config.home
    if not path.exists():
        yield Finding(
            what="home", state="note", said=f"{path} is not there yet", fix="the first start of a daemon makes it"
        )
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if path.stat().st_uid != os.getuid():
        yield Finding(what="home", state="fault", said=f"{path} is another user's", fix=f"chown -R $(id -un) {path}")
    elif mode & 0o077:
        yield Finding(
            what="home", state="note", said=f"{path} is open to others, mode {mode:04o}", fix=f"chmod 700 {path}"
        )
    else:
        yield Finding(what="home", state="ok", said=f"{path}, mode {mode:04o}")
    key = path / "identity.key"
    if key.exists() and (mode := stat.S_IMODE(key.stat().st_mode)) & 0o077:
        said = f"{key} can be read by others, mode {mode:04o}: no daemon starts with it"
        yield Finding(
            what="identity",
            state="fault",
            said=said,
            fix=f"chmod 600 {key}; if somebody may have read it: primep2p keys rotate",
        )
    elif key.exists():
        yield Finding(what="identity", state="ok", said=f"{key}, mode {mode:04o}")


def disk(scene: Scene) -> Iterator[Finding]:
    """How much room there is, against the models that are here already."""
    path = _existing(scene.config.home)
    free, largest = shutil.disk_usage(path).free, _largest(scene.config.home / "blobs")
    wanted = max(LEAST_FREE_BYTES, SPARE_MODELS * largest)
    models = f", the largest model here takes {size(largest)}" if largest else ""
    said = f"{size(free)} free where {path} is{models}"
    if free < LEAST_FREE_BYTES:
        yield Finding(what="disk", state="fault", said=said, fix=f"make room: a daemon needs {size(LEAST_FREE_BYTES)}")
    elif free < wanted:
        yield Finding(what="disk", state="note", said=said, fix=f"make room for {SPARE_MODELS} of them: {size(wanted)}")
    else:
        yield Finding(what="disk", state="ok", said=said)
    kind = _file_system(path)
    if kind in REMOTE:
        said = f"{path} is on {kind}: locks and sqlite's log are not safe there"
        yield Finding(what="file system", state="fault", said=said, fix="set node.home to a directory of a local disk")


def files(scene: Scene) -> Iterator[Finding]:
    """Whether the disk takes writes, locks and a database: tried in a directory that is gone afterwards."""
    path = _existing(scene.config.home)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=path) as place:
            _try_lock(Path(place) / "lock")
            _try_database(Path(place) / "store.db")
    except (OSError, sqlite3.Error) as error:
        said = f"{path} cannot be written as a store must be: {error}"
        yield Finding(
            what="files", state="fault", said=said, fix="see that it is yours, not read-only, and on a local disk"
        )
        return
    yield Finding(what="files", state="ok", said=f"writes, locks and sqlite {sqlite3.sqlite_version} work in {path}")


def _try_lock(path: Path) -> None:
    """Raises OSError where a second lock is given, or none."""
    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("a lock is given twice")


def _try_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        [[mode]] = database.execute("PRAGMA journal_mode = WAL").fetchall()
        if mode != "wal":
            raise OSError(f"sqlite keeps no write-ahead log there, only {mode!r}")
        database.execute("CREATE TABLE probe (number INTEGER)")
        database.execute("INSERT INTO probe VALUES (7)")
        database.commit()
    with closing(sqlite3.connect(path)) as database:
        if database.execute("SELECT number FROM probe").fetchall() != [(7,)]:
            raise OSError("sqlite does not read what it wrote")


def _existing(path: Path) -> Path:
    """`path`, or the directory in which it would be made."""
    while not path.exists():
        path = path.parent
    return path


def _largest(blobs: Path) -> int:
    return max((file.stat().st_size for file in blobs.glob("??/*") if file.is_file()), default=0)


def _file_system(path: Path) -> str:
    """Of the mount that `path` is on; empty where that is not known."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (path.resolve(), *path.resolve().parents) if place in mounts), "")
