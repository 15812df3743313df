"""A node's home on disk: locked by one process, opened as a Store."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from primep2p.model.errors import ConfigError
from primep2p.store.blobs import FileBlobs
from primep2p.store.files import disk, make_directory, require_room, sync_directory
from primep2p.store.journal import SqliteRuns
from primep2p.store.seam import BlobStore, RunStore, ShelfStore
from primep2p.store.shelf import SqliteShelf
from primep2p.store.sqlite import Database

__all__ = ["Store", "lock_home", "open_store"]


class Store:
    """Blobs, runs and shelf of one home. Whoever opened it closes it, after the last call has returned."""

    def __init__(self, database: Database, blobs: BlobStore, runs: RunStore, shelf: ShelfStore) -> None:
        self.blobs = blobs
        self.runs = runs
        self.shelf = shelf
        self._database = database

    def close(self) -> None:
        """What was durable stays; the home can be opened again."""
        self._database.close()


def open_store(home: Path, *, fsync: bool = True) -> Store:
    """The store in `home`, created where there is none, and put in order after a crash.

    Hold the home's lock before: what another process is writing would be taken for what a crash left.
    Without `fsync` nothing is ever durable: for simulations, whose machine does not lose power half-way.
    Raises StoreError, also where a newer version of primep2p wrote it, or where it is damaged: gone, cut, or not what
    sqlite wrote. What sqlite had not yet called durable may be missing at its end, and nothing before.
    """
    with disk(home, "create"):
        make_directory(home)
    with disk(home, "write to"):
        require_room(home)
    database = Database(home / "store.db", fsync=fsync, is_used=(home / "blobs").exists())
    try:
        if fsync:
            with disk(home, "write"):
                sync_directory(home)  # so that where there are blobs, there was a database
                with suppress(PermissionError):  # whoever may not read the directory above did not make the home in it
                    sync_directory(home.parent)
        blobs = FileBlobs(home / "blobs", database, fsync=fsync)
    except BaseException:
        database.close()
        raise
    if fsync:
        with disk(home, "write"):
            sync_directory(home)  # the names of what was just created
    return Store(database, blobs, SqliteRuns(database), SqliteShelf(database))


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """This process alone uses `home` while the context lasts; the lock goes with the process, however it ends.

    Raises ConfigError where another process has it, StoreError where the disk fails.
    """
    path = home / "lock"
    with disk(path, "create"):
        make_directory(home)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise ConfigError(
                f"{home} is already in use by process {holder or 'unknown'}",
                hint=f"stop it with: primep2p daemon stop --home {quote(str(home))}; or give this one another home",
            ) from error
        with disk(path, "write"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
