import numpy as np
import pytest

from primep2p.kernels.backends.plain import Plain


@pytest.mark.parametrize("columns", [1, 7, 8, 40, 2047, 2048])
def test_the_sign_of_a_zero_does_not_depend_on_how_wide_the_rows_are(columns):
    rows = np.full((3, columns), -0.0, np.float32)
    out = np.empty(columns, np.float32)
    Plain().weighted_sum(rows, np.ones(3, np.float32), out)
    assert np.signbit(out).all()
