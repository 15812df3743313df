"""What a node finds again after a crash."""

from __future__ import annotations

from dataclasses import dataclass, field

from primep2p.core.chain import Head
from primep2p.model.ids import Cid
from primep2p.model.journal import JournalEntry, Moved, Signed
from primep2p.model.records import Checkpoint, Evidence

__all__ = ["Disk"]


@dataclass
class Disk:
    """Of one node. All that is written is durable at once; when a write happens, and when the node dies instead, is
    the world's affair."""

    head: Head | None = None
    chain: list[Checkpoint] = field(default_factory=list)
    journal: dict[int, list[JournalEntry]] = field(default_factory=dict)
    blobs: set[Cid] = field(default_factory=set)
    signed: set[bytes] = field(default_factory=set)
    """The envelopes in the journal."""
    evidence: list[Evidence] = field(default_factory=list)

    def append(self, round: int, entry: JournalEntry) -> None:
        self.journal.setdefault(round, []).append(entry)
        if isinstance(entry, Signed):
            self.signed.add(entry.envelope)

    def commit(self, head: Head) -> None:
        self.head = head
        self.chain.append(head.checkpoint)

    def entries(self, round: int) -> list[JournalEntry]:
        return list(self.journal.get(round, []))

    def moves(self, round: int) -> list[Moved]:
        return [entry for entry in self.journal.get(round, []) if isinstance(entry, Moved)]

    def chain_from(self, first: int, most: int) -> tuple[Checkpoint, ...]:
        """A stretch of the chain, as an answer."""
        skipped = first - self.chain[0].certificate.round if self.chain else 0
        return tuple(self.chain[max(skipped, 0) :][:most])

    def backup(self) -> Disk:
        """A copy as of now."""
        journal = {round: list(entries) for round, entries in self.journal.items()}
        return Disk(self.head, list(self.chain), journal, set(self.blobs), set(self.signed), list(self.evidence))
