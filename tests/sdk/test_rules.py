import doctest

import numpy as np
import pytest

from primep2p import TensorBuffer, aggregate, create_tensor_buffer
from primep2p.kernels.arrays import Matrix
from primep2p.kernels.pipeline import aggregate as kernels_aggregate
from primep2p.model.pipeline import FedAvg, Krum, Median, NearestNeighbours, Pipeline
from primep2p.sdk import rules

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.standard_normal((7, 300), dtype=np.float32)


def test_the_examples_in_docstrings_are_true():
    failures, tried = doctest.testmod(rules)
    assert (failures, tried > 0) == (0, True)


@pytest.mark.parametrize(
    ("rule", "pipeline", "more"),
    [
        ("fedavg", Pipeline(FedAvg("uniform")), {}),
        ("median", Pipeline(Median()), {}),
        ("krum", Pipeline(Krum(1)), {"f": 1}),
        ("median", Pipeline(Median(), (NearestNeighbours(2),)), {"pre": [{"name": "nnm", "f": 2}]}),
    ],
)
def test_the_bytes_are_those_of_a_round(rule, pipeline, more):
    out = np.empty(300, np.float32)
    kernels_aggregate(pipeline, Matrix(ROWS), [1] * 7, out=out)
    assert aggregate(list(ROWS), rule, **more).tobytes() == out.tobytes()
    tables = [{"a": row[:100].reshape(10, 10), "b": row[100:]} for row in ROWS]
    made = aggregate(tables, rule, **more)
    assert made["a"].shape == (10, 10)
    assert made["a"].tobytes() + made["b"].tobytes() == out.tobytes()


def test_threads_give_the_same_bytes(monkeypatch):
    rows = [RANDOM.standard_normal(600_000, dtype=np.float32) for _ in range(3)]
    shared = aggregate(rows, "trimmed_mean", trim_ratio=0.34)
    monkeypatch.setattr(rules, "THREADS_FROM", 10**9)
    assert aggregate(rows, "trimmed_mean", trim_ratio=0.34).tobytes() == shared.tobytes()


def test_weights_are_examples():
    assert aggregate([[0.0], [8.0]], examples=[3, 1]).tolist() == [2.0]


def test_tensor_buffers_give_a_tensor_buffer():
    made = aggregate([create_tensor_buffer([[1.0, 2.0]]), create_tensor_buffer([[3.0, 4.0]])])
    assert isinstance(made, TensorBuffer)
    assert (made.shape, made.to_f32().tolist()) == ((1, 2), [[2.0, 3.0]])


@pytest.mark.parametrize(
    ("updates", "rule", "more", "sentence"),
    [
        ([], "fedavg", {}, "there are no updates"),
        ([{}], "fedavg", {}, "update 0 has no arrays"),
        ([[]], "fedavg", {}, "update 0 is empty"),
        ([[1.0], [1.0, 2.0]], "fedavg", {}, "update 1 has the shape (2,), and that of update 0 is (1,)"),
        ([{"a": [1]}, {"b": [1]}], "fedavg", {}, "update 1 has the arrays ['b'], and update 0 has ['a']"),
        ([[1.0], [np.nan]], "fedavg", {}, "update 1 has a value that is not finite"),
        ([[1.0]] * 4, "krum", {"f": 1}, "krum with f = 1 needs 5 updates (2f + 3), and there are 4"),
        ([[1.0]], "krumm", {}, "rule.name must be one of"),
        ([[1.0]] * 3, "median", {"examples": [1, 1, 1]}, "examples have no effect with median"),
        ([[1.0]] * 3, "fedavg", {"examples": [1, 0, 1]}, "examples must be 3 counts of at least 1"),
        ([[1.0]] * 3, "median", {"f": 1}, "rule.f is not known"),
        ([[1.0]] * 3, "fedavg", {"pre": ["nmn"]}, "pre[0] must be one of"),
    ],
)
def test_what_cannot_be_aggregated_is_refused_with_the_reason(updates, rule, more, sentence):
    with pytest.raises(ValueError) as refused:
        aggregate(updates, rule, **more)
    assert str(refused.value).startswith(sentence)
