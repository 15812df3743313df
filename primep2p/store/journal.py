"""Runs, their certified chain, and the journal: what this node signed and what its locks rest on.

An entry is durable before anything that depends on it leaves this node. Its bytes are the reader's affair.
"""

from hashlib import sha256

from primep2p.model.errors import PeerError, StoreError
from primep2p.model.ids import PeerId, RunId
from primep2p.model.records import Checkpoint
from primep2p.store.seam import RunRow, Standing, StoredCheckpoint
from primep2p.store.sqlite import RESTORE, Database
from primep2p.wire.codec import decode, encode

__all__ = ["SqliteRuns"]

_KEEP_ROUNDS = 2
"""Rounds below the head whose journal stays: peers that lag behind may still ask for this node's votes in them."""

_MAX_REASON = 200
_MAX_ACCUSATIONS = 10_000
"""Rows of accusations; the oldest go first. Peer ids cost nothing, so their number must not be up to peers."""

_MAX_ADDRESSES = 1000
"""Peers whose addresses are remembered: peer ids cost nothing."""

_MAX_EVIDENCE = 16
"""Records of evidence kept against one peer in one run: one convicts."""

_STORED = "checkpoint, state, certified_at"


class SqliteRuns:
    """The RunStore in a sqlite file. See the seam for what each method promises."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_run(self, row: RunRow) -> None:
        """Insert or replace, durably."""
        with self._database.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO runs (run, spec, own_join, pin, pin_round, own_loop) VALUES (?, ?, ?, ?, ?, ?)",
                (row.run, row.spec, row.join, row.pin, row.pin_round, row.own_loop),
            )

    def runs(self) -> list[RunRow]:
        """All runs, by their id."""
        rows = self._database.read("SELECT run, spec, own_join, pin, pin_round, own_loop FROM runs ORDER BY run")
        return [RunRow(run, spec, join, pin, round_, bool(own)) for run, spec, join, pin, round_, own in rows]

    def renew_run(self, row: RunRow) -> None:
        """Replace a run's row, and forget what another identity signed in it."""
        with self._database.write(durable=True) as connection:
            connection.execute("DELETE FROM journal WHERE run = ?", (row.run,))
            connection.execute("UPDATE standings SET leave = x'' WHERE run = ? AND NOT has_left", (row.run,))
            connection.execute(
                "UPDATE runs SET own_join = ?, pin = ?, pin_round = ? WHERE run = ?",
                (row.join, row.pin, row.pin_round, row.run),
            )

    def standing(self, run: RunId) -> Standing:
        """What was saved; else that nothing is wanted."""
        rows = self._database.read("SELECT paused, leave, has_left FROM standings WHERE run = ?", run)
        return Standing(bool(rows[0][0]), rows[0][1], bool(rows[0][2])) if rows else Standing()

    def save_standing(self, run: RunId, standing: Standing) -> None:
        """Insert or replace, durably."""
        with self._database.write(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO standings (run, paused, leave, has_left) VALUES (?, ?, ?, ?)",
                (run, standing.paused, standing.leave, standing.has_left),
            )

    def forget_run(self, run: RunId) -> None:
        """All that is held of a run."""
        with self._database.write(durable=True) as connection:
            for table in ("runs", "journal", "checkpoints", "accusations", "evidence", "standings"):
                connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))

    def append(self, run: RunId, round: int, entries: list[bytes]) -> None:
        """Journal entries, durable when this returns, all or none."""
        if not entries:
            return  # an fsync for nothing
        with self._database.write(durable=True) as connection:
            connection.executemany(
                "INSERT INTO journal (run, round, entry) VALUES (?, ?, ?)", [(run, round, entry) for entry in entries]
            )

    def entries(self, run: RunId, round: int) -> list[bytes]:
        """The journal entries of a round, in order."""
        rows = self._database.read("SELECT entry FROM journal WHERE run = ? AND round = ? ORDER BY id", run, round)
        return [row[0] for row in rows]

    def commit(self, run: RunId, round: int, stored: StoredCheckpoint) -> None:
        """A certified checkpoint, durable when this returns; the journal is trimmed below it.

        The same header again is fine, whatever its certificate. Another header for a certified round raises
        StoreError: what is certified is never overwritten.
        """
        with self._database.write(durable=True) as connection:
            held = connection.execute(
                f"SELECT {_STORED} FROM checkpoints WHERE run = ? AND round = ?", (run, round)
            ).fetchone()
            if held is not None:
                self._require_same(run, round, self._stored(held), stored)
                return
            connection.execute(
                "INSERT INTO checkpoints (run, round, checkpoint, state, certified_at) VALUES (?, ?, ?, ?, ?)",
                (run, round, encode(stored.checkpoint), stored.state, stored.at_s),
            )
            (head,) = connection.execute("SELECT max(round) FROM checkpoints WHERE run = ?", (run,)).fetchone()
            connection.execute("DELETE FROM journal WHERE run = ? AND round < ?", (run, head - _KEEP_ROUNDS))

    def checkpoint(self, run: RunId, round: int) -> StoredCheckpoint | None:
        """The certified checkpoint of a round."""
        rows = self._database.read(f"SELECT {_STORED} FROM checkpoints WHERE run = ? AND round = ?", run, round)
        return self._stored(rows[0]) if rows else None

    def head(self, run: RunId) -> tuple[int, StoredCheckpoint] | None:
        """The newest round with its checkpoint."""
        rows = self._database.read(
            f"SELECT round, {_STORED} FROM checkpoints WHERE run = ? ORDER BY round DESC LIMIT 1", run
        )
        return (rows[0][0], self._stored(rows[0][1:])) if rows else None

    def chain(self, run: RunId, first: int, count: int) -> list[StoredCheckpoint]:
        """Up to `count` checkpoints in a row from round `first`; it ends at a gap."""
        rows = self._database.read(
            f"SELECT round, {_STORED} FROM checkpoints WHERE run = ? AND round BETWEEN ? AND ? ORDER BY round",
            *(run, first, first + count - 1),
        )
        return [self._stored(row[1:]) for index, row in enumerate(rows) if row[0] == first + index]

    def headers(self, run: RunId, after: int, last: int) -> list[tuple[int, bytes]]:
        """Up to 64 rounds above `after`, to `last`, with their certified headers' bytes, whatever gaps there are."""
        rows = self._database.read(
            "SELECT round, checkpoint FROM checkpoints WHERE run = ? AND round > ? AND round <= ? "
            "ORDER BY round LIMIT 64",
            *(run, after, last),
        )
        return [(row[0], self._stored((row[1], b"", 0.0)).checkpoint.header) for row in rows]

    def accuse(self, peer: PeerId, reason: str, evidence: bytes | None, *, run: RunId | None) -> None:
        """Count a fault; keep evidence. Only evidence is worth an fsync: faults can come by the thousand."""
        reason, of = reason[:_MAX_REASON], run or b""
        with self._database.write(durable=evidence is not None) as connection:
            connection.execute(
                "INSERT INTO accusations (run, peer, reason, times) VALUES (?, ?, ?, 1) "
                "ON CONFLICT DO UPDATE SET times = times + 1",
                (of, peer, reason),
            )
            connection.execute(
                "DELETE FROM accusations WHERE rowid <= (SELECT max(rowid) FROM accusations) - ?", (_MAX_ACCUSATIONS,)
            )
            if evidence is not None:
                connection.execute(
                    "INSERT OR IGNORE INTO evidence (run, peer, hash, evidence) SELECT ?, ?, ?, ? "
                    "WHERE (SELECT count(*) FROM evidence WHERE run = ? AND peer = ?) < ?",
                    (of, peer, sha256(evidence).digest(), evidence, of, peer, _MAX_EVIDENCE),
                )

    def remember(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Where a member was last heard of: a hint for the next start."""
        with self._database.write(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO addresses VALUES (?, ?)", (peer, "\n".join(addresses)))
            connection.execute(
                "DELETE FROM addresses WHERE rowid <= (SELECT max(rowid) FROM addresses) - ?", (_MAX_ADDRESSES,)
            )

    def addresses(self) -> dict[PeerId, tuple[str, ...]]:
        """All that is remembered of members' addresses."""
        rows = self._database.read("SELECT peer, addresses FROM addresses")
        return {peer: tuple(addresses.split("\n")) for peer, addresses in rows}

    def accusations(self, run: RunId | None = None) -> list[tuple[PeerId, str, int]]:
        """Peer, reason, how often: of one run, or of all there is."""
        rows = self._database.read(
            "SELECT peer, reason, sum(times) FROM accusations WHERE run = ? OR ? GROUP BY peer, reason ORDER BY 1, 2",
            *(run or b"", run is None),
        )
        return [(peer, reason, times) for peer, reason, times in rows]

    def evidence(self, run: RunId) -> list[tuple[PeerId, bytes]]:
        """Encoded Evidence records kept for a run, the oldest first."""
        rows = self._database.read("SELECT peer, evidence FROM evidence WHERE run = ? ORDER BY rowid", run)
        return [(peer, evidence) for peer, evidence in rows]

    def _stored(self, row: tuple[bytes, bytes, float]) -> StoredCheckpoint:
        try:
            return StoredCheckpoint(decode(Checkpoint, row[0]), row[1], row[2])
        except PeerError as error:
            raise StoreError(
                f"{self._database.path} is damaged: a checkpoint cannot be read: {error.sentence}", hint=RESTORE
            ) from error

    def _require_same(self, run: RunId, round: int, held: StoredCheckpoint, new: StoredCheckpoint) -> None:
        if (held.checkpoint.header, held.state) != (new.checkpoint.header, new.state):
            raise StoreError(
                f"{self._database.path}: round {round} of run {run.hex()} is certified with another header already",
                hint="two certified headers of one round mean more liars than the run can bear",
            )
