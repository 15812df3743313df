"""Deltas and params that exist in name only."""

from primep2p.model.ids import Cid, PeerId
from tests.core.kit import cid

__all__ = ["aggregated", "delta_of"]


def delta_of(peer: PeerId, round: int) -> Cid:
    """The delta that an honest trainer makes."""
    return cid("delta", peer, round)


def aggregated(base: Cid, deltas: tuple[Cid, ...], weights: tuple[int, ...]) -> Cid:
    """The params that these deltas give."""
    return cid("params", base, deltas, weights)
