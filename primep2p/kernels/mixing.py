"""What comes before the rule: each stage replaces the updates by linear combinations of them [A4].

So a stage is a matrix M (K', K): new row i is the sum over k of M[i, k] times row k, and its inner products are
M gram M^T. Rules that are linear themselves never see the new rows: their coefficients a become a M. No stage touches
the D values, and a chain of stages is one matrix.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy import newaxis

from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.geometry import distances, product
from primep2p.kernels.robust import clip_factors
from primep2p.model.pipeline import Arc, Bucketing, Clip, NearestNeighbours, Pre

__all__ = ["Mixed", "mix"]


class Mixed:
    """Rows after some stages: how they are made of the first ones, their inner products, their weights."""

    def __init__(self, matrix: Doubles, gram: Doubles, shares: Doubles) -> None:
        self.matrix = matrix
        self.gram = gram
        self.shares = shares
        """Sum to 1."""

    def then(self, stage: Doubles) -> "Mixed":
        """After one stage more. A row's share stays with it, whatever it is mixed with: else a liar that is near to
        nobody but counts others among its neighbours would weigh more than its own. A bucket has its rows' shares."""
        shares = self.shares if len(stage) == len(self.shares) else product((stage > 0).astype(np.float64), self.shares)
        gram = product(product(stage, self.gram), np.ascontiguousarray(stage.T))
        return Mixed(product(stage, self.matrix), gram, shares)


def mix(gram: Doubles, shares: Doubles, stages: Sequence[Pre], seed: bytes) -> Mixed:
    """The rows with inner products `gram` (K, K) and weights `shares` (K,) after `stages`, in their order."""
    mixed = Mixed(np.eye(len(gram)), gram, shares)
    for stage in stages:
        mixed = mixed.then(_matrix(stage, mixed.gram, seed))
    return mixed


def _matrix(stage: Pre, gram: Doubles, seed: bytes) -> Doubles:
    match stage:
        case Clip(norm):
            return np.diag(clip_factors(np.sqrt(np.diag(gram)), norm))
        case Arc(f):
            return np.diag(clip_factors(np.sqrt(np.diag(gram)), _arc_norm(gram, f)))
        case NearestNeighbours(f):
            return _neighbours(gram, f)
        case Bucketing(size):
            return _buckets(len(gram), size, seed)


def _arc_norm(gram: Doubles, f: int) -> float:
    """Of the longest row that is left as it is: floor(2 f (K - f) / K) are longer.

    Allouah et al., "Adaptive Gradient Clipping for Robust Federated Learning" (arXiv:2405.14432), algorithm 2.
    """
    count = len(gram)
    clipped = min(2 * f * (count - f) // count, count - 1)
    return float(np.sort(np.sqrt(np.diag(gram)))[count - clipped - 1])


def _neighbours(gram: Doubles, f: int) -> Doubles:
    """The mean of the K - f nearest to each row, with itself; K >= 2f + 1. Among equals the first rows are nearer.

    Allouah et al., "Fixing by Mixing" (arXiv:2302.01772), algorithm 2.
    """
    squares = distances(gram)
    count = len(gram)
    np.fill_diagonal(squares, -1)  # nothing is nearer than the row itself
    nearest = np.argsort(squares, axis=1, kind="stable")[:, : count - f]
    matrix = np.zeros((count, count))
    matrix[np.arange(count)[:, newaxis], nearest] = 1 / (count - f)
    return matrix


def _buckets(count: int, size: int, seed: bytes) -> Doubles:
    """Rows in the order of sha256(seed, row), cut into buckets of `size` (the last may be smaller): their means.

    Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing" (arXiv:2006.09365).
    """
    order = sorted(range(count), key=lambda row: sha256(seed + b"bucketing" + row.to_bytes(4, "big")).digest())
    buckets = [order[low : low + size] for low in range(0, count, size)]
    matrix = np.zeros((len(buckets), count))
    for bucket, members in zip(matrix, buckets, strict=True):
        bucket[members] = 1 / len(members)
    return matrix
