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

__all__ = ["SCHEMA_VERSION", "Database"]

SCHEMA_VERSION = 1

_SCHEMA = """
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
"""

_BUSY_S = 5.0
"""Only a person's sqlite shell ever holds the file: wait for it a little."""


class Database:
    """Statements on the file at `path`, which is created where there is none. Every failure is a StoreError.

    Reads never wait for a write's fsync; a read sees every write that returned before it began.
    """

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self.path = path
        self._fsync = fsync
        self._writing, self._reading = Lock(), Lock()
        with disk(path, "open"):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # sqlite gives its other files the same mode
        with self._failures():
            self._writer, self._reader = self._connect(), self._connect()
            self._durable = True
            self._migrate()

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
            for statement in _SCHEMA.split(";"):  # not executescript: it would commit what it has
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            hint = "make room on that disk" if full else "if it is damaged, restore the home from a backup"
            raise StoreError(f"{self.path}: {error}", hint=hint) from error
