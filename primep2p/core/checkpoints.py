"""From lists to a header: a proposer chooses a quorum of lists, everything else follows [P1-P6].

`derive` is the whole of it: the exact inclusions, who was seen, who joins and leaves, the next state. Voters derive the
same from the same bundle, aggregate themselves, and prevote only for the header that they would have written.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import fsum, isfinite, isqrt
from statistics import median_low
from typing import TypeVar

import msgspec

from primep2p.core.admission import Request, newcomers_of, request_of
from primep2p.core.beacons import next_beacon
from primep2p.core.chain import Head, turnout_of
from primep2p.core.checks import check_ban, check_leave, check_list, check_update, is_leaving
from primep2p.core.roster import advance, state_hash
from primep2p.core.stopping import ending
from primep2p.core.votes import Open, convict, open_votes
from primep2p.model.errors import PeerError
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.records import (
    MAX_COMMITTEE,
    Ban,
    Bundle,
    Collected,
    Departure,
    End,
    Evidence,
    Header,
    Inclusion,
    Join,
    Leave,
    Metric,
    Newcomer,
    RunSpec,
    RunState,
    Update,
    Vote,
)
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened

__all__ = [
    "Derivation",
    "OpenedBundle",
    "Promised",
    "bundle_of",
    "derive",
    "discounted",
    "header_of",
    "named_by_k",
    "open_bundle",
]

WEIGHT_UNIT = 2**20
"""Weights are whole numbers: what an update of staleness 0 with one example weighs, where staleness counts."""

R = TypeVar("R", bound=msgspec.Struct)
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Promised:
    """What the lists of a bundle oblige it to carry."""

    updates: frozenset[tuple[PeerId, Hash]]
    notices: frozenset[Hash]
    accused: frozenset[PeerId]


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose envelopes are open and whose shape holds."""

    hash: Hash
    lists: tuple[Opened[Collected], ...]
    updates: tuple[Opened[Update], ...]
    requests: tuple[Request, ...]
    bans: tuple[Opened[Ban], ...]
    leaves: tuple[Opened[Leave], ...]
    votes: tuple[Opened[Vote], ...]
    convicted: tuple[PeerId, ...]


@dataclass(frozen=True)
class Derivation:
    """What follows from a bundle, but for the params."""

    bundle: Hash
    inclusions: tuple[Inclusion, ...]
    blamed: tuple[PeerId, ...]
    """Trainers left out because of the examples they claim."""
    seen: frozenset[PeerId]
    joined: tuple[Newcomer, ...]
    left: tuple[Departure, ...]
    reveal: bytes
    state: RunState
    metrics: tuple[Metric, ...]
    void: str
    ended: End
    """Why this checkpoint is the run's last, if it is. A target is met by a model only."""

    @property
    def key(self) -> Hash:
        """Names the aggregation: two bundles with the same inclusions need it once."""
        return digest("inclusions", b"".join(encode(inclusion) for inclusion in self.inclusions))


def named_by_k(lists: Iterable[Collected], k: int) -> Promised:
    """What at least k lists name; a trainer of whom two updates are named is left out [P3].

    What fewer lists name counts for nothing, not even against a trainer: a liar may list hashes of its own making.
    """
    records = list(lists)
    named = _named(records, k, lambda record: ((ref.trainer, ref.update) for ref in record.updates))
    trainers = Counter(trainer for trainer, _ in named)
    return Promised(
        frozenset(ref for ref in named if trainers[ref[0]] == 1),
        _named(records, k, lambda record: record.notices),
        _named(records, k, lambda record: record.accused),
    )


def _named(records: Iterable[Collected], k: int, things: Callable[[Collected], Iterable[T]]) -> frozenset[T]:
    counts = Counter(thing for record in records for thing in things(record))
    return frozenset(thing for thing, count in counts.items() if count >= k)


def bundle_of(
    lists: Iterable[Opened[Collected]],
    promised: Promised,
    updates: Mapping[Hash, Opened[Update]],
    notices: Mapping[Hash, bytes],
    votes: Iterable[Opened[Vote]],
    evidence: Mapping[PeerId, Evidence],
) -> Bundle:
    """The bundle that these lists oblige to: everything sorted, so that equal choices give equal bytes [P1]."""
    return Bundle(
        tuple(entry.raw for entry in sorted(lists, key=lambda entry: entry.signer)),
        tuple(updates[hash_].raw for _, hash_ in sorted(promised.updates)),
        tuple(notices[hash_] for hash_ in sorted(promised.notices)),
        tuple(vote.raw for vote in sorted(votes, key=lambda vote: vote.signer)[:MAX_COMMITTEE]),
        tuple(encode(evidence[peer]) for peer in sorted(promised.accused)),
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
    updates = _promised_updates(bundle, promised, head, open_)
    requests, bans, leaves = _promised_notices(bundle, promised, head, open_)
    votes = open_votes(bundle.votes, open_, run=head.run, round=head.round, step="precommit", header=None)
    _strictly_sorted([vote.signer for vote in votes], "votes")
    if any(vote.signer not in head.members for vote in votes):
        raise PeerError("a vote of somebody who is no member")
    convicted = tuple(convict(decode(Evidence, each), head.run, open_) for each in bundle.evidence)
    if convicted != tuple(sorted(promised.accused)):
        raise PeerError("the evidence is not against those whom the lists accuse")
    return OpenedBundle(digest("bundle", raw), tuple(lists), updates, requests, bans, leaves, tuple(votes), convicted)


def _promised_updates(bundle: Bundle, promised: Promised, head: Head, open_: Open) -> tuple[Opened[Update], ...]:
    if len(bundle.updates) != len(promised.updates):
        raise PeerError("more or fewer updates than the lists name")
    updates = _opened(bundle.updates, Update, open_)
    if [(u.signer, u.hash) for u in updates] != sorted(promised.updates):
        raise PeerError("the updates are not those that the lists name")
    for update in updates:
        check_update(update, head)
    return tuple(updates)


def _promised_notices(
    bundle: Bundle, promised: Promised, head: Head, open_: Open
) -> tuple[tuple[Request, ...], tuple[Opened[Ban], ...], tuple[Opened[Leave], ...]]:
    if len(bundle.notices) != len(promised.notices):
        raise PeerError("more or fewer notices than the lists name")
    notices = [open_(raw) for raw in bundle.notices]
    if [notice.hash for notice in notices] != sorted(promised.notices):
        raise PeerError("the notices are not those that the lists name")
    joins, bans, leaves = list[Opened[Join]](), list[Opened[Ban]](), list[Opened[Leave]]()
    for notice in notices:
        match notice.record:
            case Ban():
                bans.append(ban := notice.of(Ban))
                check_ban(ban, head)
            case Leave():
                leaves.append(leave := notice.of(Leave))
                check_leave(leave, head)
            case _:
                joins.append(notice.of(Join))
    return tuple(request_of(head.run, head.spec, join, open_) for join in joins), tuple(bans), tuple(leaves)


def derive(bundle: OpenedBundle, head: Head) -> Derivation:
    """All of the next header but its params [P3-P6, F1, F2]."""
    spec, round = head.spec, head.round + 1
    kept, blamed = _within_weight(bundle.updates, spec.pipeline.max_weight_ratio)
    shortage = _shortage(spec, len(kept))
    inclusions = () if shortage else tuple(_inclusion(update, spec, round) for update in kept)
    turnout = turnout_of(
        head,
        seen=_seen(bundle).intersection(head.members),
        blamed=frozenset(blamed),
        reveal=next((entry.record.reveal for entry in bundle.lists if entry.signer == head.revealer), b""),
        newcomers=newcomers_of(spec, head.state, bundle.requests, round=round),
        expelled=_expelled(bundle, head),
        leaving=frozenset(leave.signer for leave in bundle.leaves if is_leaving(leave, head)),
        inclusions=inclusions,
    )
    state, joined, left = advance(head.state, turnout, spec.policy)
    return Derivation(
        bundle.hash,
        inclusions,
        blamed,
        turnout.seen,
        joined,
        left,
        turnout.reveal,
        state,
        _means(kept, inclusions) if inclusions else (),
        shortage,
        ending(
            spec,
            round=round,
            committee=head.committee,
            cohort=head.cohort,
            lists=(entry.record for entry in bundle.lists),
            updates=[] if shortage else [update.record for update in kept],
        ),
    )


def _inclusion(update: Opened[Update], spec: RunSpec, round: int) -> Inclusion:
    """With its weight: what it claims where that counts, in a buffered run less the older it is [P4]."""
    record, staleness = update.record, round - update.record.round
    counted = record.examples if spec.pipeline.is_weighted else 1
    if spec.policy.is_buffered and spec.pipeline.takes_weights:
        counted = discounted(counted, staleness)
    return Inclusion(update.signer, update.hash, record.delta, counted, staleness)


def discounted(examples: int, staleness: int) -> int:
    """examples / sqrt(1 + staleness) in millionths and a little less (2**-20), rounded down: in whole numbers alone, so
    that everybody gets the same [P4]."""
    return isqrt((examples * WEIGHT_UNIT) ** 2 // (1 + staleness))


def _shortage(spec: RunSpec, updates: int) -> str:
    """Why so many updates give no model; empty where they do [P5, R2]."""
    need, minimum = spec.pipeline.need, max(spec.policy.min_updates, spec.policy.least_members)
    if updates >= spec.least_updates:
        return ""
    if need.updates <= minimum:
        return f"too few updates: {updates} of {minimum}"
    return f"too few updates: {updates} of the {need.updates} that {need.stage.words} needs{need.in_buckets}"


def _seen(bundle: OpenedBundle) -> frozenset[PeerId]:
    records = (*bundle.lists, *bundle.updates, *bundle.votes)
    return frozenset(opened.signer for opened in records)


def _expelled(bundle: OpenedBundle, head: Head) -> tuple[Departure, ...]:
    """Whom evidence convicts, and whom the creator bans: each once [M5, M7]."""
    reasons: dict[PeerId, Departure] = {ban.record.peer: Departure(ban.record.peer, "banned") for ban in bundle.bans}
    reasons |= {peer: Departure(peer, "convicted") for peer in bundle.convicted}
    return tuple(reasons[peer] for peer in sorted(reasons) if peer not in head.state.expelled)


def header_of(head: Head, derivation: Derivation, params: Cid | None, optimiser: Cid | None, reason: str) -> Header:
    """The one header that follows. `params` and the optimiser's state are those aggregated, or None with the reason why
    there are none; a void round keeps both as they were. Where updates of which nothing came could come again, they
    are named all the same, and so used up [P5]."""
    void = derivation.void or reason
    names = head.spec.policy.is_buffered or not void
    return Header(
        run=head.run,
        round=head.round + 1,
        parent=head.hash,
        bundle=derivation.bundle,
        inclusions=derivation.inclusions if names else (),
        params=head.header.params if void or params is None else params,
        optimiser=head.header.optimiser if void else optimiser,
        seen=tuple(sorted(derivation.seen)),
        joined=derivation.joined,
        left=derivation.left,
        blamed=derivation.blamed,
        state=state_hash(derivation.state),
        reveal=derivation.reveal,
        beacon=next_beacon(head.header.beacon, head.run, head.round + 1, derivation.reveal),
        metrics=() if void else derivation.metrics,
        void=void,
        ended="" if void and derivation.ended == "metric" else derivation.ended,
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
