"""Comparing notes: what a member says that it holds, what another one lacks, and whom to ask next.

Liveness rests on this: nothing else repairs a message that was lost.
"""

import msgspec

from primep2p.core.chain import Head
from primep2p.core.gossip import Records, short
from primep2p.core.notices import Notices
from primep2p.model.ids import PeerId
from primep2p.model.messages import Digest
from primep2p.wire.envelope import Opened

__all__ = ["REPAIR_S", "TRAINING_REPAIR_S", "Notes"]

REPAIR_S = 1.0
"""While votes are due, a member that made no progress for so long compares notes; while it trains, less often."""

TRAINING_REPAIR_S = 5.0

FANOUT = 2
"""Members asked at a time: with all of them in turn, whatever one honest member holds is soon everywhere."""

MAX_DIGEST = 4096
"""What the message has room for: names beyond it are sent again in vain, and cost no more than that."""


class Notes:
    """Of one round."""

    def __init__(self, head: Head, records: Records, notices: Notices) -> None:
        self._head = head
        self._records = records
        self._notices = notices
        self._next = 0

    def digest(self) -> Digest:
        """What this node holds."""
        hashes = [*self._records.hashes(), *self._notices.hashes()][:MAX_DIGEST]
        return Digest(self._head.run, self._head.round + 1, tuple(sorted(short(hash_) for hash_ in hashes)))

    def lacking(self, digest: Digest) -> list[Opened[msgspec.Struct]]:
        """Records of the round that its sender lacks."""
        return self._records.lacking(set(digest.have))

    def lacks(self, digest: Digest) -> bool:
        """Whether its sender holds something that is not here."""
        return not set(digest.have).issubset(self.digest().have)

    def next_members(self, connected: set[PeerId]) -> list[PeerId]:
        """Whom to ask: the next in turn of those who vote; where none of them is connected, which may be so for one
        that neither votes nor trains, of all others."""
        voters = connected.intersection(self._head.committee.members)
        members = sorted(voters or connected.intersection(self._head.members))
        chosen = [members[(self._next + offset) % len(members)] for offset in range(min(FANOUT, len(members)))]
        self._next += len(chosen)
        return chosen
