"""Deltas and params that exist in name only."""

from collections.abc import Iterable
from typing import NamedTuple

from primep2p.core.chain import Head
from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.records import Inclusion
from tests.core.kit import cid

__all__ = ["Made", "aggregated", "delta_of", "made_of"]


def delta_of(peer: PeerId, round: int, life: int) -> Cid:
    """The delta that an honest trainer makes; another one when it trains again after a crash."""
    return cid("delta", peer, round, life)


class Made(NamedTuple):
    """What an aggregation leaves."""

    params: Cid
    optimiser: Cid


def aggregated(base: Cid, optimiser: Cid | None, deltas: tuple[Cid, ...], weights: tuple[int, ...], seed: Hash) -> Made:
    """The params that these deltas give, and the state of an optimiser that every world has: each input matters."""
    inputs = (base, optimiser, deltas, weights, seed)
    return Made(cid("params", *inputs), cid("optimiser", *inputs))


def made_of(head: Head, inclusions: Iterable[Inclusion]) -> Made:
    """What a round that includes these gives."""
    entering = tuple(inclusions)
    deltas, weights = tuple(i.delta for i in entering), tuple(i.weight for i in entering)
    return aggregated(head.header.params, head.header.optimiser, deltas, weights, head.header.beacon)
