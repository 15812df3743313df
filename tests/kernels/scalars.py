"""docs/protocol.md, [A1] to [A7], one scalar after another: the bytes that every backend owes.

Elements are np.float32 scalars, coefficients are Python floats, the products of [A3] are Python integers.
"""

from collections.abc import Callable, Sequence
from math import frexp, ldexp, sqrt

import numpy as np

from primep2p.kernels.arrays import Array
from primep2p.model.pipeline import (
    Adagrad,
    Adam,
    Arc,
    Bucketing,
    Bulyan,
    CenteredClip,
    Clip,
    FedAvg,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighbours,
    Outer,
    Pipeline,
    Pre,
    Sgd,
    TrimmedMean,
    Yogi,
    trimmed,
)
from tests.kernels.oracles import buckets

F = np.float32
Numbers = list[float]
Square = list[Numbers]


def aggregated(pipeline: Pipeline, rows: Array, counts: Sequence[int], seed: bytes = b"") -> Array:
    with np.errstate(all="ignore"):
        return _aggregated(pipeline, rows, counts, seed)


def _aggregated(pipeline: Pipeline, rows: Array, counts: Sequence[int], seed: bytes) -> Array:
    count, total = len(rows), sum(counts)
    shares = [number / total if pipeline.is_weighted else 1.0 / count for number in counts]
    matrix = [[float(i == k) for k in range(count)] for i in range(count)]
    ordered = isinstance(pipeline.rule, Median | TrimmedMean)
    if not pipeline.pre and isinstance(pipeline.rule, FedAvg):
        return _linear(rows, shares)
    g = products(rows) if pipeline.pre or not ordered else matrix
    for stage in pipeline.pre:
        m = _stage(stage, g, seed)
        if isinstance(stage, Bucketing):
            shares = [_sum([share if part else 0.0 for part, share in zip(row, shares, strict=True)]) for row in m]
        g = _times(_times(m, g), _turned(m))
        matrix = _times(m, matrix)
    match pipeline.rule:
        case FedAvg():
            return _linear(rows, _through(matrix, shares))
        case Krum(f):
            return _linear(rows, _through(matrix, _among(len(g), _krum(g, f)[:1])))
        case MultiKrum(f, m):
            return _linear(rows, _through(matrix, _among(len(g), _krum(g, f)[: m or len(g) - f])))
        case GeometricMedian(nu, iterations):
            return _linear(rows, _through(matrix, _weiszfeld(g, shares, nu, iterations)))
        case CenteredClip(tau, iterations):
            return _linear(rows, _through(matrix, _clipping(g, tau, iterations)))
        case Bulyan(f):
            chosen = sorted(_bulyan(g, f))
            return _by_column(_mixed(matrix, rows)[chosen], lambda values: _window(values, len(chosen) - 2 * f))
        case TrimmedMean():
            cut = trimmed(pipeline.rule, len(matrix))
            return _by_column(_mixed(matrix, rows), lambda values: _mean(values[cut : len(values) - cut]))
        case Median():
            return _by_column(_mixed(matrix, rows), _median)


# ---- [A1], [A3]


def _linear(rows: Array, coefficients: Numbers) -> Array:
    weights = [F(value) for value in coefficients]
    entering = [k for k, weight in enumerate(weights) if weight]
    return weighted_sum(rows[entering], [weights[k] for k in entering]) if entering else np.zeros(rows.shape[1], F)


def weighted_sum(rows: Array, weights: Sequence[np.float32]) -> Array:
    result = np.empty(rows.shape[1], F)
    for d in range(rows.shape[1]):
        total = F(rows[0][d] * weights[0])
        for row, weight in zip(rows[1:], weights[1:], strict=True):
            total = F(total + F(row[d] * weight))
        result[d] = total
    return result


def whole(row: Array) -> tuple[list[int], float]:
    """[A3]: a row as integers, and the power of two that undoes it."""
    largest = max((abs(float(value)) for value in row), default=0.0)
    shift = 20 - frexp(largest)[1] if largest else 0
    return [round(ldexp(float(value), shift)) for value in row], ldexp(1.0, -shift)


def products(rows: Array) -> Square:
    found = [whole(row) for row in rows]
    return [
        [float(sum(a * b for a, b in zip(x, y, strict=True))) * undo_x * undo_y for y, undo_y in found]
        for x, undo_x in found
    ]


def _sum(terms: Sequence[float]) -> float:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _turned(m: Square) -> Square:
    return [list(column) for column in zip(*m, strict=True)]


def _times(left: Square, right: Square) -> Square:
    return [
        [_sum([a * row[j] for a, row in zip(line, right, strict=True)]) for j in range(len(right[0]))] for line in left
    ]


def _through(matrix: Square, a: Numbers) -> Numbers:
    return [_sum([m * value for m, value in zip(column, a, strict=True)]) for column in _turned(matrix)]


def _distances(g: Square) -> Square:
    size = range(len(g))
    return [[0.0 if i == j else max(0.0, (g[i][i] + g[j][j]) - 2 * g[i][j]) for j in size] for i in size]


# ---- [A4]


def _stage(stage: Pre, g: Square, seed: bytes) -> Square:
    count = len(g)
    lengths = [sqrt(g[k][k]) for k in range(count)]
    match stage:
        case Clip(norm):
            return _diagonal([norm / value if value > norm else 1.0 for value in lengths])
        case Arc(f):
            norm = sorted(lengths)[count - min(2 * f * (count - f) // count, count - 1) - 1]
            return _diagonal([norm / value if value > norm else 1.0 for value in lengths])
        case NearestNeighbours(f):
            d = _distances(g)
            nearest = [sorted(range(count), key=lambda j: (i != j, d[i][j], j))[: count - f] for i in range(count)]
            return [_among(count, row) for row in nearest]
        case Bucketing(size):
            return [_among(count, bucket) for bucket in buckets(count, size, seed)]


def _diagonal(values: Numbers) -> Square:
    return [[value if i == k else 0.0 for k in range(len(values))] for i, value in enumerate(values)]


def _among(count: int, chosen: Sequence[int]) -> Numbers:
    return [1 / len(chosen) if k in chosen else 0.0 for k in range(count)]


# ---- [A5]


def _krum(g: Square, f: int) -> list[int]:
    return _krum_among(_distances(g), list(range(len(g))), f)


def _krum_among(d: Square, left: Sequence[int], f: int) -> list[int]:
    """The score of a row is over distances *to* others, column by column: products of a chain need not be symmetric."""
    near = max(1, len(left) - f - 2)
    scores = {}
    for k in left:
        others = sorted(d[j][k] for j in left if j != k)[:near]
        scores[k] = _sum(others) if others else 0.0
    return sorted(left, key=lambda k: (scores[k], k))


def _bulyan(g: Square, f: int) -> list[int]:
    d, left, chosen = _distances(g), list(range(len(g))), []
    for _ in range(len(g) - 2 * f):
        chosen.append(_krum_among(d, left, f)[0])
        left.remove(chosen[-1])
    return chosen


def _weiszfeld(g: Square, shares: Numbers, nu: float, iterations: int) -> Numbers:
    a = shares
    for _ in range(iterations):
        far = _lengths(g, a)
        b = [share / max(value, nu) for share, value in zip(shares, far, strict=True)]
        a = [value / _sum(b) for value in b]
    return a


def _lengths(g: Square, a: Numbers) -> Numbers:
    """From each row to the point that a makes of all."""
    t = [_sum([value * weight for value, weight in zip(row, a, strict=True)]) for row in g]
    s = _sum([weight * value for weight, value in zip(a, t, strict=True)])
    return [sqrt(max((g[k][k] - 2 * t[k]) + s, 0.0)) for k in range(len(g))]


def _clipping(g: Square, tau: float, iterations: int) -> Numbers:
    a = [0.0] * len(g)
    for _ in range(iterations):
        c = [(tau / far if far > tau else 1.0) / len(g) for far in _lengths(g, a)]
        a = [weight * (1 - _sum(c)) + value for weight, value in zip(a, c, strict=True)]
    return a


# ---- [A6]


def _mixed(matrix: Square, rows: Array) -> Array:
    return np.stack([_linear(rows, line) for line in matrix])


def _by_column(rows: Array, rule: Callable[[list[np.float32]], np.float32]) -> Array:
    return np.array([rule(sorted(rows[:, d])) for d in range(rows.shape[1])], F)


def _median(values: list[np.float32]) -> np.float32:
    half = len(values) // 2
    if len(values) % 2:
        return F(values[half] + F(0))
    return F(F(F(values[half - 1] + values[half]) * F(0.5)) + F(0))


def _mean(values: Sequence[np.float32]) -> np.float32:
    total = F(0)
    for value in values:
        total = F(total + value)
    return F(total * F(1 / len(values)))


def _window(values: list[np.float32], count: int) -> np.float32:
    median = _median(values)
    while len(values) > count:
        lowest_goes = F(median - values[0]) > F(values[count] - median)
        if not lowest_goes:
            return _mean(values[:count])
        values = values[1:]
    return _mean(values)


# ---- [A7]


def stepped(outer: Outer | None, base: Array, towards: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Params and state, in the order of `state_names`."""
    with np.errstate(all="ignore"):
        found = [_stepped(outer, *scalars) for scalars in zip(base, towards, *state, strict=True)]
    return np.array([one[0] for one in found], F), [
        np.array([one[1 + n] for one in found], F) for n in range(len(state))
    ]


def _stepped(outer: Outer | None, x: np.float32, delta: np.float32, *state: np.float32) -> tuple[np.float32, ...]:
    match outer:
        case None:
            return (F(x + delta),)
        case Sgd(lr, momentum, nesterov):
            v = F(F(F(momentum) * state[0]) + delta) if state else delta
            way = F(F(F(momentum) * v) + delta) if nesterov else v
            return (F(x + F(F(lr) * way)), v)[: 1 + len(state)]
    *before, v = state
    q = F(delta * delta)
    m = F(F(F(outer.beta1) * before[0]) + F(F(1 - outer.beta1) * delta)) if before else delta
    match outer:
        case Adagrad():
            v = F(v + q)
        case Adam(_, _, beta2):
            v = F(F(F(beta2) * v) + F(F(1 - beta2) * q))
        case Yogi(_, _, beta2):
            v = F(v - F(F(F(1 - beta2) * q) * F(np.sign(F(v - q)))))
    params = F(x + F(F(F(outer.learning_rate) * m) / F(F(np.sqrt(v)) + F(outer.tau))))
    return (params, m, v) if before else (params, v)
