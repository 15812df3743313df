"""The self-check tells another arithmetic from the one that docs/protocol.md defines, whichever part of it is other."""

import ctypes
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from primep2p.kernels import geometry, order
from primep2p.kernels.arrays import Array, Block
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend, Doubles
from primep2p.kernels.selfcheck import digest
from primep2p.model.records import KERNELS_DIGEST

SMALLEST = np.finfo(np.float32).tiny


@pytest.fixture(scope="module")
def honest() -> bytes:
    return digest(Plain())


def test_numpy_gives_the_digest_that_the_protocol_names(honest: bytes) -> None:
    assert honest == KERNELS_DIGEST


def test_the_digest_is_the_one_that_the_protocol_names(honest: bytes) -> None:
    assert honest == KERNELS_DIGEST


def test_the_digest_is_the_same_in_any_thread(honest: bytes) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert {found.result() for found in [pool.submit(digest, Plain()) for _ in range(3)]} == {honest}


# ---- other backends


class Up(Plain):
    """One value of what a method gives is the next float32."""

    def __init__(self, method: str, to: float = np.inf) -> None:
        self.method, self.to = method, to

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        super().weighted_sum(rows, weights, out)
        if self.method == "weighted_sum":
            out[len(out) // 2] = np.nextafter(out[len(out) // 2], np.float32(self.to))

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        super().ranks(rows, wanted, out)
        if self.method == "ranks":
            out[0, -1] = np.nextafter(out[0, -1], np.float32(self.to))

    def largest(self, rows: Block) -> Array:
        found = super().largest(rows)
        return np.nextafter(found, np.float32(self.to)) if self.method == "largest" else found

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        super().rounded(rows, scales, out)
        out[0, -1] += self.method == "rounded"


class Summing(Plain):
    """Another sum."""

    def __init__(self, summed: Callable[[Array, Array], Array]) -> None:
        self.summed = summed

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        with np.errstate(all="ignore"):
            out[:] = self.summed(np.stack(list(rows)), weights)


def fused(rows: Array, weights: Array) -> Array:
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total = (total.astype(np.float64) + row.astype(np.float64) * float(weight)).astype(np.float32)
    return total


def pairwise(rows: Array, weights: Array) -> Array:
    products = list(rows * weights[:, None])
    while len(products) > 1:
        products = [sum(products[k + 1 : k + 2], products[k]) for k in range(0, len(products), 2)]
    return products[0]


def flushed(values: Array) -> Array:
    return np.where(np.abs(values) < SMALLEST, np.float32(0), values)


class Ranking(Plain):
    """Another order."""

    def __init__(self, changed: Callable[[Array], Array]) -> None:
        self.changed = changed

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        super().ranks(self.changed(np.stack(list(rows))), wanted, out)


class Doubled(Plain):
    """The lowest of the wanted ranks in place of the second, too."""

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        super().ranks(rows, wanted, out)
        out[1:2] = out[0]


class Averaging(Plain):
    """Another mean of ranks."""

    def __init__(self, averaged: Callable[[Array], Array]) -> None:
        self.averaged = averaged

    def ranked_mean(self, rows: Block, wanted: range, out: Array) -> None:
        with np.errstate(all="ignore"):
            values = np.sort(np.stack(list(rows)), axis=0)[wanted.start : wanted.stop]
            out[:] = self.averaged(values)


def ascending(values: Array) -> Array:
    return in_order(np.vstack([np.zeros_like(values[:1]), values]), np.ones(1 + len(values), np.float32))


class Rounding(Plain):
    """Other integers."""

    def __init__(self, whole: Callable[[Array, Doubles], Doubles]) -> None:
        self.whole = whole

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        out[:] = self.whole(np.stack(list(rows)), scales)


def rounded(rows: Array, scales: Doubles) -> Doubles:
    found: Doubles = np.rint(rows * scales[:, None])
    return found


def in_order(rows: Array, weights: Array) -> Array:
    total = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        total = total + row * weight
    return total


BACKENDS: dict[str, Backend] = {
    "a sum one bit up": Up("weighted_sum"),
    "a sum one bit down": Up("weighted_sum", -np.inf),
    "a rank one bit up": Up("ranks"),
    "a rank one bit down": Up("ranks", -np.inf),
    "the largest one bit up": Up("largest"),
    "the largest one bit down": Up("largest", 0),
    "one integer one up": Up("rounded"),
    "fused": Summing(fused),
    "summed in double": Summing(lambda rows, weights: (rows.astype(np.float64) * weights[:, None]).sum(0)),
    "products in double": Summing(
        lambda rows, weights: np.add.accumulate(rows * weights[:, None].astype(np.float64))[-1]
    ),
    "the last row first": Summing(lambda rows, weights: in_order(rows[::-1], weights[::-1])),
    "in pairs": Summing(pairwise),
    "from +0 on": Summing(lambda rows, weights: in_order(rows, weights) + np.float32(0)),
    "by a BLAS": Summing(lambda rows, weights: np.where(np.isfinite(rows).all(0), weights @ rows, np.nan)),
    "weights in half precision": Summing(
        lambda rows, weights: in_order(rows, weights.astype(np.float16).astype(np.float32))
    ),
    "sums flushed to zero": Summing(lambda rows, weights: flushed(in_order(rows, weights))),
    "inputs flushed to zero": Summing(lambda rows, weights: in_order(flushed(rows), weights)),
    "ranks flushed to zero": Ranking(flushed),
    "ranks of sizes": Ranking(np.abs),
    "ranks in half precision": Ranking(lambda rows: rows.astype(np.float16).astype(np.float32)),
    "the lowest rank twice": Doubled(),
    "a mean from the largest down": Averaging(lambda values: ascending(values[::-1]) * np.float32(1 / len(values))),
    "a mean with the sign of a zero": Averaging(
        lambda values: np.add.accumulate(values)[-1] * np.float32(1 / len(values))
    ),
    "a mean that divides": Averaging(lambda values: ascending(values) / np.float32(len(values))),
    "a mean in double": Averaging(lambda values: values.mean(axis=0, dtype=np.float64) + 0.0),
    "a mean of parts": Averaging(lambda values: ascending(values * np.float32(1 / len(values)))),
    "a mean flushed to zero": Averaging(lambda values: flushed(ascending(values) * np.float32(1 / len(values)))),
    "a mean one bit up": Averaging(
        lambda values: np.nextafter(ascending(values) * np.float32(1 / len(values)), np.float32(np.inf))
    ),
    "integers of half the precision": Rounding(lambda rows, scales: 1024 * rounded(rows, scales / 1024)),
    "integers rounded half up": Rounding(lambda rows, scales: np.floor(rows * scales[:, None] + 0.5)),
    "integers cut": Rounding(lambda rows, scales: np.trunc(rows * scales[:, None])),
    "integers of flushed rows": Rounding(lambda rows, scales: rounded(flushed(rows), scales)),
    "integers not rounded": Rounding(lambda rows, scales: rows * scales[:, None]),
}


def test_the_mutants_are_mutants_of_what_is_right(honest: bytes) -> None:
    assert digest(Summing(in_order)) == honest
    assert digest(Rounding(rounded)) == honest
    assert digest(Ranking(lambda rows: rows)) == honest
    assert digest(Averaging(lambda values: ascending(values) * np.float32(1 / len(values)))) == honest


@pytest.mark.parametrize("mutant", BACKENDS)
def test_a_backend_that_computes_otherwise_is_caught(mutant: str, honest: bytes) -> None:
    assert digest(BACKENDS[mutant]) != honest


def test_which_zero_comes_first_is_nobody_s_business(honest: bytes) -> None:
    class Swapped(Plain):
        def ranks(self, rows: Block, wanted: range, out: Array) -> None:
            super().ranks(rows, wanted, out)
            out[out == 0] *= np.float32(-1)

    assert digest(Swapped()) == honest


# ---- other arithmetic


@contextmanager
def environment(name: str) -> Iterator[None]:
    """Another rounding, or denormals lost, for this thread: what a library can do to a process."""
    libm = ctypes.CDLL(None)
    before = (ctypes.c_uint32 * 16)()
    assert libm.fegetenv(before) == 0
    other = (ctypes.c_uint32 * 16)(*before)
    # glibc on x86-64: the seventh word is MXCSR, of which bit 6 is denormals-are-zeros, 13 and 14 how to round, 15
    # flush-to-zero.
    other[7] |= {"up": 0x4000, "down": 0x2000, "to zero": 0x6000, "flush": 0x8000, "denormals are zeros": 0x0040}[name]
    assert libm.fesetenv(other) == 0
    try:
        yield
    finally:
        libm.fesetenv(before)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the bits are those of x86-64 and glibc"
)
@pytest.mark.parametrize("name", ["up", "down", "to zero", "flush", "denormals are zeros"])
def test_another_arithmetic_of_the_machine_is_caught(name: str, honest: bytes) -> None:
    found = []

    def work() -> None:  # in a thread of its own, which nobody computes in afterwards
        with environment(name):
            found.append(digest(Plain()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found != [honest]
    assert digest(Plain()) == honest


# ---- other definitions


def by_blas(left: Doubles, right: Doubles) -> Doubles:
    found: Doubles = np.matmul(left[:, ::-1], right[::-1])
    return found


def backwards(terms: Doubles) -> Doubles:
    return geometry.in_order(terms[::-1])


def upper_first(count: int) -> order.Finish:
    lower = order.closest_mean(count)

    def finish(values: Array, out: Array) -> None:
        lower(-values[::-1], out)
        np.negative(out, out=out)

    return finish


def biased(decay: float, value: Array, before: Array, after: Array, scratch: Array) -> Array:
    np.subtract(before, value, out=scratch)
    np.multiply(scratch, np.float32(decay), out=scratch)
    return np.add(value, scratch, out=after)


DEFINITIONS: dict[str, tuple[str, object]] = {
    "bulyan's window from above": ("pipeline.closest_mean", upper_first),
    "a sum of coefficients from the last on": ("robust.in_order", backwards),
    "products of stages in another order": ("mixing.product", by_blas),
    "distances one bit off": ("selfcheck.distances", lambda gram: np.nextafter(geometry.distances(gram), np.inf)),
    "a moving mean as a step": ("outer._mean", biased),
}


@pytest.mark.parametrize("mutant", DEFINITIONS)
def test_another_definition_is_caught(mutant: str, honest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    place, other = DEFINITIONS[mutant]
    monkeypatch.setattr(f"primep2p.kernels.{place}", other)
    with np.errstate(all="ignore"):
        assert digest(Plain()) != honest
