"""Signing: at most once in each slot, journalled before it is sent, and never while muted [J1, J2]."""

import msgspec

from primep2p.core import effects as fx
from primep2p.core.gossip import Records
from primep2p.core.votes import slot_of
from primep2p.model.errors import PeerError
from primep2p.model.journal import JournalEntry, Signed, Unreadable
from primep2p.wire.codec import MAX_RECORD_BYTES, decode
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Pen", "entry_of"]


MAX_ENTRY_BYTES = 2 * MAX_RECORD_BYTES
"""The largest bundle, and what stands beside it."""


def entry_of(raw: bytes) -> JournalEntry:
    """The journal entry in `raw`, which may be anything."""
    try:
        return decode(JournalEntry, raw, limit=MAX_ENTRY_BYTES)  # type: ignore[arg-type]
    except PeerError:
        return Unreadable()


class Pen:
    """This node's signature in one round. `records` is where what it signed before is found."""

    def __init__(self, envelopes: Envelopes, records: Records, round: int) -> None:
        self.muted = False
        """This node may have signed things in this round that it does not remember."""
        self._envelopes = envelopes
        self._records = records
        self._round = round

    def sign(
        self, record: msgspec.Struct, header: bytes = b"", bundle: bytes = b""
    ) -> tuple[Opened[msgspec.Struct] | None, list[fx.Effect]]:
        """`record` signed, and the journal entry that must be durable first; or what was signed in its slot before, if
        anything was; or None while muted."""
        if (before := self._records.in_slot(self._envelopes.peer_id, slot_of(record))) is not None:
            return before, []
        if self.muted:
            return None, []
        opened = self._envelopes.seal(record)
        return opened, [fx.Journal(self._round, Signed(opened.raw, header, bundle))]
