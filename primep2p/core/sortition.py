"""Who trains, votes and proposes: draws that anyone can repeat from a certified beacon [S1, S3, S4]."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from math import ceil, comb, expm1, log1p

from primep2p.core.votes import Committee
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import FULL_COMMITTEE, KERNELS_DIGEST, RoundPolicy, RunState

__all__ = ["Risk", "candidates_of", "cohort_of", "committee_of", "draw_risk", "ranked", "voters_of"]


@lru_cache(maxsize=64)
def ranked(beacon: Hash, role: str, peers: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
    """Peers in the order of sha256(beacon, role, peer) [S1]."""
    salt = beacon + role.encode() + b"\0"
    return tuple(sorted(peers, key=lambda peer: sha256(salt + peer.encode()).digest()))


def voters_of(state: RunState) -> tuple[PeerId, ...]:
    """Members that compute what the protocol says, if they are more than half; else all, so that no few of them become
    the committee of the others by their word alone, and a run of equals may go on [S4]."""
    able = tuple(member.peer for member in state.members if member.kernels == KERNELS_DIGEST)
    return able if 2 * len(able) > len(state.members) else tuple(member.peer for member in state.members)


def candidates_of(state: RunState) -> frozenset[PeerId]:
    """From whom a committee is drawn: the voters that were seen in one of the last two rounds. In one would leave a
    proposer to choose: it takes any q lists, and whose list it does not take may not be seen."""
    first = state.round - 1
    alive = (m.peer for m in state.members if m.heard >= first and (m.since < state.round or m.since == 0))
    return frozenset(alive).intersection(voters_of(state))


def committee_of(state: RunState, beacon: Hash, policy: RoundPolicy) -> Committee:
    """Who votes in the round after `state`, in rank order, with its quorum: all voters, or of many those drawn among
    the candidates, and others only where these are too few [S3]."""
    order = ranked(beacon, "committee", voters_of(state))
    if len(order) > FULL_COMMITTEE:
        alive = candidates_of(state)
        drawn = [peer for peer in order if peer in alive][: policy.committee_size]
        spare = max(0, FULL_COMMITTEE - len(drawn))
        order = (*drawn, *[peer for peer in order if peer not in alive][:spare])
    return Committee.of(order, policy.consensus_threshold)


def cohort_of(state: RunState, beacon: Hash, policy: RoundPolicy, least: int) -> frozenset[PeerId]:
    """Who trains in the round after `state`: the part of the roster that the run's policy says, drawn; `least`, without
    whose updates there would be no model, if there are so many. Where training outlasts rounds, those who have been
    members the longest: nobody's turn ends while it trains."""
    if policy.is_buffered:
        return frozenset(m.peer for m in sorted(state.members, key=lambda m: (m.since, m.peer))[: policy.max_cohort])
    roster = tuple(member.peer for member in state.members)
    wanted = max(ceil(Fraction(policy.sample_fraction) * len(roster)), least)
    size = min(wanted, policy.max_cohort, len(roster))
    return frozenset(roster if size == len(roster) else ranked(beacon, "cohort", roster)[:size])


@dataclass(frozen=True, slots=True)
class Risk:
    """Chances that among many draws one gives a committee with too many bad members."""

    fork: float
    stall: float


def draw_risk(candidates: int, committee: Committee, bad_share: Fraction, *, rounds: int = 1000) -> Risk:
    """The chance that within `rounds` draws one has more liars than 2q - n - 1 (they could fork), or more silent
    members than n - q (the round stalls), if `bad_share` of the candidates are bad: hypergeometric tails."""
    bad, n = ceil(bad_share * candidates), len(committee.members)

    def within_rounds(bound: int) -> float:
        ways = sum(comb(bad, x) * comb(candidates - bad, n - x) for x in range(bound + 1, min(bad, n) + 1))
        each = float(Fraction(ways, comb(candidates, n)))
        return -expm1(rounds * log1p(-each)) if each < 1 else 1.0

    return Risk(within_rounds(committee.survives_liars), within_rounds(committee.survives_silent))
