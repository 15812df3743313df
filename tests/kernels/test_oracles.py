"""The kernels agree with the papers, as oracles.py has them in double precision."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from primep2p.kernels.arrays import Array
from primep2p.kernels.outer import first_state, state_names, step
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
)
from tests.kernels import oracles
from tests.kernels.samples import RULES, STAGES, UNIFORM, eighths, like_deltas, matrices, result_of

NEAR = 1e-6
"""Of the largest value in each column: some float32 roundings (6e-8 each), and coefficients that follow from rows
rounded to 20 bits."""


def assert_near(found: Array, expected: oracles.Vector, rows: Array, near: float = NEAR) -> None:
    largest = np.abs(rows).max(axis=0).astype(np.float64)
    off = np.abs(found - np.array(expected))
    assert np.all(off <= near * largest + 1e-44), f"{(off / np.maximum(largest, 1e-44)).max():.2e}"


def counts_of(rows: Array) -> list[int]:
    return [1 + 31 * k % 17 for k in range(len(rows))]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize(("count", "columns"), [(11, 1), (12, 1500), (33, 200)], ids=str)
def test_each_rule_is_the_paper_s(rule: Rule, count: int, columns: int) -> None:
    rows = like_deltas(count, columns)
    expected = oracles.aggregated(Pipeline(rule), rows.tolist(), counts_of(rows))
    assert_near(result_of(Pipeline(rule), rows, counts_of(rows)), expected, rows)


@pytest.mark.parametrize("stages", [(stage,) for stage in STAGES] + [(Arc(2), NearestNeighbours(2))], ids=str)
@pytest.mark.parametrize("rule", [FedAvg(), Median(), TrimmedMean("0.2"), GeometricMedian(), CenteredClip()], ids=str)
def test_each_stage_before_each_kind_of_rule_is_the_paper_s(stages: tuple[Pre, ...], rule: Rule) -> None:
    rows = like_deltas(12, 300)
    pipeline = Pipeline(rule, stages)
    expected = oracles.aggregated(pipeline, rows.tolist(), counts_of(rows), b"seed")
    assert_near(result_of(pipeline, rows, counts_of(rows)), expected, rows)


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline(MultiKrum(1), (Clip(30.0), NearestNeighbours(2))),
        Pipeline(Krum(1), (Bucketing(2), Clip(20.0))),
        Pipeline(Bulyan(1), (Bucketing(2), Arc(1))),
        Pipeline(GeometricMedian(), (Arc(3), Bucketing(3), NearestNeighbours(1), Clip(10.0))),
        Pipeline(TrimmedMean("0.3"), (NearestNeighbours(2), NearestNeighbours(3))),
    ],
    ids=str,
)
def test_chains_of_stages_are_computed_one_after_another(pipeline: Pipeline) -> None:
    rows = like_deltas(15, 300)
    expected = oracles.aggregated(pipeline, rows.tolist(), counts_of(rows), b"seed")
    assert_near(result_of(pipeline, rows, counts_of(rows)), expected, rows)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Rule, Array]:
    rows = draw(matrices(eighths, least=7, most=11, columns=8))
    f = draw(st.integers(1, (len(rows) - 3) // 4))
    return draw(st.sampled_from([Krum(f), MultiKrum(f), MultiKrum(f, 2), Bulyan(f)])), rows


@settings(max_examples=150)
@given(choices())
def test_choices_are_the_paper_s_ties_among_them(case: tuple[Rule, Array]) -> None:
    rule, rows = case
    assert_near(
        result_of(Pipeline(rule), rows), oracles.aggregated(Pipeline(rule), rows.tolist(), [1] * len(rows)), rows
    )


@settings(max_examples=60)
@given(matrices(eighths, least=3, most=9, columns=8), st.data())
def test_neighbours_and_the_longest_are_the_paper_s_ties_among_them(rows: Array, draw: st.DataObject) -> None:
    f = draw.draw(st.integers(1, (len(rows) - 1) // 2))
    for stage in (NearestNeighbours(f), Arc(f)):
        pipeline = Pipeline(UNIFORM, (stage,))
        assert_near(result_of(pipeline, rows), oracles.aggregated(pipeline, rows.tolist(), [1] * len(rows)), rows)


@settings(max_examples=60)
@given(matrices(eighths, least=3, columns=8), st.floats(0.1, 100), st.integers(1, 5), st.data())
def test_weighted_points_are_the_paper_s(rows: Array, size: float, iterations: int, draw: st.DataObject) -> None:
    counts = draw.draw(st.lists(st.integers(1, 1000), min_size=len(rows), max_size=len(rows)))
    for rule in (GeometricMedian(size, iterations), CenteredClip(size, iterations)):
        expected = oracles.aggregated(Pipeline(rule), rows.tolist(), counts)
        # A distance that is 0 comes out as the root of a rounding: that moves a row by 1e-7 of the largest one.
        largest = np.full_like(rows, np.abs(rows).max())
        assert_near(result_of(Pipeline(rule), rows, counts), expected, largest, 1e-5)


@settings(max_examples=60)
@given(matrices(st.floats(-1000, 1000, width=32), columns=40), st.data())
def test_the_mean_is_close_to_the_one_in_double_precision(rows: Array, draw: st.DataObject) -> None:
    counts = draw.draw(st.lists(st.integers(1, 10_000), min_size=len(rows), max_size=len(rows)))
    assert_near(result_of(Pipeline(), rows, counts), oracles.aggregated(Pipeline(), rows.tolist(), counts), rows)


def test_among_equal_scores_the_first_row_is_chosen() -> None:
    rows = like_deltas(9, 50)
    for one, other in [(2, 6), (0, 8), (4, 5)]:
        twins = rows.copy()
        twins[other] = twins[one]  # nobody is as close to its neighbours as these two are
        order = oracles.krum_order(twins.tolist(), 3)
        scores = oracles.krum_scores(twins.tolist(), 3)
        assert scores[one] == scores[other]
        chosen = result_of(Pipeline(MultiKrum(3, order.index(one) + 1)), twins)
        expected = np.mean([twins[k].astype(np.float64) for k in order[: order.index(one) + 1]], axis=0)
        assert_near(chosen, expected.tolist(), twins)
    same = np.tile(rows[:1], (9, 1))
    same[:, 0] = np.arange(9) < 5  # 0..4 are equal, 5..8 are equal
    assert np.array_equal(result_of(Pipeline(Krum(1)), same), same[0])
    assert np.array_equal(result_of(Pipeline(Krum(1)), same[::-1].copy()), same[0])


def test_the_smoothed_algorithm_comes_to_the_geometric_median() -> None:
    rows = like_deltas(9, 20)
    found = result_of(Pipeline(GeometricMedian(1e-6, 100, "uniform")), rows).astype(np.float64)
    away = rows.astype(np.float64) - found
    slope = (away / np.linalg.norm(away, axis=1, keepdims=True)).sum(axis=0)
    assert np.linalg.norm(slope) < 1e-4  # the sum of distances is flat there


# ---- vectors of others


THREE = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)


def test_the_trimmed_mean_of_byzfl_s_readme() -> None:
    # Three honest rows and what a sign flip makes of their mean; f = 1 of four is cut at each end.
    attacked = np.vstack([THREE, -THREE.mean(axis=0, keepdims=True)])
    assert result_of(Pipeline(TrimmedMean("0.25")), attacked).tolist() == [2.5, 3.5, 4.5]


@pytest.mark.parametrize(("moved", "middle"), [(-1e-3, [2.5, 3.5, 4.5]), (1e-3, [5.5, 6.5, 7.5])])
def test_the_nearest_neighbours_of_byzfl_s_readme(moved: float, middle: list[float]) -> None:
    # The middle row is as far from the first as from the last: it is moved to one of them.
    rows = THREE.copy()
    rows[1] += np.float32(moved)
    expected = [[2.5, 3.5, 4.5], middle, [5.5, 6.5, 7.5]]
    found, _ = oracles.prepared(NearestNeighbours(1), rows.tolist(), [1 / 3] * 3, b"")
    assert np.allclose(found, expected, atol=2e-3)
    mean = result_of(Pipeline(UNIFORM, (NearestNeighbours(1),)), rows)
    median = result_of(Pipeline(Median(), (NearestNeighbours(1),)), rows)
    assert np.allclose(mean, np.mean(expected, axis=0), atol=2e-3)
    assert np.allclose(median, middle, atol=2e-3)


def test_of_equally_near_neighbours_the_first_row_is_taken_as_byzfl_does() -> None:
    assert result_of(Pipeline(Median(), (NearestNeighbours(1),)), THREE).tolist() == [2.5, 3.5, 4.5]


# ---- optimisers


@pytest.mark.parametrize(
    "outer",
    [
        None,
        Sgd(),
        Sgd(0.7, 0.9),
        Sgd(0.7, 0.9, True),
        Adagrad(),
        Adagrad(0.1, 0.9, 0.1),
        Adam(),
        Adam(0.1, 0.0, 0.999, 1e-2),
        Yogi(),
        Yogi(0.1, 0.5, 0.9, 1e-1),
    ],
    ids=str,
)
def test_optimisers_are_the_papers_over_ten_rounds(outer: Outer | None) -> None:
    params = like_deltas(1, 200)[0]
    expected, memory = params.tolist(), {}
    state = [np.full(200, value, np.float32) for value in first_state(outer)]
    for towards in like_deltas(10, 200, 2):
        expected, memory = oracles.stepped(outer, expected, towards.tolist(), memory)
        step(outer, params, towards, state, params, state)
        for name, values in zip(state_names(outer), state, strict=True):
            assert np.allclose(values, memory[name], rtol=1e-5, atol=1e-6)
    assert np.allclose(params, expected, rtol=1e-5, atol=2e-5)


def test_momentum_remembers_and_nesterov_looks_ahead() -> None:
    def after_two(outer: Sgd) -> float:
        params, state = np.zeros(1, np.float32), [np.zeros(1, np.float32) for _ in state_names(outer)]
        for _ in range(2):
            step(outer, params, np.ones(1, np.float32), state, params, state)
        return float(params[0])

    assert after_two(Sgd(1.0)) == 2
    assert after_two(Sgd(1.0, 0.5)) == 1 + 1.5
    assert after_two(Sgd(1.0, 0.5, True)) == 1.5 + (0.5 * 1.5 + 1)


@given(st.integers(0, 30))
def test_bucketing_puts_every_row_into_one_bucket(round_number: int) -> None:
    count = 1 + round_number
    rows = np.eye(count, dtype=np.float32)
    assume(count > 1)
    found = result_of(
        Pipeline(FedAvg(), (Bucketing(2),)), rows, list(range(1, count + 1)), round_number.to_bytes(8, "big")
    )
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.count_nonzero(found) == count


@pytest.mark.parametrize("sign", [1, -1])
def test_of_two_different_rows_with_one_score_krum_takes_the_first(sign: int) -> None:
    half = np.array([[11], [10], [12]], np.float32)
    assert result_of(Pipeline(Krum(1)), np.vstack([sign * half, -sign * half])) == sign * 10
