"""One sqlite file in WAL mode: a connection that writes, one that reads, usable from any thread."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from primep2p.model.errors import StoreError
from primep2p.store.files import disk

__all__ = ["RESTORE", "SCHEMA_VERSION", "Database"]

RESTORE = "restore the home from a backup, or start with a new one: what this node signed is not known any more"
"""What can be done about a damaged store. A backup is safe: members are asked what it lacks."""

_SCHEMAS = (
    """
CREATE TABLE blobs (
    cid TEXT PRIMARY KEY, manifest BLOB NOT NULL, size_bytes INTEGER NOT NULL, durable INTEGER NOT NULL
) STRICT;
CREATE TABLE runs (
    run BLOB PRIMARY KEY, spec BLOB NOT NULL, own_join BLOB NOT NULL, pin BLOB, pin_round INTEGER NOT NULL
) STRICT;
CREATE TABLE journal (id INTEGER PRIMARY KEY, run BLOB NOT NULL, round INTEGER NOT NULL, entry BLOB NOT NULL) STRICT;
CREATE INDEX journal_by_round ON journal (run, round);
CREATE TABLE checkpoints (
    run BLOB NOT NULL, round INTEGER NOT NULL, checkpoint BLOB NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (run, round)
) STRICT;
CREATE TABLE addresses (peer TEXT PRIMARY KEY, addresses TEXT NOT NULL) STRICT;
CREATE TABLE accusations (
    run BLOB NOT NULL, peer TEXT NOT NULL, reason TEXT NOT NULL, times INTEGER NOT NULL,
    PRIMARY KEY (run, peer, reason)
) STRICT;
CREATE TABLE evidence (
    run BLOB NOT NULL, peer TEXT NOT NULL, hash BLOB NOT NULL, evidence BLOB NOT NULL,
    PRIMARY KEY (run, peer, hash)
) STRICT;
""",
    """
CREATE TABLE shelf_records (
    owner TEXT NOT NULL, name TEXT NOT NULL, record BLOB NOT NULL, catalog BLOB, PRIMARY KEY (owner, name)
) STRICT;
CREATE TABLE shelf_kept (
    owner TEXT NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL, catalog TEXT NOT NULL, version BLOB NOT NULL,
    since REAL NOT NULL, PRIMARY KEY (owner, name, label)
) STRICT;
""",
    "ALTER TABLE runs ADD COLUMN own_loop INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE checkpoints ADD COLUMN certified_at REAL NOT NULL DEFAULT 0",
    """
CREATE TABLE standings (
    run BLOB PRIMARY KEY, paused INTEGER NOT NULL, leave BLOB NOT NULL, has_left INTEGER NOT NULL
) STRICT;
""",
)
"""What each version of the schema adds to the one before."""

SCHEMA_VERSION = len(_SCHEMAS)

_HEADER_BYTES = 100
"""Of a sqlite file: in it, the size of a page and the number of pages."""

_BUSY_S = 5.0
"""Only a person's sqlite shell ever holds the file: wait for it a little."""


class Database:
    """Statements on the file at `path`, created where there is none. Where it `is_used`, one that is gone, empty or cut
    is a StoreError, as is every other failure.

    Reads never wait for a write's fsync; a read sees every write that returned before it began.
    """

    def __init__(self, path: Path, *, fsync: bool = True, is_used: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        self._is_used = is_used
        self._writing, self._reading = Lock(), Lock()
        with disk(path, "find"):
            if is_used:
                self._require_whole()
        with disk(path, "open"):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # sqlite gives its other files the same mode
        with self._failures():
            self._writer, self._reader = self._connect(), self._connect()
            self._durable = True
            self._migrate()
            self._check()

    def read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._failures(), self._reading:
            return self._reader.execute(statement, values).fetchall()

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """A transaction: all or none. Durable: on disk for good, with all that came before, when the block is left;
        otherwise a power cut (not a crash of this process) may undo it."""
        with self._failures(), self._writing:
            if durable != self._durable and self._fsync:
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Nothing can be read or written any more."""
        with self._failures(), self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'OFF'}")
        return connection

    def _migrate(self) -> None:
        with self.write(durable=True) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer primep2p (its schema is {version}, this one knows "
                    f"{SCHEMA_VERSION})",
                    hint="install that version again, or start with another home",
                )
            if version == SCHEMA_VERSION:
                return
            if self._is_used and version == 0:
                raise self._damaged("its tables are gone")
            for statement in ";".join(_SCHEMAS[version:]).split(";"):  # not executescript: it would commit what it has
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _require_whole(self) -> None:
        """Before sqlite sees it, which begins an empty file anew and removes the log beside it. While there is a log,
        what the file lacks may stand there."""
        if not self.path.exists() or (size_bytes := self.path.stat().st_size) == 0:
            raise self._damaged("it is gone or empty")
        log = self.path.with_name(f"{self.path.name}-wal")
        if log.exists() and log.stat().st_size > 0:
            return
        with self.path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        page_bytes, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        if size_bytes < page_bytes * pages:
            raise self._damaged(f"it is {size_bytes} bytes long, not {page_bytes * pages}")

    def _check(self) -> None:
        """Whether every page is there and makes sense: what a crash cannot have done, a disk may have."""
        found = self._reader.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._damaged(" ".join(found.split()))

    def _damaged(self, reason: str) -> StoreError:
        return StoreError(f"{self.path} is damaged: {reason}", hint=RESTORE)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            hint = "make room on that disk" if full else f"if it is damaged, {RESTORE}"
            raise StoreError(f"{self.path}: {error}", hint=hint) from error
