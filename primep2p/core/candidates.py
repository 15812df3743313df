"""Headers that were put forward in a round, each with its proof, and what this node aggregates to judge them."""

from dataclasses import dataclass

from primep2p.core import effects as fx
from primep2p.core.chain import Head, header_hash
from primep2p.core.checkpoints import Derivation, derive, header_of, open_bundle
from primep2p.core.collection import Collection
from primep2p.core.votes import Open
from primep2p.model.errors import PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import Header, Update
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened

__all__ = ["Candidate", "Candidates"]


@dataclass(frozen=True)
class Candidate:
    """A header with its bundle; without a derivation the bundle was wrong."""

    proposer: PeerId
    raw: bytes
    bundle_raw: bytes
    derivation: Derivation | None
    updates: tuple[Opened[Update], ...] = ()
    """Of the bundle."""


class Candidates:
    """By header hash."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._by_hash: dict[Hash, Candidate] = {}
        self._results: dict[Hash, fx.Aggregated | None] = {}

    def __getitem__(self, hash_: Hash) -> Candidate:
        return self._by_hash[hash_]

    def __contains__(self, hash_: Hash) -> bool:
        return hash_ in self._by_hash

    def judgeable(self) -> list[tuple[Hash, Candidate, Derivation]]:
        """Those whose bundle is right."""
        return [(hash_, c, c.derivation) for hash_, c in self._by_hash.items() if c.derivation is not None]

    def add(
        self,
        proposer: PeerId,
        raw: bytes,
        bundle_raw: bytes,
        derivation: Derivation,
        updates: tuple[Opened[Update], ...] = (),
    ) -> Hash:
        """A header that this node made, or had checked before."""
        hash_ = header_hash(raw)
        self._by_hash[hash_] = Candidate(proposer, raw, bundle_raw, derivation, updates)
        return hash_

    def restore(self, proposer: PeerId, raw: bytes, bundle_raw: bytes, open_: Open) -> Hash:
        """One from the journal."""
        bundle = open_bundle(bundle_raw, self._head, open_)
        return self.add(proposer, raw, bundle_raw, derive(bundle, self._head), bundle.updates)

    def consider(self, proposer: PeerId, raw: bytes, bundle_raw: bytes, open_: Open) -> bool:
        """Somebody else's header. False where `bundle_raw` is not the bundle that it names, which is not its
        proposer's fault. Raises PeerError for what is; then the candidate is there, and without a derivation."""
        hash_ = header_hash(raw)
        if hash_ in self._by_hash:
            return True
        try:
            if decode(Header, raw).bundle != digest("bundle", bundle_raw):
                return False
            self.restore(proposer, raw, bundle_raw, open_)
        except PeerError:
            self._by_hash[hash_] = Candidate(proposer, raw, bundle_raw, None)
            raise
        return True

    # ---- aggregation

    def on_aggregated(self, event: fx.Aggregated) -> None:
        """The result for a set of inclusions."""
        self._results[event.key] = event

    def result(
        self, derivation: Derivation, collection: Collection, *, is_ready: bool
    ) -> tuple[fx.Aggregated | None, list[fx.Effect]]:
        """The result for these inclusions, if it is known; else what has to be done for it, once. `is_ready`: what the
        head names is here."""
        if derivation.void:
            return fx.Aggregated(self._head.round + 1, derivation.key, None, None, ""), []
        if derivation.key in self._results:
            return self._results[derivation.key], []
        missing = [inclusion.update for inclusion in derivation.inclusions if inclusion.update not in collection.held]
        if missing or not is_ready:
            return None, [effect for update in missing for effect in collection.want(update)]
        self._results[derivation.key] = None
        return None, [
            fx.Aggregate(
                self._head.round + 1,
                derivation.key,
                self._head.header.params,
                self._head.header.optimiser,
                tuple(inclusion.delta for inclusion in derivation.inclusions),
                tuple(inclusion.weight for inclusion in derivation.inclusions),
                self._head.header.beacon,
            )
        ]

    def header(self, derivation: Derivation, result: fx.Aggregated) -> bytes:
        """The one header that follows [P2]."""
        return encode(header_of(self._head, derivation, result.params, result.optimiser, result.reason))
