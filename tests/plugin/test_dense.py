"""The numpy trainers: gradients, the optimiser, learning, and what they say of wrong settings."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.cli.swarm.digits import LEAST_EXAMPLES, load_shares, save
from primep2p.model.errors import ConfigError
from primep2p.plugin.api import Context, Misconfigured, Params, Setting
from primep2p.trainers.dense import Data, MultilayerPerceptron, Network, SoftmaxRegression, cross_entropy, minibatches
from primep2p.trainers.settings import OPTIMISERS
from primep2p.trainers.synthetic import Noop

DIGITS: dict[str, Setting] = {"features": 64, "classes": 10}


def context(data: Path | None, seed: int = 1, **config: Setting) -> Context:
    return Context(round=1, seed=seed, config=config, data=data, scratch=Path())


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """All but the held-out digits to train on, the held-out ones to evaluate on."""
    (share,), held_out = load_shares(1)
    np.savez(tmp_path / "digits.npz", x=share.x, y=share.y, x_test=held_out.x, y_test=held_out.y)
    return tmp_path / "digits.npz"


@given(st.integers(0, 2**32), st.sampled_from([[], [5], [6, 4]]))
def test_the_gradient_is_that_of_finite_differences(seed: int, hidden: list[int]) -> None:
    random = np.random.default_rng(seed)
    trainer = MultilayerPerceptron()
    params = trainer.init(context(None, seed=seed, hidden=hidden, features=4, classes=3))
    network = Network(params, np.float64)
    network.flat += random.normal(size=network.flat.size) * 0.1
    x, y = random.normal(size=(7, 4)), random.integers(0, 3, 7)
    network.gradient(x, y)
    found, step = network.flat_gradient.copy(), 1e-6
    for index in random.integers(0, found.size, 12):
        losses = []
        for sign in (1, -1):
            network.flat[index] += sign * step
            losses.append(cross_entropy(network.activations(x)[-1], y))
            network.flat[index] -= sign * step
        assert found[index] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-5)


@given(st.floats(0, 0.99), st.floats(0.01, 0.5))
def test_momentum_is_the_textbook_recurrence(momentum: float, learning_rate: float) -> None:
    random = np.random.default_rng(0)
    data = Data(random.normal(size=(10, 4)).astype(np.float32), np.arange(10) % 3, Path("kept"))
    config: dict[str, Setting] = {"momentum": momentum, "learning_rate": learning_rate, "batch_size": 4, "steps": 5}
    trainer = SoftmaxRegression()
    trainer._data = data
    ctx = context(Path("kept"), seed=3, **config)
    params = trainer.init(ctx)
    update = trainer.train(params, ctx)
    assert update.params is not None

    expected = {name: array.astype(np.float64) for name, array in params.items()}
    velocity = {name: np.zeros_like(array) for name, array in expected.items()}
    batches = minibatches(10, 4, np.random.default_rng(3))
    for _ in range(5):
        network = Network(expected, np.float64)
        batch = next(batches)
        network.gradient(data.x[batch].astype(np.float64), data.y[batch])
        begin = 0
        for name, array in expected.items():
            gradient = network.flat_gradient[begin : begin + array.size].reshape(array.shape)
            velocity[name] = momentum * velocity[name] + gradient
            expected[name] = array - learning_rate * velocity[name]
            begin += array.size
    for name, array in expected.items():
        np.testing.assert_allclose(update.params[name], array, atol=2e-5)


def test_every_example_is_in_each_pass_once() -> None:
    batches = minibatches(10, 4, np.random.default_rng(0))
    passes = [np.concatenate([next(batches) for _ in range(3)]) for _ in range(2)]
    assert [sorted(order) for order in passes] == [list(range(10))] * 2
    assert passes[0].tolist() != passes[1].tolist()


@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
def test_a_network_learns_the_digits(digits: Path, optimiser: str) -> None:
    trainer = MultilayerPerceptron()
    ctx = context(digits, epochs=20, optimiser=optimiser, **DIGITS)
    update = trainer.train(trainer.init(ctx), ctx)
    assert update.params is not None
    assert trainer.evaluate(update.params, ctx)["accuracy"] >= 0.95
    assert update.metrics["loss"] < 0.05


def test_softmax_regression_learns_most_digits(digits: Path) -> None:
    trainer = SoftmaxRegression()
    ctx = context(digits, epochs=20, **DIGITS)
    update = trainer.train(trainer.init(ctx), ctx)
    assert update.params is not None
    assert trainer.evaluate(update.params, ctx)["accuracy"] >= 0.9
    assert list(update.params) == ["layer0.weight", "layer0.bias"]


def test_the_same_seed_and_params_give_the_same_bytes(digits: Path) -> None:
    def trained(seed: int) -> bytes:
        trainer = MultilayerPerceptron()
        ctx = context(digits, seed=seed, init_seed=5, **DIGITS)
        params = trainer.init(ctx)
        made = trainer.train(params, ctx).params
        assert made is not None
        return b"".join(array.tobytes() for array in made.values())

    assert trained(1) == trained(1) != trained(2)


def test_params_that_are_mapped_read_only_can_be_trained_from(digits: Path) -> None:
    trainer = MultilayerPerceptron()
    ctx = context(digits, **DIGITS)
    params = trainer.init(ctx)
    before = {name: array.copy() for name, array in params.items()}
    for array in params.values():
        array.flags.writeable = False
    trainer.train(params, ctx)
    for name, array in before.items():
        np.testing.assert_array_equal(params[name], array)


def test_no_epochs_and_no_steps_change_nothing(digits: Path) -> None:
    trainer = MultilayerPerceptron()
    ctx = context(digits, epochs=0, steps=0, hidden=[300], **DIGITS)
    params = trainer.init(ctx)
    update = trainer.train(params, ctx)
    assert update.delta is not None
    assert not any(array.any() for array in update.delta.values())
    assert update.examples == len(np.load(digits)["y"])


def test_steps_are_told_as_they_pass(digits: Path) -> None:
    reports: list[tuple[int, int]] = []
    trainer = MultilayerPerceptron()
    config = {**DIGITS, "steps": 3}
    ctx = Context(1, 1, config, digits, Path(), lambda step, steps, loss: reports.append((step, steps)))
    trainer.train(trainer.init(ctx), ctx)
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_without_test_examples_the_training_ones_are_measured(tmp_path: Path) -> None:
    (share, *_), _ = load_shares(4)
    save(tmp_path / "share.npz", share)
    trainer = MultilayerPerceptron()
    ctx = context(tmp_path / "share.npz", **DIGITS)
    assert set(trainer.evaluate(trainer.init(ctx), ctx)) == {"loss", "accuracy"}
    assert trainer.evaluate(trainer.init(ctx), context(None, **DIGITS)) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden", [0]),
        ("hidden", "64"),
        ("hidden", [1.5]),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("learning_rate", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("epochs", -1),
        ("epochs", True),
        ("batch_size", 0),
        ("steps", 0.5),
        ("lerning_rate", 0.1),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(digits: Path, key: str, value: Setting) -> None:
    with pytest.raises(ValueError, match=rf"^trainer_config\.{key} is .+$"):
        MultilayerPerceptron().init(context(digits, **{key: value}))


def test_softmax_regression_takes_no_hidden_layers(digits: Path) -> None:
    with pytest.raises(ValueError, match=r"trainer_config\.hidden"):
        SoftmaxRegression().init(context(digits, hidden=[3]))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros((3, 2), np.float32)}, "no x and y"),
        ({"x": np.zeros(3), "y": np.zeros(3, int)}, r"x of .* must be numbers of shape \(n, features\)"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, "y of .* must be ints"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3)}, "y of .* must be ints"),
        ({"x": np.zeros((3, 2)), "y": np.full(3, -1)}, "y of .* must be ints"),
        ({"x": np.zeros((3, 2)), "y": np.full(3, 7)}, "classes up to 7; the model takes 2 features and 3 classes"),
        ({"x": np.zeros((3, 5)), "y": np.zeros(3, int)}, "has 5 features"),
    ],
)
def test_wrong_data_is_one_sentence(tmp_path: Path, arrays: Params, told: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    trainer = SoftmaxRegression()
    ctx = context(tmp_path / "data.npz", features=2, classes=3)
    with pytest.raises(ValueError, match=told):
        trainer.train(trainer.init(ctx), ctx)


def test_training_without_data_says_what_to_set() -> None:
    ctx = context(None, **DIGITS)
    with pytest.raises(ValueError, match=r"trainer\.data of node\.toml is not set"):
        MultilayerPerceptron().train(MultilayerPerceptron().init(ctx), ctx)


@pytest.mark.parametrize("trainer", [MultilayerPerceptron(), SoftmaxRegression()])
def test_a_model_that_is_asked_needs_no_data_of_its_owner(digits: Path, trainer: MultilayerPerceptron) -> None:
    trained = trainer.train(trainer.init(context(digits)), context(digits)).params
    assert trained is not None
    with np.load(digits) as arrays:
        x, y = arrays["x"], arrays["y"]
    answers = type(trainer)().predict(trained, {"x": x.astype(np.float64)}, context(None))
    assert answers["probabilities"].shape == (len(x), 10)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, rtol=1e-5)
    right = float((answers["classes"] == y).mean())
    assert right > 0.5
    assert trainer.evaluate(trained, context(digits)).keys() == {"loss", "accuracy"}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"y": np.zeros((2, 64))}, "asked about one array, x, and was given y"),
        ({"x": np.zeros((2, 63))}, r"of shape \(n, 64\), and is float64 of \(2, 63\)"),
        ({"x": np.zeros(64)}, r"of shape \(n, 64\)"),
        ({"x": np.zeros((2, 64), bool)}, "must be numbers"),
    ],
)
def test_a_question_of_another_kind_is_refused_in_one_sentence(digits: Path, inputs: Params, told: str) -> None:
    trainer = MultilayerPerceptron()
    params = trainer.init(context(digits))
    with pytest.raises(Misconfigured, match=told):
        trainer.predict(params, inputs, context(None))


def test_noop_has_the_size_that_is_asked_for() -> None:
    trainer = Noop()
    params = trainer.init(context(None, elements=25_000))
    assert params["values"].nbytes == 100_000
    first, same, other = (trainer.train(params, context(None, seed=seed)).delta for seed in (1, 1, 2))
    assert first is not None
    assert same is not None
    assert other is not None
    assert (first["values"] == same["values"]).all()
    assert (first["values"] != other["values"]).all()
    with pytest.raises(ValueError, match=r"trainer_config\.elements"):
        trainer.init(context(None, elements=0))
    with pytest.raises(ValueError, match=r"trainer_config\.seconds is -1"):
        trainer.train(params, context(None, seconds=-1))


@given(st.integers(1, 40), st.floats(0.05, 10), st.integers(0, 1000))
def test_shares_are_disjoint_and_none_is_nearly_empty(n: int, alpha: float, seed: int) -> None:
    shares, held_out = load_shares(n, alpha, seed)
    assert len(shares) == n
    assert min(map(len, shares)) >= LEAST_EXAMPLES
    rows = [image.tobytes() for part in (*shares, held_out) for image in part.x]
    assert len(rows) == 1797
    assert len(set(rows)) == 1797
    assert 0.19 < len(held_out) / 1797 < 0.21
    assert set(held_out.y) == set(range(10))
    assert all(share.x.dtype == np.float32 and 0 <= share.x.min() <= share.x.max() <= 1 for share in shares)


def test_more_nodes_than_there_are_digits_for_is_a_configuration_error() -> None:
    for n in (0, 100):
        with pytest.raises(ConfigError, match="cannot be shared"):
            load_shares(n)
