"""What is kept of models under names, and the tables that a store of an earlier version gets."""

import sqlite3
from pathlib import Path

import pytest

from primep2p.model.errors import StoreError
from primep2p.store.db import open_store
from primep2p.store.seam import KeptRow, RunRow, ShelfRow
from tests.wire.samples import identity

OWNER, OTHER = identity(1).peer_id, identity(2).peer_id
CATALOG = "bafkrei" + "a" * 52


def test_the_newest_record_of_a_name_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.shelf.save(ShelfRow(OWNER, "digits", b"old", b"catalog"))
    store.shelf.save(ShelfRow(OWNER, "digits", b"new", None))
    store.shelf.save(ShelfRow(OWNER, "", b"index", None))
    store.shelf.save(ShelfRow(OTHER, "digits", b"another's", None))
    store.close()
    store = open_store(tmp_path)
    assert store.shelf.row(OWNER, "digits") == ShelfRow(OWNER, "digits", b"new", None)
    assert [row.name for row in store.shelf.rows(OWNER)] == ["", "digits"]
    assert store.shelf.row(OWNER, "letters") is None
    store.close()


def test_kept_versions_come_in_the_order_of_their_pulling(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    rows = [KeptRow(OWNER, "digits", label, CATALOG, b"version", since) for label, since in (("2", 5.0), ("1", 9.0))]
    for row in reversed(rows):
        store.shelf.keep(row)
    assert store.shelf.kept() == rows
    store.shelf.drop(OWNER, "digits", "2")
    store.shelf.drop(OWNER, "digits", "none")
    assert store.shelf.kept() == rows[1:]
    store.close()


def as_version_1(home: Path) -> None:
    """What a store looked like before there were shelves, loops of the owner's own, and times of checkpoints."""
    connection = sqlite3.connect(home / "store.db")
    connection.execute("ALTER TABLE checkpoints DROP COLUMN certified_at")
    for table in ("shelf_records", "shelf_kept", "standings"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("ALTER TABLE runs DROP COLUMN own_loop")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()


def test_a_store_of_an_earlier_version_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    row = RunRow(bytes(32), b"spec", b"join", None, 0)
    store = open_store(tmp_path)
    store.runs.save_run(row)
    store.close()
    as_version_1(tmp_path)
    store = open_store(tmp_path)
    assert store.runs.runs() == [row]
    assert store.shelf.rows(OWNER) == []
    store.close()


def test_a_store_whose_tables_are_gone_is_not_begun_anew(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(StoreError, match="its tables are gone"):
        open_store(tmp_path)
