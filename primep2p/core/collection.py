"""What a member has collected in a round: updates, whether their bytes are here, and the committee's lists."""

from primep2p.core import effects as fx
from primep2p.core.chain import Head
from primep2p.core.checkpoints import Derivation, Promised, bundle_of, derive, named_by_k, open_bundle
from primep2p.core.notices import Notices
from primep2p.core.votes import Open, open_votes
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import Collected, Update, UpdateRef
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Opened

__all__ = ["Collection", "Draft"]

Draft = tuple[bytes, Derivation]
"""A bundle's bytes and what follows from it."""


class Collection:
    """Books only: when to list and when to propose is the round's decision."""

    def __init__(self, head: Head, notices: Notices) -> None:
        self.updates: dict[Hash, Opened[Update]] = {}
        self.held: set[Hash] = set()
        """Updates whose bytes are here, and right."""
        self.refused: set[Hash] = set()
        """Updates whose bytes are wrong."""
        self.lists: dict[PeerId, Opened[Collected]] = {}
        self.settled: set[PeerId] = set()
        """Trainers that nothing more is expected of."""
        self.equivocators: set[PeerId] = set()
        self._head = head
        self._notices = notices
        self._obtaining: set[Hash] = set()
        self._promised: tuple[int, Promised] | None = None
        """By the number of lists that it follows from."""

    # ---- what comes in

    def add_update(self, update: Opened[Update]) -> list[fx.Effect]:
        """An update was announced: have its bytes fetched."""
        self.updates.setdefault(update.hash, update)
        return self.want(update.hash)

    def add_list(self, entry: Opened[Collected]) -> None:
        """A member has listed; a trainer that does not list its own update will not bring one."""
        self.lists.setdefault(entry.signer, entry)
        if all(ref.trainer != entry.signer for ref in entry.record.updates):
            self.settled.add(entry.signer)

    def hold(self, update: Hash) -> None:
        """The bytes of an update are here, and right."""
        self._obtaining.discard(update)
        if opened := self.updates.get(update):
            self.held.add(update)
            self.settled.add(opened.signer)

    def refuse(self, update: Hash) -> PeerId | None:
        """The bytes of an update are wrong, and will not be asked for again; gives its trainer."""
        opened = self.updates.get(update)
        if opened is None:
            return None
        self.refused.add(update)
        self.settled.add(opened.signer)
        return opened.signer

    def miss(self, update: Hash) -> None:
        """The bytes of an update were not to be had; whoever wants it asks again."""
        self._obtaining.discard(update)

    def convict(self, peer: PeerId) -> None:
        """It signed two records in one slot."""
        self.equivocators.add(peer)
        self.settled.add(peer)

    def take_over(self, update: Opened[Update]) -> None:
        """Its bytes were here in the round before."""
        self.updates.setdefault(update.hash, update)
        self.hold(update.hash)

    def lasting(self, head: Head) -> list[Opened[Update]]:
        """What may still enter the round after `head`, the next one or a later one: but for what is no use."""
        rest = (update for hash_, update in self.updates.items() if hash_ not in self.refused)
        return [update for update in rest if head.may_enter(update.signer, update.record.round)]

    # ---- what is still due

    def want(self, update: Hash) -> list[fx.Effect]:
        """Have the bytes of an update fetched, from its trainer or whoever lists it."""
        opened = self.updates.get(update)
        if opened is None or update in self.held or update in self._obtaining:
            return []
        listers = [
            peer for peer, entry in self.lists.items() if any(ref.update == update for ref in entry.record.updates)
        ]
        self._obtaining.add(update)
        return [fx.Obtain(opened.record.round, update, opened.record.delta, (opened.signer, *listers))]

    def want_all(self) -> list[fx.Effect]:
        """Everything announced that is not here."""
        return [effect for update in self.updates for effect in self.want(update)]

    def pending(self, present: frozenset[PeerId]) -> set[PeerId]:
        """Trainers among those present that may still bring an update."""
        return {peer for peer in self._head.cohort - self.settled if peer in present}

    @property
    def is_enough(self) -> bool:
        """A checkpoint could be made of what is here."""
        return self._here >= self._head.spec.least_updates

    @property
    def is_wanted(self) -> bool:
        """What is here is as much as a checkpoint is to be made of, with or without those who still train [C2]."""
        return self._here >= min(self._head.spec.wanted_updates, len(self._head.cohort))

    @property
    def _here(self) -> int:
        return len(self._listed())

    def waits_with(self, trainer: PeerId) -> bool:
        """Whether an update of `trainer` waits to enter."""
        return any(update.signer == trainer for update in self.updates.values())

    def _listed(self) -> dict[PeerId, Hash]:
        """By trainer, what may enter: of several the oldest, which all others have had the longest time to fetch."""
        held = sorted((self.updates[hash_] for hash_ in self.held), key=lambda update: -update.record.round)
        return {update.signer: update.hash for update in held if update.signer not in self.equivocators}

    # ---- what follows

    @property
    def promised(self) -> Promised:
        """What a bundle of the lists that are here would have to carry."""
        if self._promised is None or self._promised[0] != len(self.lists):  # lists only come
            records = (entry.record for entry in self.lists.values())
            self._promised = (len(self.lists), named_by_k(records, self._head.committee.k))
        return self._promised[1]

    def listing(self, reveal: bytes) -> Collected:
        """This node's list [C1]."""
        refs = [UpdateRef(trainer, hash_) for trainer, hash_ in sorted(self._listed().items())]
        head, notices = self._head, self._notices
        return Collected(
            head.run,
            head.round + 1,
            tuple(refs),
            notices.listing(),
            reveal,
            notices.accused(),
            notices.time_is_up,
        )

    def draft(self, open_: Open) -> Draft | None:
        """The bundle that the lists oblige to; None while a record that they name is missing here."""
        head, promised, notices = self._head, self.promised, self._notices.raws()
        if not {hash_ for _, hash_ in promised.updates} <= self.updates.keys():
            return None
        if not promised.notices <= notices.keys() or not promised.accused <= self._notices.evidence.keys():
            return None
        votes = open_votes(
            head.checkpoint.certificate.votes, open_, run=head.run, round=head.round, step="precommit", header=head.hash
        )
        votes = [vote for vote in votes if vote.signer in head.members]
        bundle = bundle_of(self.lists.values(), promised, self.updates, notices, votes, self._notices.evidence)
        raw = encode(bundle)
        return raw, derive(open_bundle(raw, head, open_), head)
