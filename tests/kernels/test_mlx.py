"""MLX against the backend that defines the bytes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primep2p.kernels.arrays import Array, Matrix, Separate, Span
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.geometry import BITS
from primep2p.kernels.pipeline import aggregate
from primep2p.kernels.selfcheck import digest
from primep2p.model.pipeline import Pipeline
from tests.kernels.rows import blocks, matrices, pipelines

pytest.importorskip("mlx.core", exc_type=ImportError)


@pytest.fixture(scope="module")
def mlx() -> Iterator[Backend]:
    with ThreadPoolExecutor(1) as thread:
        yield made(lambda function: thread.submit(function).result())


def made(run: Callable[[Callable[[], Any]], Any]) -> Backend:
    def load() -> Backend:
        from primep2p.kernels.backends.mlx import Mlx

        return Mlx(run)

    backend: Backend = run(load)
    return backend


def bits(values: Array) -> bytes:
    return np.ascontiguousarray(values).view(np.uint32).tobytes()


def test_the_self_check_gives_the_digest_of_numpy(mlx: Backend) -> None:
    assert digest(mlx) == digest(Plain())


@settings(deadline=None)
@given(st.data())
def test_weighted_sums_have_the_same_bytes(mlx: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    weights = data.draw(matrices(st.just(1), st.just(len(rows))))[0]
    expected, found = np.empty((2, rows.shape[1]), np.float32)
    Plain().weighted_sum(rows, weights, expected)
    mlx.weighted_sum(data.draw(blocks(rows)), weights, found)
    ordinary = ~np.isnan(expected)  # which NaN it is nobody relies on
    np.testing.assert_array_equal(np.isnan(found), ~ordinary)
    assert bits(found[ordinary]) == bits(expected[ordinary])


def test_a_product_is_rounded_before_it_is_added(mlx: Backend) -> None:
    """1 + 2**-12 squared is 1 + 2**-11 + 2**-24, of which a fused operation keeps the last bit."""
    factor = np.float32(1 + 2**-12)
    rows = np.array([[-(1 + 2**-11)] * 100_000, [factor] * 100_000], np.float32)
    found = np.empty(rows.shape[1], np.float32)
    mlx.weighted_sum(rows, np.array([1, factor], np.float32), found)
    assert not found.any()


@settings(deadline=None)
@given(st.data())
def test_ranks_are_the_same_values(mlx: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    first = data.draw(st.integers(0, len(rows) - 1))
    wanted = range(first, data.draw(st.integers(first + 1, len(rows))))
    expected, found = np.empty((2, len(wanted), rows.shape[1]), np.float32)
    Plain().ranks(rows, wanted, expected)
    mlx.ranks(data.draw(blocks(rows)), wanted, found)
    assert bits(found + np.float32(0)) == bits(expected + np.float32(0))  # the order of two zeros is open


def test_an_infinite_value_has_a_rank_too(mlx: Backend) -> None:
    """A mean of values at the end of float32 may overflow before it is sorted."""
    rows = np.array([[np.inf, 1.0], [-np.inf, np.inf], [0.0, np.inf]], np.float32)
    found = np.empty((3, 2), np.float32)
    mlx.ranks(rows, range(3), found)
    np.testing.assert_array_equal(found, np.sort(rows, axis=0))


@settings(deadline=None)
@given(st.data())
def test_the_largest_sizes_are_the_same(mlx: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices())
    assert bits(mlx.largest(data.draw(blocks(rows)))) == bits(Plain().largest(rows))


@settings(deadline=None)
@given(st.data())
def test_inner_products_are_exact(mlx: Backend, data: st.DataObject) -> None:
    rows = data.draw(matrices(st.integers(1, 20)))
    largest = Plain().largest(rows).astype(np.float64)
    scales = np.ldexp(1.0, np.where(largest > 0, BITS - np.frexp(largest)[1], 0))
    whole = np.rint(rows * scales[:, None]).astype(np.int64)
    np.testing.assert_array_equal(mlx.gram(data.draw(blocks(rows)), scales), whole @ whole.T)


@settings(deadline=None, max_examples=150)
@given(
    pipeline=pipelines(),
    rows=matrices(st.integers(9, 40)),
    counts=st.randoms(use_true_random=False),
    together=st.booleans(),
)
@example(pipeline=Pipeline(), rows=np.full((9, 9), -0.0, np.float32), counts=None, together=True)
def test_every_certified_pipeline_has_the_same_bytes(
    mlx: Backend, pipeline: Pipeline, rows: Array, counts: Any, together: bool
) -> None:
    if pipeline.least_updates > len(rows):
        return
    examples = [counts.randint(1, 1000) if counts else 1 for _ in rows]
    given_rows = Matrix(rows) if together else Separate([Span(row) for row in rows])
    expected, found = np.empty((2, rows.shape[1]), np.float32)
    aggregate(pipeline, given_rows, examples, b"seed", out=expected)
    aggregate(pipeline, given_rows, examples, b"seed", out=found, backend=mlx)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    ordinary = ~np.isnan(expected)
    assert bits(found[ordinary]) == bits(expected[ordinary])


def test_callers_in_any_thread_share_the_one_that_touches_mlx() -> None:
    used = set()

    with ThreadPoolExecutor(1) as owner, ThreadPoolExecutor(4) as callers:

        def run(function: Callable[[], Any]) -> Any:
            def noted() -> Any:
                used.add(threading.get_ident())
                return function()

            return owner.submit(noted).result()

        backend = made(run)
        assert len(set(callers.map(lambda _: digest(backend), range(4)))) == 1
        assert used == {owner.submit(threading.get_ident).result()}
