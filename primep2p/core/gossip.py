"""The committee's overlay: every record of a round that this node has seen, and what another one lacks.

The committee is a full mesh, whatever the size of the roster: each record goes once to every member of it and nobody
relays unasked; digests of all that is held, exchanged while a step stalls, repair what is missing. Liveness rests on
them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from primep2p.core.votes import Slot, slot_of
from primep2p.model.ids import Hash, PeerId, RunId
from primep2p.model.messages import Records as RecordsMessage
from primep2p.model.records import Evidence, Proposal, Vote
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Records", "in_messages", "short"]

SHORT_HASH_BYTES = 8
"""A digest names records by so much of their hashes: a collision only costs a later repair."""


MAX_ITEMS = 1024
MESSAGE_BYTES = 2**20
"""Records in one message, and their bytes."""


def short(hash_: Hash) -> bytes:
    """How a digest names a record."""
    return hash_[:SHORT_HASH_BYTES]


def in_messages(run: RunId, raws: Iterable[bytes]) -> list[RecordsMessage]:
    """These envelopes in messages that fit into a frame each, however many there are."""
    messages: list[list[bytes]] = []
    room = 0
    for raw in raws:
        room -= len(raw)
        if not messages or room < 0 or len(messages[-1]) == MAX_ITEMS:
            messages.append([])
            room = MESSAGE_BYTES - len(raw)
        messages[-1].append(raw)
    return [RecordsMessage(run, tuple(items)) for items in messages]


class Records:
    """The signed records of one round, at most two for each slot of each signer, so that nobody can fill it."""

    def __init__(self, envelopes: Envelopes) -> None:
        self._envelopes = envelopes
        self._known: dict[Hash, Opened[msgspec.Struct]] = {}
        self._slots: dict[tuple[PeerId, Slot], list[Opened[msgspec.Struct]]] = defaultdict(list)

    def open(self, raw: bytes) -> Opened[msgspec.Struct]:
        """The verified record in `raw`; a signature seen before, byte for byte, is not checked again."""
        peeked = self._envelopes.peek(raw)
        known = self._known.get(peeked.hash)
        if known is not None and known.raw == raw:
            return known
        return self._envelopes.verify(peeked)

    def knows(self, hash_: Hash) -> bool:
        """Whether a record is held."""
        return hash_ in self._known

    def has_room(self, opened: Opened[msgspec.Struct]) -> bool:
        """Whether a record would be kept: it is known, or its slot is not full."""
        return opened.hash in self._known or len(self._slots[opened.signer, slot_of(opened.record)]) < 2

    def accept(self, opened: Opened[msgspec.Struct]) -> Evidence | bool:
        """Keep a record: True if it is new, False if there is no need or no room, Evidence if it is kept and its
        signer has signed something else in its slot."""
        if opened.hash in self._known:
            return False
        held = self._slots[opened.signer, slot_of(opened.record)]
        if len(held) >= 2:
            return False
        held.append(opened)
        self._known[opened.hash] = opened
        return Evidence(held[0].raw, opened.raw) if len(held) == 2 else True

    def in_slot(self, signer: PeerId, slot: Slot) -> Opened[msgspec.Struct] | None:
        """The first record of `signer` in a slot."""
        held = self._slots.get((signer, slot))
        return held[0] if held else None

    def by(self, signer: PeerId) -> list[Opened[msgspec.Struct]]:
        """All records of one signer, oldest first."""
        return [opened for opened in self._known.values() if opened.signer == signer]

    def hashes(self) -> list[Hash]:
        """Of all that is held, oldest first."""
        return list(self._known)

    def lacking(self, there: set[bytes]) -> list[Opened[msgspec.Struct]]:
        """What somebody who holds `there` (short hashes) lacks, oldest first."""
        return [opened for hash_, opened in self._known.items() if short(hash_) not in there]

    def forget_views(self, keep: Callable[[int], bool]) -> None:
        """Drop proposals and votes of views that `keep` refuses."""
        for hash_, opened in list(self._known.items()):
            if isinstance(opened.record, Vote | Proposal) and not keep(opened.record.view):
                del self._known[hash_]
                self._slots.pop((opened.signer, slot_of(opened.record)), None)
