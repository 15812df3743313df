"""The contract of a backend: every other one against numpy's, which defines the bytes, and that against scalars."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primep2p.kernels.arrays import BLOCK, Array, Matrix, Separate, Span
from primep2p.kernels.backends.compiled import Compiled, Unusable, load
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.geometry import BITS
from primep2p.kernels.pipeline import aggregate
from primep2p.kernels.selfcheck import digest, fixed_vector
from primep2p.model.pipeline import Pipeline
from tests.kernels.rows import blocks, matrices, mlx_on, pipelines

AROUND = [1, 3, 4, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 300, 2047, 2048, 2049, 4097]
"""Columns around the ends of vectors, of what is sorted at a time, and of what is added up at a time."""


@pytest.fixture(scope="module", params=["mlx", "compiled", "compiled straight"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each of the others; the compiled one also with code of its own for each order after the first call."""
    if request.param == "mlx":
        pytest.importorskip("mlx.core", exc_type=ImportError)
        with ThreadPoolExecutor(1) as thread:
            yield mlx_on(lambda function: thread.submit(function).result())
        return
    pytest.importorskip("llvmlite")
    loaded = load(worthwhile=1 if request.param == "compiled straight" else 2**60)
    assert isinstance(loaded, Compiled), loaded
    yield loaded


def bits(values: Array | np.float32) -> bytes:
    return np.ascontiguousarray(values).view(np.uint32).tobytes()


def test_the_self_check_gives_the_digest_of_numpy(backend: Backend) -> None:
    assert digest(backend) == digest(Plain())


@settings(deadline=None)
@given(st.data())
def test_weighted_sums_have_the_same_bytes(backend: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    weights = data.draw(matrices(st.just(1), st.just(len(rows))))[0]
    expected, found = np.empty((2, rows.shape[1]), np.float32)
    Plain().weighted_sum(rows, weights, expected)
    backend.weighted_sum(data.draw(blocks(rows)), weights, found)
    ordinary = ~np.isnan(expected)  # which NaN it is nobody relies on
    np.testing.assert_array_equal(np.isnan(found), ~ordinary)
    assert bits(found[ordinary]) == bits(expected[ordinary])


def test_a_product_is_rounded_before_it_is_added(backend: Backend) -> None:
    """1 + 2**-12 squared is 1 + 2**-11 + 2**-24, of which a fused operation keeps the last bit."""
    factor = np.float32(1 + 2**-12)
    rows = np.array([[-(1 + 2**-11)] * 100_000, [factor] * 100_000], np.float32)
    found = np.empty(rows.shape[1], np.float32)
    backend.weighted_sum(rows, np.array([1, factor], np.float32), found)
    assert not found.any()


@pytest.mark.parametrize("columns", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17])
def test_sums_of_any_number_of_rows_go_on_across_blocks(backend: Backend, columns: int) -> None:
    for count in (1, 2, 3, 4, 5, 7, 8, 9):
        rows = [fixed_vector(row, columns) for row in range(count)]
        weights = fixed_vector(99, count, wide=False) if count > 2 else np.ones(count, np.float32)
        expected, found = np.empty((2, columns), np.float32)
        Plain().weighted_sum(rows, weights, expected)
        backend.weighted_sum(rows, weights, found)
        assert bits(found) == bits(expected)


@settings(deadline=None)
@given(st.data())
def test_ranks_are_the_same_values(backend: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    first = data.draw(st.integers(0, len(rows) - 1))
    wanted = range(first, data.draw(st.integers(first + 1, len(rows))))
    expected, found = np.empty((2, len(wanted), rows.shape[1]), np.float32)
    Plain().ranks(rows, wanted, expected)
    backend.ranks(data.draw(blocks(rows)), wanted, found)
    assert bits(found + np.float32(0)) == bits(expected + np.float32(0))  # the order of two zeros is open


@settings(deadline=None)
@given(st.data())
def test_means_of_ranks_have_the_same_bytes(backend: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    first = data.draw(st.integers(0, len(rows) - 1))
    wanted = range(first, data.draw(st.integers(first + 1, len(rows))))
    expected, found = np.empty((2, rows.shape[1]), np.float32)
    Plain().ranked_mean(rows, wanted, expected)
    backend.ranked_mean(data.draw(blocks(rows)), wanted, found)
    ordinary = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~ordinary)
    assert bits(found[ordinary]) == bits(expected[ordinary])


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 33, 70, 140])
def test_an_order_that_is_asked_for_again_is_the_same(backend: Backend, count: int) -> None:
    """A backend may learn: the first answer and the next ones, around the ends of all that is done at a time."""
    for wanted in (range(count), range((count - 1) // 2, count // 2 + 1), range(count // 10, count - count // 10)):
        for columns in AROUND:
            rows = np.array([fixed_vector(row, columns + 3, wide=bool(columns % 2)) for row in range(count)])[:, 3:]
            ranked, ranked_again, expected = np.empty((3, len(wanted), columns), np.float32)
            mean, mean_again, expected_mean = np.empty((3, columns), np.float32)
            for values, means in ((ranked, mean), (ranked_again, mean_again)):
                backend.ranks(rows, wanted, values)
                backend.ranked_mean(rows, wanted, means)
            Plain().ranks(rows, wanted, expected)
            Plain().ranked_mean(rows, wanted, expected_mean)
            np.testing.assert_array_equal(ranked, expected)
            np.testing.assert_array_equal(ranked_again, expected)
            assert bits(mean) == bits(mean_again) == bits(expected_mean)


def test_an_order_gets_code_of_its_own_once_it_has_been_wanted_of_enough_columns() -> None:
    pytest.importorskip("llvmlite")
    backend = load(worthwhile=1000)
    assert isinstance(backend, Compiled), backend
    rows, out = np.array([fixed_vector(row, 600) for row in range(12)]), np.empty(600, np.float32)
    before = backend.networks
    backend.ranked_mean(rows, range(5, 7), out)
    assert backend.networks == before
    backend.ranked_mean(rows, range(5, 7), out)
    assert backend.networks == before + 1


def test_without_llvmlite_there_is_a_reason_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    reason = load.__wrapped__()
    assert isinstance(reason, Unusable)
    assert "`compiled`" in reason.reason


def test_several_threads_may_ask_at_once(backend: Backend) -> None:
    count, columns, parts = 21, 4000, 16
    rows = np.array([fixed_vector(row, columns * parts, wide=False) for row in range(count)])
    weights, wanted = rows[:, 0].copy(), range(2, 19)
    scales = np.full(count, 2.0**15)

    def work(part: int) -> tuple[bytes, ...]:
        some = rows[:, part * columns : (part + 1) * columns]
        total, mean = np.empty((2, columns), np.float32)
        backend.weighted_sum(some, weights, total)
        backend.ranked_mean(some, wanted, mean)
        integers = np.empty((count, columns))
        backend.rounded(some, scales, integers)
        return bits(total), bits(mean), bits(backend.largest(some)), integers.tobytes()

    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(work, range(parts)))
    assert at_once == [work(part) for part in range(parts)]


def test_an_infinite_value_has_a_rank_too(backend: Backend) -> None:
    """A mean of values at the end of float32 may overflow before it is sorted."""
    rows = np.array([[np.inf, 1.0], [-np.inf, np.inf], [0.0, np.inf]], np.float32)
    found = np.empty((3, 2), np.float32)
    backend.ranks(rows, range(3), found)
    np.testing.assert_array_equal(found, np.sort(rows, axis=0))


@settings(deadline=None)
@given(st.data())
def test_the_largest_sizes_are_the_same(backend: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    assert bits(backend.largest(data.draw(blocks(rows)))) == bits(Plain().largest(rows))


@settings(deadline=None)
@given(st.data())
def test_rounded_values_are_the_nearest_integers(backend: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices(st.integers(1, 20)))
    largest = Plain().largest(rows).astype(np.float64)
    scales = np.ldexp(1.0, np.where(largest > 0, BITS - np.frexp(largest)[1], 0))
    around = np.full((rows.shape[0], rows.shape[1] + 7), -1.0)
    backend.rounded(data.draw(blocks(rows)), scales, around[:, : rows.shape[1]])
    np.testing.assert_array_equal(around[:, : rows.shape[1]], np.rint(rows * scales[:, None]))
    assert (around[:, rows.shape[1] :] == -1).all()


@settings(deadline=None, max_examples=150)
@given(
    pipeline=pipelines(),
    rows=matrices(st.integers(9, 40)),
    counts=st.randoms(use_true_random=False),
    together=st.booleans(),
)
@example(pipeline=Pipeline(), rows=np.full((9, 9), -0.0, np.float32), counts=None, together=True)
def test_every_certified_pipeline_has_the_same_bytes(
    backend: Backend, pipeline: Pipeline, rows: Array, counts: Any, together: bool
) -> None:
    if pipeline.least_updates > len(rows):
        return
    examples = [counts.randint(1, 1000) if counts else 1 for _ in rows]
    given_rows = Matrix(rows) if together else Separate([Span(row) for row in rows])
    expected, found = np.empty((2, rows.shape[1]), np.float32)
    aggregate(pipeline, given_rows, examples, b"seed", out=expected)
    aggregate(pipeline, given_rows, examples, b"seed", out=found, backend=backend)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    ordinary = ~np.isnan(expected)
    assert bits(found[ordinary]) == bits(expected[ordinary])


@settings(deadline=None)
@given(rows=matrices(st.integers(1, 12), st.integers(1, 60)), data=st.data())
def test_numpy_computes_what_scalars_do(rows: Array, data: st.DataObject) -> None:
    backend = Plain()
    count, columns = rows.shape
    weights = data.draw(matrices(st.just(1), st.just(count)))[0]
    first = data.draw(st.integers(0, count - 1))
    wanted = range(first, data.draw(st.integers(first + 1, count)))
    total, mean = np.empty((2, columns), np.float32)
    ranked = np.empty((len(wanted), columns), np.float32)
    backend.weighted_sum(rows, weights, total)
    backend.ranks(rows, wanted, ranked)
    backend.ranked_mean(rows, wanted, mean)
    with np.errstate(all="ignore"):
        for column, values in enumerate(rows.T):
            products = [value * weight for value, weight in zip(values, weights, strict=True)]
            expected = sum_of(products[1:], products[0])
            assert np.isnan(expected) or bits(total[column]) == bits(expected)
            chosen = sorted(values)[wanted.start : wanted.stop]
            np.testing.assert_array_equal(ranked[:, column], chosen)
            assert bits(mean[column]) == bits(sum_of(chosen, np.float32(0)) * np.float32(1 / len(wanted)))
    np.testing.assert_array_equal(backend.largest(rows), [max(abs(value) for value in row) for row in rows])


def sum_of(values: Sequence[np.float32], begin: np.float32) -> np.float32:
    """One after another, each sum a float32."""
    return reduce(np.add, values, begin)
