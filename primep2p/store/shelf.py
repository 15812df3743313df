"""Models under names: the record of each that counts here, and the versions that this node keeps for its owner."""

from primep2p.model.ids import PeerId
from primep2p.store.seam import KeptRow, ShelfRow
from primep2p.store.sqlite import Database

__all__ = ["SqliteShelf"]


class SqliteShelf:
    """The ShelfStore in a sqlite file. See the seam for what each method promises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, *rows: ShelfRow) -> None:
        """Insert or replace, durably, all or none."""
        with self._database.write(durable=True) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO shelf_records (owner, name, record, catalog) VALUES (?, ?, ?, ?)",
                [(row.owner, row.name, row.record, row.catalog) for row in rows],
            )

    def row(self, owner: PeerId, name: str) -> ShelfRow | None:
        """What was saved last."""
        rows = self._database.read(
            "SELECT owner, name, record, catalog FROM shelf_records WHERE owner = ? AND name = ?", owner, name
        )
        return ShelfRow(*rows[0]) if rows else None

    def rows(self, owner: PeerId) -> list[ShelfRow]:
        """All of one owner's, by name."""
        rows = self._database.read(
            "SELECT owner, name, record, catalog FROM shelf_records WHERE owner = ? ORDER BY name", owner
        )
        return [ShelfRow(*row) for row in rows]

    def keep(self, row: KeptRow) -> None:
        """Insert or replace, durably."""
        with self._database.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO shelf_kept (owner, name, label, catalog, version, since) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (row.owner, row.name, row.label, row.catalog, row.version, row.since),
            )

    def kept(self) -> list[KeptRow]:
        """All of them, by owner, name and age."""
        rows = self._database.read(
            "SELECT owner, name, label, catalog, version, since FROM shelf_kept ORDER BY owner, name, since, label"
        )
        return [KeptRow(*row) for row in rows]

    def drop(self, owner: PeerId, name: str, label: str) -> None:
        """Not kept any more; what is not there is fine."""
        with self._database.write(durable=True) as connection:
            connection.execute(
                "DELETE FROM shelf_kept WHERE owner = ? AND name = ? AND label = ?", (owner, name, label)
            )
