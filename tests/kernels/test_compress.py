"""What travels is held to definitions that are slow and plain: one value at a time, or float64."""

import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primep2p.kernels.arrays import BLOCK, Array, Span
from primep2p.kernels.compress import (
    INT8_BLOCK,
    LARGEST_SCALE,
    Bfloat16Row,
    Int8Row,
    TopKRow,
    are_ascending,
    are_finite_halves,
    are_scales,
    kept,
    largest,
    scales_for,
    to_bfloat16,
    to_int8,
)
from tests.kernels.samples import threaded

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MAX = np.finfo(np.float32).max


def rows(least: int = 0, most: int = 40) -> st.SearchStrategy[Array]:
    few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -3e-45, 1e-38, 1e-30, float(MAX), -float(MAX), 0.3])
    drawn = st.lists(FINITE | few, min_size=least, max_size=most)
    return drawn.map(lambda values: np.array(values, np.float32))


def every_exponent(columns: int, seed: int = 0) -> Array:
    """Finite values of any sign, exponent and fraction."""
    bits = np.random.default_rng(seed).integers(0, 2**32, columns, dtype=np.uint32)
    infinite = (bits & 0x7F800000) == 0x7F800000
    return np.where(infinite, bits & 0x80FFFFFF, bits).astype(np.uint32).view(np.float32)


def halves_of(values: Array) -> Any:
    out = np.empty(len(values), np.uint16)
    to_bfloat16(values, out)
    return out


def small_of(values: Array) -> tuple[Any, Any]:
    out, scales = np.empty(len(values), np.int8), np.empty(scales_for(len(values)), np.float32)
    to_int8(values, out, scales)
    return out, scales


# ---- bf16


def nearest_half(value: float) -> int:
    """By exact fractions: the nearest finite bfloat16, of two as near the even one."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    below = bits >> 16
    above = below + 1
    if below & 0x7FFF == 0x7F7F:
        return below
    exact, low, high = (Fraction(number) for number in (value, as_float(below), as_float(above)))
    if abs(exact - low) == abs(exact - high):
        return below if below % 2 == 0 else above
    return below if abs(exact - low) < abs(exact - high) else above


def as_float(half: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", half << 16))[0])


@given(rows())
@example(np.array([1.00390625, 1.01171875, -1.00390625, -1.01171875], np.float32))  # ties, to even and to odd
@example(np.array([1.0039062, 1.0039064], np.float32))
@example(np.array([3.3895314e38, 3.3961775e38, float(MAX), -float(MAX)], np.float32))
@example(np.array([5.9e-41, 4.6e-41, -4.6e-41, 1e-45], np.float32))
def test_a_half_is_the_nearest_one(values: Array) -> None:
    assert halves_of(values).tolist() == [nearest_half(float(value)) for value in values]


def test_halves_do_not_depend_on_blocks_or_threads() -> None:
    values = every_exponent(9 * BLOCK + 13)
    out = np.empty(len(values), np.uint16)
    to_bfloat16(values, out, each=threaded)
    assert np.array_equal(out, halves_of(values))
    assert are_finite_halves(out)
    assert np.array_equal(out[BLOCK - 5 : BLOCK + 7], halves_of(values[BLOCK - 5 : BLOCK + 7]))


def test_what_is_a_half_already_comes_back() -> None:
    halves = np.arange(2**16).astype(np.uint16)
    halves = halves[(halves & 0x7F80) != 0x7F80]
    assert np.array_equal(halves_of(Bfloat16Row(halves).read(0, len(halves))), halves)
    assert are_finite_halves(halves)


@pytest.mark.parametrize("half", [0x7F80, 0xFF80, 0x7F81, 0xFFFF])
def test_a_half_that_is_no_number_is_found(half: int) -> None:
    halves = np.zeros(2 * BLOCK + 3, np.uint16)
    halves[-1] = half
    halves[0] = 0xFF7F
    assert not are_finite_halves(halves)
    assert are_finite_halves(halves[:-1])


def test_nothing_is_made_of_what_is_no_number() -> None:
    for value in (np.nan, -np.nan):
        with pytest.raises(ValueError, match="not a number"):
            halves_of(np.array([1, value], np.float32))
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not finite"):
            small_of(np.array([1, value], np.float32))


# ---- int8


@given(rows(1))
@example(np.array([1e-45, -1e-45], np.float32))
@example(np.array([190 * 1e-45, 2e-45], np.float32))
@example(np.array([MAX, -MAX, 1], np.float32))
@example(np.array([1e-30, 9.9e-31], np.float32))
@example(np.array([0.0, -0.0], np.float32))
def test_small_integers_are_as_near_as_their_scale_allows(values: Array) -> None:
    small, scales = small_of(values)
    size = float(np.abs(values).max())
    decoded = Int8Row(small, scales).read(0, len(values)).astype(np.float64)
    assert np.isfinite(decoded).all()
    assert are_scales(scales)
    assert small.min() >= -127
    assert float(scales[0]) <= size / 127 * (1 + 1e-6) + 1.5e-45
    # Half a step, and what rounding the quotient and the product to float32 adds.
    assert (np.abs(decoded - values) <= float(scales[0]) * 0.50002 + np.abs(decoded) * 1e-6).all()
    if size == 0:
        assert scales[0] == 0


def test_a_block_has_a_scale_of_its_own() -> None:
    values = np.concatenate([np.full(INT8_BLOCK, 1e-6), np.full(INT8_BLOCK, 100.0), [1.0]]).astype(np.float32)
    small, scales = small_of(values)
    assert len(scales) == 3
    np.testing.assert_allclose(Int8Row(small, scales).read(0, len(values)), values, rtol=1e-6)


def test_small_integers_do_not_depend_on_threads() -> None:
    values = every_exponent(9 * BLOCK + INT8_BLOCK + 13)
    out, scales = np.empty(len(values), np.int8), np.empty(scales_for(len(values)), np.float32)
    to_int8(values, out, scales, each=threaded)
    assert np.array_equal(out, small_of(values)[0])
    assert np.array_equal(scales, small_of(values)[1])
    ragged = 3 * INT8_BLOCK
    assert np.array_equal(out[ragged:], small_of(values[ragged:])[0])


def test_decoding_is_one_multiplication_rounded_once() -> None:
    for scale in np.minimum(np.abs(every_exponent(64, 3)), LARGEST_SCALE):
        decoded = Int8Row(np.arange(-127, 128, dtype=np.int8), np.array([scale])).read(0, 255)
        exact = [np.float32(number * float(scale)) for number in range(-127, 128)]  # exact in float64
        assert np.array_equal(decoded, exact)


def test_no_scale_that_is_allowed_leads_out_of_range() -> None:
    assert np.isfinite(np.float32(127) * LARGEST_SCALE)
    above = np.nextafter(LARGEST_SCALE, np.float32(np.inf))
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.float32(127) * above)
    for bad in (np.nan, np.inf, -1.0, -0.0, above):
        assert not are_scales(np.array([1, bad, 2], np.float32))
    assert are_scales(np.array([0, 1e-45, LARGEST_SCALE], np.float32))
    assert are_scales(np.empty(0, np.float32))


# ---- topk


def largest_by_sorting(values: Array, count: int) -> list[int]:
    order = np.lexsort((np.arange(len(values)), -np.abs(values)))
    found: list[int] = np.sort(order[:count]).tolist()
    return found


def check_largest(values: Array, count: int, **options: Any) -> None:
    indices, found = largest(Span(values), count, **options)
    assert indices.dtype == np.uint32
    assert indices.tolist() == largest_by_sorting(values, count)
    assert found.tobytes() == values[indices].tobytes()
    assert are_ascending(indices)


@given(rows(), st.data())
def test_the_largest_are_those_that_sorting_finds(values: Array, data: st.DataObject) -> None:
    check_largest(values, data.draw(st.integers(0, len(values))))


COLUMNS = 2**19 + 77


def shapes() -> dict[str, Array]:
    normal = np.random.default_rng(1).standard_normal(COLUMNS).astype(np.float32)
    ascending = np.sort(np.abs(normal))
    half = COLUMNS // 2
    return {
        "normal": normal,
        "of every exponent": every_exponent(COLUMNS),
        "equal": np.full(COLUMNS, -2, np.float32),
        "zero": np.zeros(COLUMNS, np.float32),
        "zeros of both signs": np.where(normal > 0, np.float32(0), np.float32(-0.0)),
        "in steps": np.rint(normal * 2),
        "ascending": ascending,
        "descending": ascending[::-1].copy(),
        "few": np.where(normal > 4, normal, np.float32(0)),
        "one": np.where(np.arange(COLUMNS) == half, np.float32(1), np.float32(0)),
        "large at the end": np.concatenate([normal[:half] * np.float32(1e-6), normal[half:]]),
        "large where a sample looks": against_the_sample(normal, 1e6),
        "small where a sample looks": against_the_sample(normal, 1e-6),
    }


class Watched(Span):
    """Knows what was read of it."""

    def __init__(self, values: Array) -> None:
        super().__init__(values)
        self.seen: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> Array:
        self.seen.append((start, end))
        return super().read(start, end)


def against_the_sample(values: Array, factor: float) -> Array:
    """Made by somebody who knows where the sample is taken."""
    row = Watched(values)
    largest(row, 1)
    runs = [(start, end) for start, end in row.seen if end - start == 128]
    assert sum(end - start for start, end in runs) == 2**16
    made = values.copy()
    for start, end in runs:
        made[start:end] *= np.float32(factor)
    return made


SHAPES = shapes()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("count", [1, 10, COLUMNS // 100, COLUMNS // 3, COLUMNS])
def test_the_largest_of_many_are_those_that_sorting_finds(name: str, count: int) -> None:
    check_largest(SHAPES[name], count)


def test_the_largest_do_not_depend_on_threads() -> None:
    for name in ("normal", "in steps", "ascending"):
        check_largest(SHAPES[name], COLUMNS // 50, each=threaded)


def test_how_many_are_kept_is_exact() -> None:
    assert kept("0.01", 10_000_000) == 100_000
    assert kept("0.29", 100) == 29  # 0.29 * 100 is 28.999999999999996
    assert kept("0.01", 5) == 1
    assert kept("0.000000", 5) == 1
    assert kept("0.5", 0) == 0
    assert kept("0.999999", 2**40) == 2**40 * 999_999 // 10**6


def test_more_than_indices_can_tell_apart_is_refused() -> None:
    class Endless(Span):
        def __len__(self) -> int:
            return 2**32 + 1

    with pytest.raises(ValueError, match="of at most"):
        largest(Endless(np.zeros(1, np.float32)), 1)


def test_what_does_not_ascend_is_found_across_blocks() -> None:
    indices = np.arange(2 * BLOCK + 5, dtype=np.uint32)
    assert are_ascending(indices)
    assert are_ascending(indices[:1])
    assert are_ascending(indices[:0])
    for place in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, len(indices) - 1):
        wrong = indices.copy()
        wrong[place] = wrong[place - 1]
        assert not are_ascending(wrong), place


# ---- rows


@settings(max_examples=60)
@given(st.integers(0, 3 * INT8_BLOCK), st.data())
def test_a_range_of_a_row_is_that_range_of_all_of_it(columns: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, columns))
    end = data.draw(st.integers(start, columns))
    values = every_exponent(columns, columns)
    made = [Bfloat16Row(halves_of(values)), Int8Row(*small_of(values))]
    indices, found = largest(Span(values), kept("0.1", columns))
    for row in (*made, TopKRow(columns, indices, found)):
        assert len(row) == columns
        part = row.read(start, end)
        assert part.dtype == np.float32
        assert part.tobytes() == row.read(0, columns)[start:end].tobytes()


def test_what_was_not_kept_is_zero() -> None:
    row = TopKRow(6, np.array([1, 4], np.uint32), np.array([-3, 5], np.float32))
    assert row.read(0, 6).tolist() == [0, -3, 0, 0, 5, 0]
    assert row.read(2, 5).tolist() == [0, 0, 5]
    assert row.read(5, 6).tolist() == [0]


def test_the_last_column_that_an_index_names_is_read() -> None:
    row = TopKRow(2**32, np.array([0, 2**32 - 1], np.uint32), np.array([1, 2], np.float32))
    assert row.read(2**32 - 2, 2**32).tolist() == [0, 2]
    assert row.read(2**32, 2**32).tolist() == []


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="scales"):
        Int8Row(np.zeros(INT8_BLOCK + 1, np.int8), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="indices"):
        TopKRow(5, np.zeros(2, np.uint32), np.zeros(1, np.float32))
