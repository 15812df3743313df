"""bf16 against its definition: what a pattern of bits means, as a fraction, and the nearest pattern by search."""

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primep2p.kernels.bfloat16 import from_float32, from_float64, from_integers, to_float32

pytestmark = pytest.mark.filterwarnings("error")

INFINITE = 0x7F80


def meaning(bits: int) -> Fraction:
    """Of a finite pattern: 1 sign bit, 8 of the exponent, 7 of the fraction."""
    sign, exponent, fraction = bits >> 15, bits >> 7 & 0xFF, bits & 0x7F
    lead = Fraction(fraction, 128) + (exponent > 0)
    return (-1) ** sign * lead * Fraction(2) ** (max(exponent, 1) - 127)


MAGNITUDES = [meaning(bits) for bits in range(INFINITE)] + [Fraction(2) ** 128]  # at the end, where inf begins


def nearest(value: Fraction, negative: bool) -> int:
    """The pattern of the bf16 that is nearest to `value`, of two the even one."""
    above = min(bisect_left(MAGNITUDES, abs(value)), INFINITE)
    around = [bits for bits in (above - 1, above) if bits >= 0]
    best = min(around, key=lambda bits: (abs(MAGNITUDES[bits] - abs(value)), bits % 2))
    return best | negative << 15


def halves() -> list[float]:
    """Float64 values half way between two bf16, and one step of float64 to each side of them."""
    steps = (1, 2, 63, 64, 127, 128, 255, 16255, 16256, 16257, INFINITE - 2, INFINITE - 1)
    middles = [float((MAGNITUDES[bits] + MAGNITUDES[bits + 1]) / 2) for bits in steps]
    return [side for middle in middles for side in (np.nextafter(middle, 0), middle, np.nextafter(middle, np.inf))]


def test_every_pattern_widens_to_what_it_means() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    wide = to_float32(bits)
    finite = (bits & 0x7FFF) < INFINITE
    assert [Fraction(float(value)) for value in wide[finite]] == [meaning(int(one)) for one in bits[finite]]
    assert wide[INFINITE] == np.inf
    assert wide[INFINITE | 0x8000] == -np.inf
    assert np.isnan(wide[(bits & 0x7FFF) > INFINITE]).all()
    assert np.signbit(wide[0x8000])


def test_every_pattern_comes_back_from_float32_and_float64() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = (bits & 0x7FFF) <= INFINITE
    with np.errstate(invalid="ignore"):  # numpy's own widening meets signalling NaNs
        wide = to_float32(bits).astype(np.float64)
    for back in (from_float32(to_float32(bits)), from_float64(wide)):
        np.testing.assert_array_equal(back[numbers], bits[numbers])
        assert np.isnan(to_float32(back[~numbers])).all()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_goes_to_the_nearest(value: float) -> None:
    (bits,) = from_float32(np.array([value], np.float32))
    assert bits == nearest(Fraction(value), bool(np.signbit(value)))


def test_shape_and_order_change_nothing() -> None:
    bits = np.arange(100_000).astype(np.uint16)
    bits[(bits & 0x7FFF) > INFINITE] = INFINITE
    wide = to_float32(bits)
    np.testing.assert_array_equal(from_float32(wide), bits)
    np.testing.assert_array_equal(from_float32(wide[::3]), bits[::3])
    np.testing.assert_array_equal(from_float32(wide.reshape(100, 1000).T), bits.reshape(100, 1000).T)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("value", halves())
def test_beside_a_half_float64_is_rounded_once(value: float, sign: int) -> None:
    (bits,) = from_float64(np.array([sign * value]))
    assert bits == nearest(Fraction(value), sign < 0)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e-320)
@example(-1e-40)
@example(3.4e38)
def test_float64_goes_to_the_nearest(value: float) -> None:
    (bits,) = from_float64(np.array([value]))
    assert bits == nearest(Fraction(value), bool(np.signbit(value)))


@pytest.mark.parametrize("type_", [np.float32, np.float64])
def test_what_is_not_finite_stays_so(type_: type[np.float32 | np.float64]) -> None:
    narrow = from_float32 if type_ is np.float32 else from_float64
    bits = narrow(np.array([np.inf, -np.inf, np.nan, -np.nan], type_))  # type: ignore[operator]
    assert bits.tolist() == [0x7F80, 0xFF80, 0x7FC0, 0xFFC0]


def test_a_nan_whose_set_bits_are_all_below_the_cut_does_not_become_infinite() -> None:
    low = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(to_float32(from_float32(low))).all()


@given(st.integers(-(2**63), 2**63 - 1))
@example(2**63 - 1)
@example(-(2**63))
@example(257 * 2**54 + 1)  # half way between two bf16 but for the last place, which float64 drops
@example(-257 * 2**54 - 1)
@example(257 * 2**54)
@example(259 * 2**54 - 1)
def test_integers_go_to_the_nearest(value: int) -> None:
    (bits,) = from_integers(np.array([value], np.int64))
    assert bits == nearest(Fraction(value), value < 0)


@given(st.integers(0, 2**64 - 1))
@example(257 * 2**55 + 1)
@example(2**64 - 1)
def test_unsigned_integers_go_to_the_nearest(value: int) -> None:
    (bits,) = from_integers(np.array([value], np.uint64))
    assert bits == nearest(Fraction(value), False)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (0, 4)])
def test_shapes_stay(shape: Sequence[int]) -> None:
    ones = np.ones(shape)
    for bits in (
        from_float32(ones.astype(np.float32)),
        from_float64(ones),
        from_integers(ones.astype(np.int64)),
        from_integers(ones.astype(np.uint8)),
    ):
        assert bits.shape == tuple(shape)
        np.testing.assert_array_equal(to_float32(bits), ones)


def test_whoever_gives_values_keeps_them() -> None:
    singles, doubles = np.array([0.1, np.nan], np.float32), np.array([0.1, 1e300])
    before = singles.tobytes(), doubles.tobytes()
    from_float32(singles)
    from_float64(doubles)
    assert (singles.tobytes(), doubles.tobytes()) == before
