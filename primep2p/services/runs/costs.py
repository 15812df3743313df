"""What a run costs a member, from its settings and the shapes of its model alone: arithmetic, no measuring."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from primep2p.core.votes import Committee
from primep2p.model.pipeline import Float32, Pipeline
from primep2p.model.records import FULL_COMMITTEE, RoundPolicy, TensorSpec
from primep2p.model.views.previews import RunCost
from primep2p.services.aggregating.aggregation import state_tensors
from primep2p.store.deltas import delta_bytes

__all__ = ["cost_of"]

VOTE_BYTES = 300
"""A vote in its envelope."""

UPDATE_BYTES = 450
"""An Update in its envelope, with a few metrics."""

LIST_BYTES, ENTRY_BYTES = 250, 90
"""A list in its envelope, and each update that it names."""

HEADER_BYTES, INCLUSION_BYTES = 500, 160
"""A header with a few metrics, and each update in it."""

SEEN_BYTES, MEMBER_BYTES = 54, 150
"""A member that a header names, and one in the state after it."""

PIECE_BYTES = 4 * 2**20
"""Params, and each array of an optimiser's state, are computed so much at a time."""

SCRATCH_BYTES = 24_000_000
"""The most that rules and stages take beside that: docs/kernels.md has how it was measured."""


def cost_of(
    pipeline: Pipeline,
    policy: RoundPolicy,
    tensors: Sequence[TensorSpec],
    *,
    members: int,
    votes: bool,
    keep_updates: int,
    keep_checkpoints: int,
) -> RunCost:
    """For one of so many members, who computes what the protocol says unless it has no `votes`. Raises PeerError where
    the run's files could not be."""
    n, least = members, max(policy.min_updates, pipeline.least_updates)
    cohort = min(max(ceil(Fraction(policy.sample_fraction) * n), least), policy.max_cohort, n)
    committee = n if n <= FULL_COMMITTEE else min(n, policy.committee_size)
    trains, voting = Fraction(cohort, n), Fraction(committee, n) if votes else Fraction(0)
    params, delta = delta_bytes(Float32(), tensors), delta_bytes(pipeline.wire, tensors)
    state_of = state_tensors(pipeline.outer, tensors)
    state = delta_bytes(Float32(), state_of) if state_of else 0
    others = n - committee
    down = voting * (cohort - trains) * delta + (1 - voting) * params
    up = trains * (committee - voting) * delta + voting * Fraction(others, committee) * params
    records = _records(cohort, committee, policy, trains, voting)
    return RunCost(
        members=n,
        cohort=cohort,
        committee=committee,
        params_bytes=params,
        delta_bytes=delta,
        state_bytes=state,
        down_bytes=ceil(down + records),
        up_bytes=ceil(up + records),
        memory_bytes=PIECE_BYTES * (1 + len(state_of) // max(len(tensors), 1)) + SCRATCH_BYTES,
        disk_bytes=ceil(
            max(keep_updates, policy.late_rounds) * (voting * cohort + (1 - voting) * trains) * delta
            + keep_checkpoints * (params + voting * state)
        ),
        growth_bytes=_link(n, cohort, committee, policy),
    )


def _link(members: int, cohort: int, committee: int, policy: RoundPolicy) -> int:
    """What a round adds to the chain, which nobody throws away: header, certificate, and the roster after it."""
    q = Committee.of(("",) * committee, policy.consensus_threshold).q
    return HEADER_BYTES + INCLUSION_BYTES * cohort + (SEEN_BYTES + MEMBER_BYTES) * members + VOTE_BYTES * q


def _records(cohort: int, committee: int, policy: RoundPolicy, trains: Fraction, voting: Fraction) -> Fraction:
    """What a member sends in a round beside models: as much comes in."""
    q = Committee.of(("",) * committee, policy.consensus_threshold).q
    entries = LIST_BYTES + ENTRY_BYTES * cohort
    proposal = q * entries + cohort * UPDATE_BYTES + UPDATE_BYTES
    to_each = voting * (2 * VOTE_BYTES + entries) + trains * UPDATE_BYTES + voting * Fraction(proposal, committee)
    return to_each * max(committee - 1, 0) + q * VOTE_BYTES  # and the certificate, to and from everybody
