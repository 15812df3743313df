import numpy as np
import pytest

from primep2p.kernels.arrays import Matrix
from primep2p.kernels.average import PRODUCT_COLUMNS, any_order_mean, shares_of
from tests.kernels.samples import threaded


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (7, 3 * PRODUCT_COLUMNS + 5), (1000, 9)])
def test_a_mean_in_any_order_is_near_the_exact_one(count: int, columns: int) -> None:
    draws = np.random.default_rng(count)
    rows = draws.standard_normal((count, columns), np.float32)
    counts = [int(each) for each in draws.integers(1, 100, count)]
    out = np.full(columns, np.nan, np.float32)
    any_order_mean(Matrix(rows), shares_of(counts, "examples"), out, each=threaded)
    exact = np.average(rows.astype(np.float64), axis=0, weights=counts)
    np.testing.assert_allclose(out, exact, rtol=1e-4, atol=1e-5)


def test_a_mean_in_any_order_of_views_takes_their_columns() -> None:
    rows = np.arange(40, dtype=np.float32).reshape(4, 10)
    out = np.empty(3, np.float32)
    any_order_mean(Matrix(rows[:, 2:5]), shares_of([1, 1, 1, 1], "uniform"), out)
    assert out.tolist() == [17, 18, 19]
