"""What adapters do alike, and what each framework's does with params."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from primep2p.adapters import base
from primep2p.adapters.base import Adapter, Settings
from primep2p.adapters.numpy import NumpyTrainer
from primep2p.plugin.api import Arrays, Context, Misconfigured, Params


class Mean(NumpyTrainer):
    """Learns the mean of x; its settings have one of each kind."""

    settings = {**Adapter.settings, "name": "", "bold": False, "learning_rate": 0.5}  # noqa: RUF012

    def start(self, settings: Settings, random: np.random.Generator) -> Params:
        return {"mean": np.zeros(2, np.float32)}

    def step(self, params: Params, x: Any, y: Any, settings: Settings) -> float:
        error = params["mean"] - x.mean(axis=0)
        params["mean"] -= np.float32(settings["learning_rate"]) * error
        return float((error**2).sum())

    def outputs(self, params: Params, x: Any) -> Any:
        return x - params["mean"]


X = np.array([[1.0, 10.0], [3.0, 30.0]] * 10)
FIRST = {"mean": np.zeros(2, np.float32)}


def context(directory: Path, x: Any = X, y: Any = None, **config: Any) -> Context:
    np.savez(directory / "data.npz", x=x, y=np.tile([0, 1], 10) if y is None else y)
    return Context(round=1, seed=2, config=config, data=directory / "data.npz", scratch=directory)


def test_the_same_seed_gives_the_same_params_and_leaves_those_given_as_they_were(tmp_path: Path) -> None:
    given = context(tmp_path, epochs=3, batch_size=7)
    made = [Mean().train(FIRST, given) for _ in range(2)]
    np.testing.assert_array_equal(made[0].params["mean"], made[1].params["mean"])
    assert made[0].examples == 20
    assert not FIRST["mean"].any()


def test_x_is_in_the_units_of_the_run_in_training_evaluation_and_prediction(tmp_path: Path) -> None:
    trainer, given = Mean(), context(tmp_path, shift=[2, 20], scale=[1, 10], epochs=30, batch_size=20)
    params = trainer.train(FIRST, given).params
    np.testing.assert_allclose(params["mean"], [0, 0], atol=1e-5)
    answers = trainer.predict(FIRST, {"x": np.array([[3.0, 30.0]])}, given)
    np.testing.assert_allclose(answers["scores"], [[1, 1]])
    assert trainer.evaluate(FIRST, given)["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"epoch": 1}, "trainer_config.epoch is not a setting: did you mean epochs?"),
        ({"zzz": 1}, "trainer_config.zzz is not a setting: there are: batch_size, bold, epochs"),
        ({"epochs": 1.5}, "trainer_config.epochs is 1.5, and must be an int of at least 0"),
        ({"epochs": True}, "trainer_config.epochs is True, and must be an int"),
        ({"batch_size": 0}, "an int of at least 1"),
        ({"learning_rate": "fast"}, "trainer_config.learning_rate is 'fast', and must be a number"),
        ({"name": 1}, "must be text"),
        ({"bold": 1}, "must be true or false"),
        ({"scale": 2}, "trainer_config.scale is 2, and must be a list of numbers"),
        ({"scale": [1]}, "trainer_config.scale has 1 numbers, and x has 2 columns"),
        ({"scale": [1, 0]}, "trainer_config.scale has a 0"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    with pytest.raises(Misconfigured, match=told.replace("?", r"\?")):
        Mean().train(FIRST, context(tmp_path, **config))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [({"x": X}, "has no x and y"), ({"x": X, "y": np.zeros(3)}, "the same number of rows"), ({}, "has no x and y")],
)
def test_wrong_data_is_one_sentence(tmp_path: Path, arrays: Arrays, told: str) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    given = Context(round=1, seed=2, config={}, data=tmp_path / "wrong.npz", scratch=tmp_path)
    with pytest.raises(Misconfigured, match=told):
        Mean().train(FIRST, given)


def test_without_data_there_is_nothing_to_train_on_and_nothing_to_measure(tmp_path: Path) -> None:
    nothing = Context(round=1, seed=2, config={}, data=None, scratch=tmp_path)
    assert Mean().evaluate(FIRST, nothing) == {}
    with pytest.raises(Misconfigured, match=r"trainer\.data of node\.toml is not set"):
        Mean().train(FIRST, nothing)
    with pytest.raises(Misconfigured, match="the inputs are a, b, and must be x alone"):
        Mean().predict(FIRST, {"a": X, "b": X}, nothing)


def test_a_training_goes_on_from_an_epoch_that_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CHECKPOINT_EVERY_S", -1.0)
    saved: list[tuple[int, Arrays]] = []

    def keep(state: Arrays, step: int) -> None:
        saved.append((step, {name: array.copy() for name, array in state.items()}))

    given = context(tmp_path, epochs=4, batch_size=8)
    more = {"config": given.config, "data": given.data, "scratch": tmp_path}
    whole = Mean().train(FIRST, Context(round=1, seed=2, **more, _checkpoint=keep))
    assert [step for step, _ in saved] == [1, 2, 3, 4]
    resumed = Mean().train(FIRST, Context(round=1, seed=2, **more, _resume=lambda: saved[1]))
    np.testing.assert_array_equal(resumed.params["mean"], whole.params["mean"])


def trained(make: Callable[[], Adapter], given: Context) -> tuple[Params, Params]:
    trainer = make()
    first = trainer.init(given)
    made = trainer.train(first, given).params
    assert {name: array.shape for name, array in made.items()} == {name: array.shape for name, array in first.items()}
    assert {array.dtype for array in (*first.values(), *made.values())} == {np.dtype(np.float32)}
    return first, made


def test_torch_averages_the_buffers_of_floats_and_keeps_those_of_ints(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch has no wheel here that `make venv` takes")
    from primep2p.adapters.torch import TorchTrainer

    class Normed(TorchTrainer):
        def model(self, settings: Settings) -> Any:
            return torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))

    first, made = trained(Normed, context(tmp_path))
    assert set(first) == {"0.weight", "0.bias", "0.running_mean", "0.running_var", "1.weight", "1.bias"}
    assert not np.array_equal(first["0.running_mean"], made["0.running_mean"])


@pytest.mark.parametrize(("classes", "rows"), [(2, 1), (3, 3)])
def test_sklearn_has_a_row_for_each_class_but_one_for_two(tmp_path: Path, classes: int, rows: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    from primep2p.adapters.sklearn import SklearnTrainer

    class Linear(SklearnTrainer):
        def model(self, settings: Settings) -> Any:
            return linear_model.SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01)

    given = context(tmp_path, y=np.arange(20) % classes)
    first, made = trained(Linear, given)
    assert first["coef"].shape == (rows, 2)
    assert made["coef"].any()
    assert Linear().evaluate(made, given).keys() == {"loss", "accuracy"}
    alone = Context(round=1, seed=2, config={"features": 2, "classes": classes}, data=None, scratch=tmp_path)
    assert Linear().init(alone)["coef"].shape == (rows, 2)
    with pytest.raises(Misconfigured, match="features and classes must be set"):
        Linear().init(Context(round=1, seed=2, config={}, data=None, scratch=tmp_path))


def test_sklearn_regresses_too(tmp_path: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    from primep2p.adapters.sklearn import SklearnTrainer

    class Line(SklearnTrainer):
        def model(self, settings: Settings) -> Any:
            return linear_model.SGDRegressor(learning_rate="constant", eta0=0.05)

    given = context(tmp_path, y=X @ [1.0, 2.0] + 1, epochs=30, shift=[2, 20], scale=[1, 10])
    first, made = trained(Line, given)
    assert Line().evaluate(made, given)["loss"] < 0.1 * Line().evaluate(first, given)["loss"]
    assert Line().predict(made, {"x": X}, given)["y"].shape == (20,)
