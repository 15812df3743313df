"""From lists to a header: a proposer chooses a quorum of lists, everything else follows [P1-P6].

`derive` is the whole of it: the exact inclusions, who was seen, who joins and leaves, the next state. Voters derive the
same from the same bundle, aggregate themselves, and prevote only for the header that they would have written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import fsum, isfinite
from statistics import median_low
from typing import TypeVar

import msgspec

from primep2p.core.chain import Head
from primep2p.core.checks import check_list, check_update
from primep2p.core.roster import admits, advance, peers_of, state_hash
from primep2p.core.sortition import next_beacon
from primep2p.core.votes import Open, open_votes
from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.records import (
    Bundle,
    Collected,
    Header,
    Inclusion,
    Join,
    Metric,
    RosterChange,
    RunState,
    Update,
    Vote,
)
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened

__all__ = ["Derivation", "OpenedBundle", "Promised", "bundle_of", "derive", "header_of", "named_by_k", "open_bundle"]


R = TypeVar("R", bound=msgspec.Struct)


@dataclass(frozen=True)
class Promised:
    """What the lists of a bundle oblige it to carry."""

    updates: frozenset[tuple[PeerId, Hash]]
    notices: frozenset[Hash]


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose envelopes are open and whose shape holds."""

    hash: Hash
    lists: tuple[Opened[Collected], ...]
    updates: tuple[Opened[Update], ...]
    notices: tuple[Opened[Join], ...]
    votes: tuple[Opened[Vote], ...]


@dataclass(frozen=True)
class Derivation:
    """What follows from a bundle, but for the params."""

    bundle: Hash
    inclusions: tuple[Inclusion, ...]
    overweight: tuple[PeerId, ...]
    """Trainers left out because of the examples they claim."""
    seen: frozenset[PeerId]
    changes: tuple[RosterChange, ...]
    state: RunState
    metrics: tuple[Metric, ...]
    void: str

    @property
    def key(self) -> Hash:
        """Names the aggregation: two bundles with the same inclusions need it once."""
        return digest("inclusions", b"".join(encode(inclusion) for inclusion in self.inclusions))


def named_by_k(lists: Iterable[Collected], k: int) -> Promised:
    """Updates and notices named in at least k lists; a trainer of whom two hashes are is left out [P3].

    What fewer lists name counts for nothing, not even against a trainer: a liar may list hashes of its own making.
    """
    updates: dict[tuple[PeerId, Hash], int] = {}
    notices: dict[Hash, int] = {}
    for record in lists:
        for ref in record.updates:
            updates[ref.trainer, ref.update] = updates.get((ref.trainer, ref.update), 0) + 1
        for notice in record.notices:
            notices[notice] = notices.get(notice, 0) + 1
    named = [ref for ref, count in updates.items() if count >= k]
    trainers = [trainer for trainer, _ in named]
    return Promised(
        frozenset(ref for ref in named if trainers.count(ref[0]) == 1),
        frozenset(notice for notice, count in notices.items() if count >= k),
    )


def bundle_of(
    lists: Iterable[Opened[Collected]],
    promised: Promised,
    updates: Mapping[Hash, Opened[Update]],
    notices: Mapping[Hash, Opened[Join]],
    votes: Iterable[Opened[Vote]],
) -> Bundle:
    """The bundle that these lists oblige to: everything sorted, so that equal choices give equal bytes [P1]."""
    return Bundle(
        tuple(entry.raw for entry in sorted(lists, key=lambda entry: entry.signer)),
        tuple(updates[hash_].raw for _, hash_ in sorted(promised.updates)),
        tuple(notices[hash_].raw for hash_ in sorted(promised.notices)),
        tuple(vote.raw for vote in sorted(votes, key=lambda vote: vote.signer)),
    )


def open_bundle(raw: bytes, head: Head, open_: Open) -> OpenedBundle:
    """The bundle in `raw`, as a header after `head` may rest on it. Raises PeerError [P1, P3]."""
    bundle = decode(Bundle, raw)
    lists = _opened(bundle.lists, Collected, open_)
    committee = head.committee
    _strictly_sorted([entry.signer for entry in lists], "lists")
    for entry in lists:
        check_list(entry, head)
    if len(lists) < committee.q:
        raise PeerError(f"{len(lists)} lists, not the quorum of {committee.q}")
    promised = named_by_k((entry.record for entry in lists), committee.k)
    if len(bundle.updates) != len(promised.updates) or len(bundle.notices) != len(promised.notices):
        raise PeerError("more or fewer records than the lists name")
    updates = _opened(bundle.updates, Update, open_)
    if [(u.signer, u.hash) for u in updates] != sorted(promised.updates):
        raise PeerError("the updates are not those that the lists name")
    for update in updates:
        check_update(update, head)
    notices = _opened(bundle.notices, Join, open_)
    if [notice.hash for notice in notices] != sorted(promised.notices):
        raise PeerError("the notices are not those that the lists name")
    if any(notice.record.run != head.run for notice in notices):
        raise PeerError("a notice of another run")
    votes = open_votes(bundle.votes, open_, run=head.run, round=head.round, step="precommit", header=None)
    _strictly_sorted([vote.signer for vote in votes], "votes")
    if any(vote.signer not in peers_of(head.state) for vote in votes):
        raise PeerError("a vote of somebody who is no member")
    return OpenedBundle(digest("bundle", raw), tuple(lists), tuple(updates), tuple(notices), tuple(votes))


def derive(bundle: OpenedBundle, head: Head) -> Derivation:
    """All of the next header but its params [P3-P6]."""
    spec, round = head.spec, head.round + 1
    kept, overweight = _within_weight(bundle.updates, spec.pipeline.max_weight_ratio)
    inclusions = tuple(
        Inclusion(u.signer, u.hash, u.record.delta, u.record.examples if spec.pipeline.weighting == "examples" else 1)
        for u in kept
    )
    seen = frozenset(
        [entry.signer for entry in bundle.lists]
        + [update.signer for update in bundle.updates]
        + [vote.signer for vote in bundle.votes]
    )
    joined = {
        notice.signer: RosterChange(notice.signer, "joined", notice.record.kernels)
        for notice in reversed(bundle.notices)
        if admits(spec, head.state, notice.signer, notice.record, round=round)
    }
    state, changes = advance(head.state, seen=seen, joined=joined.values(), policy=spec.policy)
    enough = len(inclusions) >= spec.policy.min_updates
    return Derivation(
        bundle.hash,
        inclusions if enough else (),
        overweight,
        seen,
        changes,
        state,
        _means(kept, inclusions) if enough else (),
        "" if enough else f"too few updates: {len(inclusions)} of {spec.policy.min_updates}",
    )


def header_of(head: Head, derivation: Derivation, params: Cid | None, reason: str) -> Header:
    """The one header that follows. `params` are those aggregated, or None with the reason why there are none."""
    void = derivation.void or reason
    return Header(
        run=head.run,
        round=head.round + 1,
        parent=head.hash,
        bundle=derivation.bundle,
        inclusions=() if void else derivation.inclusions,
        params=head.header.params if void or params is None else params,
        optimiser=head.header.optimiser,
        seen=tuple(sorted(derivation.seen & peers_of(head.state))),
        changes=derivation.changes,
        state=state_hash(derivation.state),
        beacon=next_beacon(head.header.beacon, head.run, head.round + 1),
        metrics=() if void else derivation.metrics,
        void=void,
    )


def _opened(raws: Iterable[bytes], type_: type[R], open_: Open) -> list[Opened[R]]:
    return [open_(raw).of(type_) for raw in raws]


def _strictly_sorted(peers: list[PeerId], what: str) -> None:
    if any(left >= right for left, right in pairwise(peers)):
        raise PeerError(f"{what} out of order, or twice of one member")


def _within_weight(
    updates: tuple[Opened[Update], ...], max_ratio: float
) -> tuple[list[Opened[Update]], tuple[PeerId, ...]]:
    """Leave out who claims more than `max_ratio` times the lower median of examples [P4]. A median of honest members
    bounds a liar; the lower one, so that among two the larger claim cannot vouch for itself."""
    if not updates:
        return [], ()
    limit = max_ratio * median_low(update.record.examples for update in updates)
    kept = [update for update in updates if update.record.examples <= limit]
    return kept, tuple(update.signer for update in updates if update.record.examples > limit)


def _means(updates: list[Opened[Update]], inclusions: tuple[Inclusion, ...]) -> tuple[Metric, ...]:
    """Means, weighted as the deltas are, of the metrics that every update has. float64, exactly rounded sums."""
    by_update = [{metric.name: metric.value for metric in update.record.metrics} for update in updates]
    names = set(by_update[0]).intersection(*by_update) if by_update else set()
    weights = [inclusion.weight for inclusion in inclusions]
    total = fsum(weights)
    means = []
    for name in sorted(names):
        value = _fsum(weight * metrics[name] for weight, metrics in zip(weights, by_update, strict=True)) / total
        if isfinite(value):
            means.append(Metric(name, value))
    return tuple(means)


def _fsum(terms: Iterable[float]) -> float:
    try:
        return fsum(terms)
    except (OverflowError, ValueError):
        return float("nan")
