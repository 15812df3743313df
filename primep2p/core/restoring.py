"""What the journal says of an interrupted round: what this node signed, and what its lock rests on [J1, J3]."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from primep2p.core.candidates import Candidates
from primep2p.core.chain import Head, header_hash
from primep2p.core.checks import check
from primep2p.core.consensus import Phase
from primep2p.core.gossip import Records
from primep2p.core.votes import open_quorum
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.journal import JournalEntry, Moved, Signed, Unreadable
from primep2p.model.records import Collected, Header, Proposal, Update, Vote
from primep2p.wire.codec import decode, digest
from primep2p.wire.envelope import Opened

__all__ = ["Move", "Past", "read_journal"]

STEPS: tuple[Phase, ...] = ("propose", "prevote", "precommit")


@dataclass(frozen=True)
class Move:
    """A quorum of prevotes that moved the valid value, and the lock where `locked`."""

    view: int
    header: Hash
    prevotes: list[Opened[Vote]]
    locked: bool


@dataclass
class Past:
    """A round so far."""

    signed: list[Opened[msgspec.Struct]] = field(default_factory=list)
    headers: list[Hash] = field(default_factory=list)
    """Candidates that this node put forward or locked: it found them right."""
    updates: list[Opened[Update]] = field(default_factory=list)
    """Of those candidates' bundles."""
    moves: list[Move] = field(default_factory=list)
    has_holes: bool = False
    """Some entry cannot be read, or is not what it should be."""

    @property
    def is_damaged(self) -> bool:
        """Something is missing: it may have been any signature, or any lock."""
        return self.has_holes or not self._has_its_lock

    @property
    def has_listed(self) -> bool:
        """Collecting was over."""
        return any(isinstance(opened.record, Collected) for opened in self.signed)

    @property
    def furthest(self) -> tuple[int, Phase]:
        """The last view and step that this node signed in."""
        reached = [(0, 0)]
        for record in (opened.record for opened in self.signed):
            if isinstance(record, Vote):
                reached.append((record.view, STEPS.index(record.step)))
            elif isinstance(record, Proposal):
                reached.append((record.view, 0))
        view, step = max(reached)
        return view, STEPS[step]

    @property
    def _has_its_lock(self) -> bool:
        """Whether the moves hold the lock that this node's newest precommit rests on."""
        records = [opened.record for opened in self.signed]
        precommits = [(r.view, r.header) for r in records if isinstance(r, Vote) and r.step == "precommit" and r.header]
        view, header = max(precommits, default=(-1, b""))
        locks = [(move.view, move.header) for move in self.moves if move.locked]
        locked = locks[-1] if locks else (-1, b"")
        return locked[0] > view or locked == (view, header)


class _Reader:
    """Puts entries back where they came from: `records` and `candidates` hold them from now on."""

    def __init__(self, head: Head, me: PeerId, records: Records, candidates: Candidates) -> None:
        self.past = Past()
        self._head = head
        self._me = me
        self._records = records
        self._candidates = candidates

    def read(self, entry: JournalEntry) -> None:
        """Raises PeerError where the entry is damaged."""
        match entry:
            case Signed(envelope, header, bundle):
                self._read_signed(self._records.open(envelope), header, bundle)
            case Moved():
                self._read_moved(entry)
            case Unreadable():
                raise PeerError("a journal entry that cannot be read")

    def _read_signed(self, opened: Opened[msgspec.Struct], header: bytes, bundle: bytes) -> None:
        check(opened, self._head)
        is_late = isinstance(opened.record, Update)  # its round is checked above, and may be an earlier one
        if opened.signer != self._me or not (is_late or getattr(opened.record, "round", 0) == self._head.round + 1):
            raise PeerError("a journal entry of another node or round")
        if header and header_hash(header) != getattr(opened.record, "header", b""):
            raise PeerError("a journal entry with another header than it names")
        if header:
            self._read_candidate(header, bundle)
        self._records.accept(opened)
        self.past.signed.append(opened)

    def _read_moved(self, entry: Moved) -> None:
        head, hash_ = self._head, header_hash(entry.header)
        prevotes = open_quorum(
            entry.prevotes,
            head.committee,
            self._records.open,
            run=head.run,
            round=head.round + 1,
            view=entry.view,
            header=hash_,
        )
        if not prevotes:
            raise PeerError("a journal entry whose prevotes prove nothing")
        self._read_candidate(entry.header, entry.bundle)
        for prevote in prevotes:
            self._records.accept(prevote)
        self.past.moves.append(Move(entry.view, hash_, prevotes, entry.locked))

    def _read_candidate(self, header: bytes, bundle: bytes) -> None:
        """What this node put forward or locked was right when it did."""
        if decode(Header, header).bundle != digest("bundle", bundle):
            raise PeerError("a journal entry with another bundle than its header names")
        hash_ = self._candidates.restore(self._me, header, bundle, self._records.open)
        for update in self._candidates[hash_].updates:
            self._records.accept(update)
        self.past.headers.append(hash_)
        self.past.updates += self._candidates[hash_].updates


def read_journal(
    entries: Iterable[JournalEntry], head: Head, me: PeerId, records: Records, candidates: Candidates
) -> Past:
    """The past of the round after `head` that `entries` tell."""
    reader = _Reader(head, me, records, candidates)
    for entry in entries:
        try:
            reader.read(entry)
        except PeerError:
            reader.past.has_holes = True
    return reader.past
