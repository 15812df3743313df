from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from primep2p.kernels.average import (
    BLOCK,
    Array,
    all_finite,
    apply,
    self_check,
    weighted_mean,
    weights,
)

INF = np.float32(np.inf)
any_value = st.floats(width=32)  # denormals, both zeros, inf and NaN among them
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
modest = st.floats(min_value=-1000, max_value=1000, width=32)


def naive(rows: Sequence[Array], shares: Sequence[np.float32]) -> Array:
    """The definition, one scalar at a time."""
    result = np.empty(len(rows[0]), np.float32)
    with np.errstate(all="ignore"):
        for column in range(len(result)):
            total = np.float32(rows[0][column] * shares[0])
            for row, share in zip(rows[1:], shares[1:], strict=True):
                total = np.float32(total + np.float32(row[column] * share))
            result[column] = total
    return result


def mean(rows: Sequence[Array], shares: Sequence[np.float32], block: int = BLOCK) -> Array:
    out = np.full(len(rows[0]), np.nan, np.float32)
    weighted_mean(rows, shares, out, block=block)
    return out


def matrices(values: st.SearchStrategy[float]) -> st.SearchStrategy[Array]:
    return st.tuples(st.integers(1, 6), st.integers(0, 40)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=values)
    )


def same_bits(one: Array, other: Array) -> bool:
    nan = np.isnan(one) & np.isnan(other)  # which NaN it is nobody relies on: no checkpoint has one
    return bool(np.all(nan | (one.view(np.uint32) == other.view(np.uint32))))


@given(matrices(any_value), st.integers(1, 50), st.data())
@example(np.array([[-0.0], [-0.0]], np.float32), 1, None)
@example(np.array([[1e-45], [1e-45]], np.float32), 1, None)
@example(np.array([[3.4e38], [3.4e38]], np.float32), 1, None)
def test_blocks_change_no_bit(matrix: Array, block: int, draw: st.DataObject | None) -> None:
    count = st.integers(1, 2**40)
    counts = draw.draw(st.lists(count, min_size=len(matrix), max_size=len(matrix))) if draw else [1] * len(matrix)
    shares = weights(counts, "examples")
    assert same_bits(mean(list(matrix), shares, block), naive(list(matrix), shares))


def test_threads_change_no_bit() -> None:
    rows = [((np.arange(1_100_003) * (7 + row)) % 1013 - 500).astype(np.float32) / np.float32(7) for row in range(3)]
    shares = weights([3, 5, 11], "examples")
    threaded = np.empty(len(rows[0]), np.float32)

    def each(ranges: Sequence[tuple[int, int]], function: Callable[[int, int], None]) -> None:
        assert len(ranges) > 2
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda one: function(*one), reversed(ranges)))

    weighted_mean(rows, shares, threaded, each=each)
    assert same_bits(threaded, mean(rows, shares))


def test_the_order_of_rows_matters() -> None:
    rows = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8)]
    one = [np.float32(1)] * 3
    assert mean(rows, one)[0] != mean([rows[0], rows[2], rows[1]], one)[0]


@settings(max_examples=200)
@given(matrices(modest), st.data())
def test_the_mean_is_close_to_the_one_in_double_precision(matrix: Array, draw: st.DataObject) -> None:
    counts = draw.draw(st.lists(st.integers(1, 10_000), min_size=len(matrix), max_size=len(matrix)))
    oracle = np.average(matrix.astype(np.float64), axis=0, weights=np.array(counts, np.float64))
    largest = np.abs(matrix).max(axis=0, initial=0).astype(np.float64)
    assert np.all(np.abs(mean(list(matrix), weights(counts, "examples")) - oracle) <= 1e-6 * largest + 1e-44)


def test_special_values_follow_the_standard() -> None:
    def two(first: float, second: float, share: float = 1.0) -> np.float32:
        return np.float32(mean([np.array([x], np.float32) for x in (first, second)], [np.float32(share)] * 2)[0])

    assert np.signbit(two(-0.0, -0.0))
    assert not np.signbit(two(-0.0, 0.0))
    assert two(1e-45, 1e-45) == np.float32(2.8e-45)  # denormals are not flushed to zero
    assert two(3.4e38, 3.4e38) == INF
    assert two(-3.4e38, -3.4e38) == -INF
    assert np.isnan(two(float("inf"), float("-inf")))


def test_a_product_is_rounded_before_it_is_added() -> None:
    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: a fused multiply-add would keep the last term.
    value = np.float32(1 + 2**-12)
    rows = [np.array([-1 - 2**-11], np.float32), np.array([value], np.float32)]
    assert mean(rows, [np.float32(1), value])[0] == 0


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=16))
def test_weights_are_shares_rounded_once(counts: list[int]) -> None:
    shares = weights(counts, "examples")
    assert all(type(share) is np.float32 for share in shares)
    assert [float(share) for share in shares] == [float(np.float32(count / sum(counts))) for count in counts]
    assert weights(counts, "uniform") == [np.float32(1 / len(counts))] * len(counts)


def test_one_row_of_weight_one_is_itself() -> None:
    row = np.array([1.5, -0.0, 1e-45, 3.4e38], np.float32)
    assert same_bits(mean([row], weights([17], "examples")), row)


def test_mismatched_rows_are_a_mistake() -> None:
    row, one = np.zeros(3, np.float32), np.float32(1)
    out = np.zeros(3, np.float32)
    wrong: list[tuple[list[Array], list[np.float32]]] = [
        ([], []),
        ([row], [one, one]),
        ([row[:2]], [one]),
        ([row.astype(np.float64)], [one]),  # type: ignore[list-item]
        ([row.reshape(1, 3)], [one]),
    ]
    for rows, shares in wrong:
        with pytest.raises(ValueError):
            weighted_mean(rows, shares, out)


@given(matrices(finite))
def test_applying_adds(matrix: Array) -> None:
    base, step = matrix[0], matrix[-1]
    with np.errstate(all="ignore"):
        expected = base + step
    out = step.copy()
    apply(base, out, out)
    assert same_bits(out, expected)


@given(st.integers(0, 3 * BLOCK), st.sampled_from([np.nan, np.inf, -np.inf]))
@example(0, np.nan)
@example(BLOCK - 1, np.inf)
@example(3 * BLOCK, np.nan)
def test_one_value_that_is_not_finite_is_found_anywhere(index: int, value: float) -> None:
    array = np.full(3 * BLOCK + 1, 3.4e38, np.float32)
    assert all_finite(array)
    array[index] = value
    assert not all_finite(array)


def test_nothing_is_finite() -> None:
    assert all_finite(np.empty(0, np.float32))


def test_the_self_check_is_the_same_everywhere() -> None:
    # Recorded on x86-64; a machine that gives another value computes other checkpoints.
    assert self_check() == self_check()
    assert self_check().hex() == "e060b8bbab01f816178883af38327cb85d6eb89f366db3d48127229eb2b437d9"


def test_the_self_check_sees_another_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = self_check()

    def in_double(rows: Sequence[Array], shares: Sequence[np.float32], out: Array) -> None:
        out[:] = sum(row.astype(np.float64) * share for row, share in zip(rows, shares, strict=True))

    def flushing(rows: Sequence[Array], shares: Sequence[np.float32], out: Array) -> None:
        weighted_mean(rows, shares, out)
        out[np.abs(out) < 1.2e-38] = 0

    for other in (in_double, flushing):
        monkeypatch.setattr("primep2p.kernels.average.weighted_mean", other)
        with np.errstate(all="ignore"):
            assert self_check() != honest
    assert len(honest) == len(sha256().digest())
