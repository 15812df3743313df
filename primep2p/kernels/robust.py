"""Rules that choose or weigh whole updates by their distances: from inner products to a coefficient for each row [A5].

K is small beside D, so all of this is the cheap part; it is float64 in a fixed order (see geometry.py). Ties go to the
row that comes first, which is the trainer of the lowest peer id. Shapes: gram and distances (K, K), shares and
coefficients (K,).
"""

import numpy as np
import numpy.typing as npt

from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.geometry import distances, in_order, product

__all__ = ["Choice", "bulyan_choice", "centered_clip", "clip_factors", "geometric_median", "krum_order"]

Choice = npt.NDArray[np.intp]
"""Rows by number."""


def krum_order(gram: Doubles, f: int) -> Choice:
    """All K >= 2f + 3 rows, the best first: by the sum of squared distances to the K - f - 2 nearest others.

    Blanchard et al., "Machine Learning with Adversaries" (NeurIPS 2017), section 4.
    """
    return np.argsort(_scores(distances(gram), f), kind="stable")


def _scores(squares: Doubles, f: int) -> Doubles:
    nearest = np.sort(squares, axis=0)[1 : max(2, len(squares) - f - 1)]  # the first is the row itself
    return in_order(nearest) if len(nearest) else np.zeros(len(squares))


def bulyan_choice(gram: Doubles, f: int) -> Choice:
    """The K - 2f rows, K >= 4f + 3, that Krum chooses one after another from those that are left; in row order.

    El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium" (ICML 2018), section 4.
    """
    squares = distances(gram)
    left = np.arange(len(gram))
    chosen = []
    for _ in range(len(gram) - 2 * f):
        best = int(np.argmin(_scores(squares[np.ix_(left, left)], f)))
        chosen.append(left[best])
        left = np.delete(left, best)
    return np.sort(np.array(chosen, np.intp))


def geometric_median(gram: Doubles, shares: Doubles, *, nu: float, iterations: int) -> Doubles:
    """Coefficients of the point whose weighted sum of distances to the rows is least: the smoothed Weiszfeld algorithm
    from the weighted mean on. `shares` are above 0 and sum to 1; distances below `nu` count as `nu`.

    Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning" (arXiv:1912.13445), algorithm 2.
    """
    coefficients = shares
    for _ in range(iterations):
        weights = shares / np.maximum(_lengths(gram, coefficients), nu)
        coefficients = weights / float(in_order(weights))
    return coefficients


def centered_clip(gram: Doubles, *, tau: float, iterations: int) -> Doubles:
    """Coefficients of v after v += mean over k of (x_k - v) min(1, tau / |x_k - v|), repeated, from v = 0 on.

    Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization" (arXiv:2012.10333), algorithm 2.
    """
    count, coefficients = len(gram), np.zeros(len(gram))
    for _ in range(iterations):
        clipped = clip_factors(_lengths(gram, coefficients), tau) / count
        coefficients = coefficients * (1 - float(in_order(clipped))) + clipped
    return coefficients


def _lengths(gram: Doubles, coefficients: Doubles) -> Doubles:
    """(K,) distances from each row to the point that the coefficients a make: |x_k|^2 - 2 sum_j a_j g_kj + a g a.

    Not from distances between rows: a liar's is so long that what is left of it for others is their difference.
    """
    along = product(gram, coefficients)
    squares = np.diag(gram) - 2 * along + float(in_order(coefficients * along))
    lengths: Doubles = np.sqrt(np.maximum(squares, 0))
    return lengths


def clip_factors(lengths: Doubles, most: float) -> Doubles:
    """What takes vectors of these lengths to at most `most`: 1 where they are short enough."""
    return np.where(lengths > most, most / np.where(lengths > 0, lengths, 1), 1.0)
