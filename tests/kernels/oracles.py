"""What the papers say, slowly: lists of Python floats, one loop for each sum, nothing shared with the kernels.

Rows are K lists of D floats, shares K floats that sum to 1. Where a paper leaves a choice open (ties, the draw of
buckets) the oracle follows docs/protocol.md.
"""

from collections.abc import Sequence
from hashlib import sha256
from math import fsum, sqrt

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
    Rule,
    Sgd,
    TrimmedMean,
    Yogi,
    trimmed,
)

Vector = list[float]


def aggregated(pipeline: Pipeline, rows: Sequence[Vector], counts: Sequence[int], seed: bytes = b"") -> Vector:
    total = sum(counts)
    shares = [count / total if pipeline.is_weighted else 1 / len(rows) for count in counts]
    rows = list(rows)
    for stage in pipeline.pre:
        rows, shares = prepared(stage, rows, shares, seed)
    return ruled(pipeline.rule, rows, shares)


def ruled(rule: Rule, rows: list[Vector], shares: Vector) -> Vector:
    match rule:
        case FedAvg():
            return weighted(rows, shares)
        case Median():
            return [middle([row[d] for row in rows]) for d in range(len(rows[0]))]
        case TrimmedMean():
            cut = trimmed(rule, len(rows))
            return [mean(sorted(row[d] for row in rows)[cut : len(rows) - cut]) for d in range(len(rows[0]))]
        case Krum(f):
            return rows[krum_order(rows, f)[0]]
        case MultiKrum(f, m):
            return mean_row([rows[k] for k in krum_order(rows, f)[: m or len(rows) - f]])
        case Bulyan(f):
            return bulyan(rows, f)
        case GeometricMedian(nu, iterations):
            return geometric_median(rows, shares, nu, iterations)
        case CenteredClip(tau, iterations):
            return centered_clip(rows, tau, iterations)


# ---- words


def mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def middle(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def weighted(rows: Sequence[Vector], weights: Sequence[float]) -> Vector:
    return [fsum(w * row[d] for row, w in zip(rows, weights, strict=True)) for d in range(len(rows[0]))]


def mean_row(rows: Sequence[Vector]) -> Vector:
    return [mean([row[d] for row in rows]) for d in range(len(rows[0]))]


def square(one: Vector, other: Vector) -> float:
    return fsum((a - b) * (a - b) for a, b in zip(one, other, strict=True))


def length(row: Vector) -> float:
    return sqrt(fsum(value * value for value in row))


def scaled(row: Vector, factor: float) -> Vector:
    return [value * factor for value in row]


# ---- rules


def krum_scores(rows: Sequence[Vector], f: int) -> Vector:
    """Blanchard et al., section 4: the sum of squared distances to the n - f - 2 closest others."""
    scores = []
    for i, row in enumerate(rows):
        others = sorted(square(row, other) for j, other in enumerate(rows) if j != i)
        scores.append(fsum(others[: max(1, len(rows) - f - 2)]))
    return scores


def krum_order(rows: Sequence[Vector], f: int) -> list[int]:
    scores = krum_scores(rows, f)
    return sorted(range(len(rows)), key=lambda row: (scores[row], row))


def bulyan_choice(rows: Sequence[Vector], f: int) -> list[int]:
    """El Mhamdi et al., section 4: n - 2f times, what Krum chooses among those that are left."""
    left, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * f:
        others = [rows[k] for k in left]
        best = krum_order(others, f)[0] if len(others) > 1 else 0
        chosen.append(left.pop(best))
    return chosen


def bulyan(rows: Sequence[Vector], f: int) -> Vector:
    chosen = [rows[k] for k in bulyan_choice(rows, f)]
    result = []
    for d in range(len(rows[0])):
        values = [row[d] for row in chosen]
        median = middle(values)
        closest = sorted(values, key=lambda value: (abs(value - median), value))
        result.append(mean(closest[: len(chosen) - 2 * f]))
    return result


def geometric_median(rows: Sequence[Vector], shares: Vector, nu: float, iterations: int) -> Vector:
    """Pillutla et al., algorithm 2."""
    point = weighted(rows, shares)
    for _ in range(iterations):
        weights = [share / max(nu, sqrt(square(point, row))) for share, row in zip(shares, rows, strict=True)]
        point = weighted(rows, [weight / fsum(weights) for weight in weights])
    return point


def centered_clip(rows: Sequence[Vector], tau: float, iterations: int) -> Vector:
    """Karimireddy et al. 2021, algorithm 2, from v = 0."""
    centre = [0.0] * len(rows[0])
    for _ in range(iterations):
        steps = []
        for row in rows:
            step = [x - v for x, v in zip(row, centre, strict=True)]
            far = length(step)
            steps.append(scaled(step, min(1.0, tau / far)) if far else step)
        centre = [v + step for v, step in zip(centre, mean_row(steps), strict=True)]
    return centre


# ---- before the rule


def prepared(stage: Pre, rows: list[Vector], shares: Vector, seed: bytes) -> tuple[list[Vector], Vector]:
    match stage:
        case Clip(norm):
            return [clipped(row, norm) for row in rows], shares
        case Arc(f):
            # Allouah et al. 2024, algorithm 2: the k longest are scaled to the length of number k + 1.
            k = min(2 * f * (len(rows) - f) // len(rows), len(rows) - 1)
            bound = sorted((length(row) for row in rows), reverse=True)[k]
            return [clipped(row, bound) for row in rows], shares
        case NearestNeighbours(f):
            return [mean_row([rows[j] for j in neighbours(rows, k, f)]) for k in range(len(rows))], shares
        case Bucketing(size):
            groups = buckets(len(rows), size, seed)
            return [mean_row([rows[k] for k in group]) for group in groups], [
                fsum(shares[k] for k in group) for group in groups
            ]


def clipped(row: Vector, norm: float) -> Vector:
    found = length(row)
    return scaled(row, norm / found) if found > norm else row


def neighbours(rows: Sequence[Vector], k: int, f: int) -> list[int]:
    """Allouah et al. 2023, algorithm 2: the n - f nearest to row k, which is one of them."""
    return sorted(range(len(rows)), key=lambda j: (j != k, square(rows[k], rows[j]), j))[: len(rows) - f]


def buckets(count: int, size: int, seed: bytes) -> list[list[int]]:
    """Karimireddy et al. 2022, algorithm 1, with the draw of docs/protocol.md."""
    drawn = sorted(range(count), key=lambda k: sha256(seed + b"bucketing" + k.to_bytes(4, "big")).digest())
    return [drawn[low : low + size] for low in range(0, count, size)]


# ---- after the rule

Memory = dict[str, Vector]


def stepped(outer: Outer | None, base: Vector, towards: Vector, memory: Memory) -> tuple[Vector, Memory]:
    """Params and state after one step; an empty memory is the first step's."""
    pairs = list(zip(base, towards, strict=True))
    if outer is None:
        return [x + delta for x, delta in pairs], {}
    if isinstance(outer, Sgd):
        lr, momentum = outer.learning_rate, outer.momentum
        before = memory.get("momentum", [0.0] * len(base))
        after = [momentum * v + delta for v, delta in zip(before, towards, strict=True)]
        way = [momentum * v + delta for v, delta in zip(after, towards, strict=True)] if outer.nesterov else after
        return [x + lr * v for x, v in zip(base, way, strict=True)], {"momentum": after}
    return reddi(outer, base, towards, memory)


def reddi(outer: Adagrad | Adam | Yogi, base: Vector, towards: Vector, memory: Memory) -> tuple[Vector, Memory]:
    """Reddi et al., algorithm 2, lines 11 to 15, one coordinate after another."""
    tau, beta1 = outer.tau, outer.beta1
    params, means, squares = [], [], []
    for d, (x, delta) in enumerate(zip(base, towards, strict=True)):
        m = memory["mean"][d] if memory else 0.0
        v = memory["square"][d] if memory else tau * tau
        m = beta1 * m + (1 - beta1) * delta
        match outer:
            case Adagrad():
                v = v + delta**2
            case Adam(_, _, beta2):
                v = beta2 * v + (1 - beta2) * delta**2
            case Yogi(_, _, beta2):
                sign = (v > delta**2) - (v < delta**2)
                v = v - (1 - beta2) * delta**2 * sign
        params.append(x + outer.learning_rate * m / (sqrt(v) + tau))
        means.append(m)
        squares.append(v)
    return params, {"mean": means, "square": squares}
