"""The demo's data: handwritten digits, shared out so unevenly that no node can learn them all alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from primep2p.model.errors import ConfigError

__all__ = ["LEAST_EXAMPLES", "Examples", "load_shares", "save"]

LEAST_EXAMPLES = 20
"""A share has at least so many, so that its node has something to train on."""

HELD_OUT = 0.2
BRIGHTEST = 16
"""The digits' pixels are counts from 0 to 16."""


@dataclass(frozen=True)
class Examples:
    """x (n, 64) float32 within [0, 1], y (n,) ints from 0 to 9."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.y)


def load_shares(n: int, alpha: float = 0.3, seed: int = 0) -> tuple[list[Examples], Examples]:
    """`n` disjoint shares of 80% of the digits, and the other 20%, which no node trains on.

    Each class is split among the shares in proportions drawn from Dirichlet(alpha): the smaller alpha, the fewer
    classes a share knows (arXiv:1909.06335). Raises ConfigError without scikit-learn, or where `n` are too many.
    """
    digits = _digits()
    if not 1 <= n * LEAST_EXAMPLES <= len(digits) * (1 - HELD_OUT):
        raise ConfigError(f"the digits cannot be shared among {n} nodes with at least {LEAST_EXAMPLES} for each")
    random = np.random.default_rng(seed)
    held_out: list[npt.NDArray[np.intp]] = []
    shares: list[list[npt.NDArray[np.intp]]] = [[] for _ in range(n)]
    for digit in np.unique(digits.y):
        rows = random.permutation(np.flatnonzero(digits.y == digit))
        test = round(HELD_OUT * len(rows))
        held_out.append(rows[:test])
        cuts = np.cumsum(random.dirichlet(np.full(n, alpha)))[:-1] * (len(rows) - test)
        for share, part in zip(shares, np.split(rows[test:], cuts.astype(int)), strict=True):
            share.append(part)
    rows_of = _filled([np.concatenate(share) for share in shares])
    return [_chosen(digits, rows) for rows in rows_of], _chosen(digits, np.concatenate(held_out))


def save(path: Path, share: Examples) -> None:
    """A share as the trainers of this package read it."""
    np.savez(path, x=share.x, y=share.y)


def _filled(shares: list[npt.NDArray[np.intp]]) -> list[npt.NDArray[np.intp]]:
    """The same rows, moved from the largest share until each has LEAST_EXAMPLES."""
    while True:
        smallest = min(range(len(shares)), key=lambda share: len(shares[share]))
        largest = max(range(len(shares)), key=lambda share: len(shares[share]))
        lacking = LEAST_EXAMPLES - len(shares[smallest])
        if lacking <= 0:
            return shares
        moved = max(1, min(lacking, (len(shares[largest]) - LEAST_EXAMPLES)))
        shares[smallest] = np.concatenate([shares[smallest], shares[largest][:moved]])
        shares[largest] = shares[largest][moved:]


def _chosen(digits: Examples, rows: npt.NDArray[np.intp]) -> Examples:
    rows = np.sort(rows)
    return Examples(digits.x[rows], digits.y[rows])


def _digits() -> Examples:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            "the demo needs scikit-learn", hint="pip install '.[demo]' where primep2p was cloned"
        ) from error
    x, y = load_digits(return_X_y=True)
    return Examples((x / BRIGHTEST).astype(np.float32), y.astype(np.intp))
