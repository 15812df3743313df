"""Every pipeline computes the bytes that docs/protocol.md defines, however its rows are kept, cut and handed out.

This is numpy's backend, which test_backends.py holds the others to.
"""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from primep2p.kernels.arrays import RANGE, Array, Block, Matrix, Separate, Span, all_finite
from primep2p.kernels.average import Fold, shares_of
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.geometry import Integers, exact_products, exact_squares, gram, squares
from primep2p.kernels.outer import first_state, state_names, step
from primep2p.kernels.pipeline import combine
from primep2p.model.pipeline import (
    Adagrad,
    Adam,
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
    Sgd,
    TrimmedMean,
    Yogi,
)
from tests.kernels import scalars
from tests.kernels.samples import (
    RULES,
    STAGES,
    UNIFORM,
    few,
    finite,
    forms,
    like_deltas,
    matrices,
    pipelines,
    result_of,
    same_bits,
    threaded,
    wild,
)

values = st.one_of(finite, few, st.floats(-8, 8, width=32))


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Pipeline, Array, list[int], list[int]]:
    """A pipeline, rows, counts, and where to cut the columns."""
    rows = draw(matrices(draw(st.sampled_from([values, finite, few]))))
    counts = draw(st.lists(st.integers(1, 2**40), min_size=len(rows), max_size=len(rows)))
    return draw(pipelines(len(rows))), rows, counts, draw(st.lists(st.integers(0, rows.shape[1]), max_size=3))


@settings(max_examples=120)
@given(case=rounds())
def test_a_round_computes_what_the_protocol_says(case: tuple[Pipeline, Array, list[int], list[int]]) -> None:
    pipeline, matrix, counts, cuts = case
    expected = scalars.aggregated(pipeline, matrix, counts, b"seed")
    bounds = sorted({0, *cuts, matrix.shape[1]})
    for rows in forms(matrix):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # overflow is no news
            combination = combine(pipeline, rows, counts, b"seed")
            found = np.full(matrix.shape[1], np.nan, np.float32)
            for low, high in itertools.pairwise(bounds):
                combination.columns(rows, low, high, found[low:high])
        assert same_bits(found, expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("count", [11, 33])  # 33: more than a network sorts
def test_each_rule_computes_what_the_protocol_says(rule: object, count: int) -> None:
    rows, counts = like_deltas(count, 97), [1 + 31 * k % 17 for k in range(count)]
    expected = scalars.aggregated(Pipeline(rule), rows, counts)
    assert same_bits(result_of(Pipeline(rule), rows, counts), expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_exponent_at_once_is_computed_as_the_protocol_says(rule: object) -> None:
    rows = wild(11, 97)
    assert same_bits(result_of(Pipeline(rule), rows), scalars.aggregated(Pipeline(rule), rows, [1] * 11))


@pytest.mark.parametrize("stages", [(stage,) for stage in STAGES] + [STAGES[:3]], ids=str)
@pytest.mark.parametrize("rule", [UNIFORM, Median(), GeometricMedian()], ids=str)
def test_each_stage_computes_what_the_protocol_says(stages: tuple, rule: object) -> None:
    rows, counts = like_deltas(12, 41), [1 + 31 * k % 17 for k in range(12)]
    pipeline = Pipeline(rule, stages)
    expected = scalars.aggregated(pipeline, rows, counts, b"seed")
    assert same_bits(result_of(pipeline, rows, counts), expected)


@pytest.mark.parametrize("pipeline", [*map(Pipeline, RULES), Pipeline(Median(), (NearestNeighbours(2),))], ids=str)
def test_threads_ranges_and_where_rows_lie_change_no_bit(pipeline: Pipeline) -> None:
    small = like_deltas(12, 3001)
    rows = np.tile(small, 2 * RANGE // 3001 + 1)  # three ranges, the last of them ragged
    assert rows.shape[1] > 2 * RANGE
    alone = result_of(pipeline, rows)
    apart = Separate([Span(row) for row in rows])
    assert same_bits(result_of(pipeline, apart, each=threaded), alone)


# ---- sums


@settings(max_examples=50)
@given(matrix=matrices(st.one_of(finite, few), columns=40), draw=st.data())
def test_a_weighted_sum_takes_one_row_after_another(matrix: Array, draw: st.DataObject) -> None:
    weights = draw.draw(arrays(np.float32, len(matrix), elements=st.floats(0, 1, width=32)))
    with np.errstate(all="ignore"):
        expected = scalars.weighted_sum(matrix, list(weights))
    for rows in (matrix, list(matrix)):
        out = np.full(matrix.shape[1], np.nan, np.float32)
        Plain().weighted_sum(rows, weights, out)
        assert same_bits(out, expected)


@pytest.mark.parametrize("shape", [(3, 32769), (700, 9), (700, 2047), (70, 2048), (1, 8), (9, 7), (40_000, 8)], ids=str)
def test_a_weighted_sum_of_any_shape_is_the_same(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    weights = np.random.default_rng(4).random(shape[0]).astype(np.float32)
    expected = rows[0] * weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        expected = expected + row * weight
    for block in (rows, list(rows), np.concatenate([rows, rows], axis=1)[:, : shape[1]]):
        out = np.empty(shape[1], np.float32)
        Plain().weighted_sum(block, weights, out)
        assert same_bits(out, expected)


def test_a_product_is_rounded_before_it_is_added() -> None:
    # (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: a fused multiply-add would keep the last term.
    value = np.float32(1 + 2**-12)
    for columns in (1, 40, 5000):
        rows = np.array([np.full(columns, -1 - 2**-11), np.full(columns, value)], np.float32)
        out = np.empty(columns, np.float32)
        Plain().weighted_sum(rows, np.array([1, value], np.float32), out)
        assert not out.any()


def test_the_order_of_rows_matters_to_a_mean_alone() -> None:
    rows = np.array([[1e8], [1.0], [-1e8]], np.float32)
    assert result_of(Pipeline(UNIFORM), rows) != result_of(Pipeline(UNIFORM), rows[[0, 2, 1]])


@pytest.mark.parametrize("count", [3, 8, 40])
@pytest.mark.parametrize("rule", [Median(), TrimmedMean("0.3")], ids=str)
def test_the_order_of_rows_does_not_matter_by_coordinate(rule: object, count: int) -> None:
    rows = np.concatenate([wild(count, 500), np.random.default_rng(5).choice([-0.0, 0.0, 1, -1], (count, 500))], axis=1)
    rows = rows.astype(np.float32)
    shuffled = rows[np.random.default_rng(6).permutation(count)]
    assert same_bits(result_of(Pipeline(rule), rows), result_of(Pipeline(rule), shuffled))


@pytest.mark.parametrize("rule", [Krum(2), Bulyan(3)], ids=str)
def test_the_order_of_rows_does_not_matter_to_a_choice_without_ties(rule: object) -> None:
    # With f < 3 the last that Bulyan chooses has the score of its nearest neighbour, which has the same: a tie.
    rows = like_deltas(15, 200)
    shuffled = rows[np.random.default_rng(6).permutation(15)]
    assert same_bits(result_of(Pipeline(rule), rows), result_of(Pipeline(rule), shuffled))


@pytest.mark.parametrize("rule", [MultiKrum(2), GeometricMedian(), CenteredClip()], ids=str)
def test_the_order_of_rows_moves_a_weighted_sum_by_roundings_alone(rule: object) -> None:
    rows = like_deltas(11, 200)
    shuffled = rows[np.random.default_rng(6).permutation(11)]
    one, other = result_of(Pipeline(rule), rows), result_of(Pipeline(rule), shuffled)
    assert np.abs(one - other).max() <= 4e-7 * np.abs(rows).max()


# ---- special values


@pytest.mark.parametrize("count", [3, 7, 8, 40])
def test_a_median_or_trimmed_mean_of_zeros_is_positive(count: int) -> None:
    for signs in itertools.islice(itertools.product([-0.0, 0.0], repeat=count), 200):
        rows = np.array([[sign] for sign in signs], np.float32)
        assert not np.signbit(result_of(Pipeline(Median()), rows)).any()
        assert not np.signbit(result_of(Pipeline(TrimmedMean("0.3")), rows)).any()


def test_special_values_follow_the_standard() -> None:
    def two(first: float, second: float) -> np.float32:
        out = np.empty(1, np.float32)
        Plain().weighted_sum(np.array([[first], [second]], np.float32), np.ones(2, np.float32), out)
        return np.float32(out[0])

    assert np.signbit(two(-0.0, -0.0))
    assert not np.signbit(two(-0.0, 0.0))
    assert two(1e-45, 1e-45) == np.float32(2.8e-45)  # denormals are not flushed to zero
    assert two(3.4e38, 3.4e38) == np.inf
    assert two(-3.4e38, -3.4e38) == -np.inf


@pytest.mark.parametrize("rule", [rule for rule in RULES if not isinstance(rule, Bulyan)], ids=str)
def test_one_row_or_as_few_as_a_rule_takes_and_one_column_are_enough(rule: object) -> None:
    count = Pipeline(rule).least_updates
    rows = np.full((count, 1), 1.5, np.float32)
    assert result_of(Pipeline(rule), rows)[0] == (1.0 if isinstance(rule, CenteredClip) and rule.tau < 1 else 1.5)
    with pytest.raises(ValueError, match="are needed"):
        result_of(Pipeline(rule), rows[:-1] if count > 1 else rows, [1] * (count - 1) or [1, 1])


def test_a_mean_of_two_middle_values_that_rounds_to_zero_is_positive() -> None:
    for pair in ([-1e-45, 0.0], [0.0, -1e-45]):
        rows = np.array([-1.0, *pair, 1.0], np.float32).reshape(4, 1)
        assert result_of(Pipeline(Median()), rows).view(np.uint32) == [0]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rows_of_zeros_are_a_result_of_zeros(rule: object) -> None:
    found = result_of(Pipeline(rule, (Clip(1.0),)), np.zeros((11, 5), np.float32))
    assert not found.any()


@pytest.mark.parametrize("rule", [FedAvg(), UNIFORM, CenteredClip()], ids=str)
def test_one_row_is_its_own_result(rule: object) -> None:
    row = np.array([[1.5, -0.0, 1e-45, 2.5]], np.float32)
    found = result_of(Pipeline(rule), row, [17])
    assert np.array_equal(found, row[0])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_overflow_is_neither_a_warning_nor_an_error(rule: object) -> None:
    rows = np.full((11, 3), np.finfo(np.float32).max, np.float32)
    rows[5:, 1] *= -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result_of(Pipeline(rule), rows)
        result_of(Pipeline(rule, (NearestNeighbours(2), Bucketing(2))), np.tile(rows, (3, 1)))


def test_a_mean_of_two_middle_values_that_overflows_is_not_finite() -> None:
    found = result_of(Pipeline(Median()), np.full((4, 1), 3e38, np.float32))
    assert not all_finite(found)


# ---- weights


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=16))
def test_shares_are_quotients_rounded_once(counts: list[int]) -> None:
    assert list(shares_of(counts, "examples")) == [count / sum(counts) for count in counts]
    assert list(shares_of(counts, "uniform")) == [1 / len(counts)] * len(counts)


@given(matrices(st.one_of(finite, few)), st.data())
def test_rows_that_arrive_one_after_another_are_the_same_mean(matrix: Array, draw: st.DataObject) -> None:
    counts = draw.draw(st.lists(st.integers(1, 2**40), min_size=len(matrix), max_size=len(matrix)))
    fold = Fold(matrix.shape[1], shares_of(counts, "examples"))
    for row in matrix:
        fold.add(row)
    assert not fold.missing
    assert same_bits(fold.result, result_of(Pipeline(), matrix, counts))


def test_a_row_that_is_no_part_of_a_mean_is_refused() -> None:
    fold = Fold(3, shares_of([1], "uniform"))
    for wrong in (np.zeros(2, np.float32), np.zeros(3, np.float64), np.zeros((1, 3), np.float32)):
        with pytest.raises(ValueError, match="to come"):
            fold.add(wrong)
    fold.add(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="to come"):
        fold.add(np.zeros(3, np.float32))


def test_rows_of_another_kind_are_refused() -> None:
    row = np.zeros(4, np.float32)
    for wrong in (row.astype(np.float64), row.reshape(2, 2), row[::2]):
        with pytest.raises(ValueError, match="expected"):
            Span(wrong)
    for wrong in (row, np.zeros((2, 2)), np.zeros((4, 4), np.float32).T[:, ::2]):
        with pytest.raises(ValueError, match="expected"):
            Matrix(wrong)
    for rows in ([], [Span(row), Span(row[:2])]):
        with pytest.raises(ValueError, match="expected"):
            Separate(rows)


# ---- optimisers

OPTIMISERS: tuple[Outer | None, ...] = (
    None,
    Sgd(),
    Sgd(0.7, 0.9),
    Sgd(0.7, 0.9, True),
    Sgd(0.7, 0.0, True),
    Adagrad(),
    Adagrad(0.1, 0.9),
    Adam(),
    Yogi(),
)


@pytest.mark.parametrize("outer", OPTIMISERS, ids=str)
@settings(max_examples=30)
@given(matrix=arrays(np.float32, (4, 9), elements=st.one_of(st.floats(-8, 8, width=32), finite, few)))
def test_optimisers_compute_what_the_protocol_says(outer: Outer | None, matrix: Array) -> None:
    base, *towards = matrix
    state = [np.full(9, value, np.float32) for value in first_state(outer)]
    expected, memory = base, state
    for row in towards:
        expected, memory = scalars.stepped(outer, expected, row, memory)
        after, found = [np.empty(9, np.float32) for _ in state], row.copy()
        step(outer, base, found, state, found, after)  # the result becomes the params
        base, state = found, after
        assert same_bits(base, expected)
        assert all(same_bits(one, other) for one, other in zip(state, memory, strict=True))


@pytest.mark.parametrize("outer", OPTIMISERS, ids=str)
def test_optimisers_may_write_over_what_they_read(outer: Outer | None) -> None:
    base, result = like_deltas(2, 70_001)
    state = [np.full(70_001, value, np.float32) for value in first_state(outer)]
    assert len(state) == len(state_names(outer))
    apart, after = np.empty_like(base), [np.empty_like(one) for one in state]
    step(outer, base.copy(), result.copy(), state, apart, after)
    for over in (base.copy(), result.copy()):
        inputs = (over, result) if np.array_equal(over, base) else (base, over)
        own = [one.copy() for one in state]
        step(outer, *inputs, own, over, own)
        assert same_bits(over, apart)
        assert all(same_bits(one, other) for one, other in zip(own, after, strict=True))


@given(st.integers(0, 3 * 32768), st.sampled_from([np.nan, np.inf, -np.inf]))
@example(0, np.nan)
@example(32767, np.inf)
@example(3 * 32768, np.nan)
@settings(max_examples=20)
def test_one_value_that_is_not_finite_is_found_anywhere(index: int, value: float) -> None:
    array = np.full(3 * 32768 + 1, 3.4e38, np.float32)
    assert all_finite(array)
    array[index] = value
    assert not all_finite(array)
    assert all_finite(np.empty(0, np.float32))


# ---- [A3]


@settings(max_examples=50)
@given(matrix=matrices(st.one_of(finite, few), most=6, columns=60))
def test_inner_products_are_the_exact_ones_of_rounded_rows(matrix: Array) -> None:
    assert gram(Matrix(matrix), Plain()).tolist() == scalars.products(matrix)


def products(rows: Block, scales: Doubles) -> Integers:
    """Of all columns at once; those of rows with themselves are looked at from both sides."""
    whole = np.empty((len(rows), len(rows[0])))
    Plain().rounded(rows, scales, whole)
    found = exact_products(whole)
    assert np.array_equal(exact_squares(whole), np.diag(found))
    return found


@settings(max_examples=30)
@given(matrix=matrices(st.one_of(finite, few), most=6, columns=60))
def test_lengths_alone_are_those_among_all_products(matrix: Array) -> None:
    assert np.array_equal(squares(Matrix(matrix), Plain()), np.diag(gram(Matrix(matrix), Plain())))


@pytest.mark.parametrize("shape", [(100, 3000), (2, 50_000), (3, 8193), (1, 1), (400, 513)], ids=str)
def test_integer_products_are_those_of_python(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)
    rows[:, 0] = 1 - 2**-24  # the largest integer, 2**20
    scales = np.full(shape[0], 2.0**20)
    found = products(rows, scales)
    whole = np.rint(rows.astype(np.float64) * 2**20).astype(np.int64)
    assert np.abs(whole).max() == 2**20
    assert np.array_equal(found, np.einsum("id,jd->ij", whole, whole))  # integers: numpy's own loop
    assert found[0, -1] == sum(a * b for a, b in zip(whole[0].tolist(), whole[-1].tolist(), strict=True))


def test_the_largest_sums_stay_exact() -> None:
    # All products are 2**40, and odd ones beside them: the sum's last bit is lost where it passes 2**53.
    rows = np.full((2, 2**18), 1 - 2**-24, np.float32)
    rows[:, -1] = 2.0**-20
    found = products(rows, np.full(2, 2.0**20))
    assert found.tolist() == [[(2**18 - 1) * 2**40 + 1] * 2] * 2


@pytest.mark.parametrize("cut", [1, 63, 4096, 5000])
def test_integer_products_of_pieces_add_up(cut: int) -> None:
    rows = wild(9, 9001)
    scales = 2.0 ** np.arange(-110, -101)
    rows /= np.float32(2) ** 4
    whole = products(rows, scales)
    assert np.array_equal(whole, products(rows[:, :cut], scales) + products(list(rows[:, cut:]), scales))


@settings(max_examples=50)
@given(matrix=matrices(st.one_of(finite, few), columns=9))
def test_the_largest_value_is_exact(matrix: Array) -> None:
    for rows in (matrix, list(matrix)):
        assert same_bits(np.asarray(Plain().largest(rows), np.float32), np.abs(matrix).max(axis=1))


@settings(max_examples=50)
@given(matrix=matrices(st.one_of(finite, few), most=40, columns=5), draw=st.data())
def test_ranks_are_those_of_sorted_values(matrix: Array, draw: st.DataObject) -> None:
    first = draw.draw(st.integers(0, len(matrix) - 1))
    wanted = range(first, draw.draw(st.integers(first + 1, len(matrix))))
    before = matrix.copy()
    for rows in (matrix, list(matrix)):
        out = np.full((len(wanted), matrix.shape[1]), np.nan, np.float32)
        Plain().ranks(rows, wanted, out)
        assert np.array_equal(out, np.sort(matrix, axis=0)[wanted.start : wanted.stop])
        assert same_bits(matrix, before)


@pytest.mark.parametrize("count", range(1, 13))
def test_ranks_of_zeros_and_ones_are_right_for_every_input(count: int) -> None:
    # A network that sorts all of these sorts everything (Knuth, volume 3, theorem 5.3.4Z).
    rows = np.array(list(itertools.product([0, 1], repeat=count)), np.float32).T.copy()
    expected = np.sort(rows, axis=0)
    for first in range(count):
        for last in {first + 1, count, min(first + 2, count)}:
            out = np.empty((last - first, 2**count), np.float32)
            Plain().ranks(rows, range(first, last), out)
            assert np.array_equal(out, expected[first:last])


@pytest.mark.parametrize("count", [31, 32, 33, 100])
def test_ranks_of_many_rows_and_columns_are_right(count: int) -> None:
    rows = wild(count, 20_001)
    expected = np.sort(rows, axis=0)
    for wanted in (range(count // 2, count // 2 + 1), range(count // 10, count - count // 10), range(count)):
        out = np.empty((len(wanted), rows.shape[1]), np.float32)
        Plain().ranks(list(rows), wanted, out)
        assert np.array_equal(out, expected[wanted.start : wanted.stop])
