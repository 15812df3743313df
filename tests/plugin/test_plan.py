"""Plans in MLX: what is traced gives the bytes that its functions give, and the trainer learns as mlp-mlx does."""

import importlib.util
import os
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from primep2p.model.errors import PluginError
from primep2p.plugin.api import Context, Setting
from primep2p.plugin.discovery import PLAN_FILE
from primep2p.wire.plans import open_plan, seal_plan
from tests.wire.samples import envelopes

EXAMPLE = Path(__file__).parents[2] / "examples" / "plan.py"
OWNER = envelopes()


@pytest.fixture(scope="module")
def mx() -> Any:
    """MLX. What checks a change has it: there its absence is a failure."""
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    import mlx.core

    return mlx.core


@pytest.fixture(scope="module")
def digits(mx: Any) -> Any:
    """The class of the example."""
    spec = importlib.util.spec_from_file_location("plan_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Digits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x=x[:1400], y=y[:1400], x_test=x[1400:], y_test=y[1400:])
    return path


def traced(source: Any) -> bytes:
    """The file of its plan."""
    from primep2p.trainers.tracing import trace

    made = trace(source, name="plan", owner=OWNER.peer_id)
    return seal_plan(made.plan, made.graphs, OWNER)


def context(scratch: Path, data: Path | None, round: int = 1, **config: Setting) -> Context:
    return Context(round=round, seed=round, config=config, data=data, scratch=scratch)


def trainer(raw: bytes, scratch: Path) -> Any:
    from primep2p.trainers.plan import PlanTrainer

    (scratch / PLAN_FILE).write_bytes(raw)
    return PlanTrainer()


def linear(mx: Any, **changed: Any) -> SimpleNamespace:
    """A plan with everything that may be left out, left out."""

    def train_step(params: Any, x: Any, y: Any) -> Any:
        loss, gradient = mx.value_and_grad(lambda w: mx.mean((x @ w - y) ** 2))(params["w"])
        return {"w": params["w"] - 0.1 * gradient}, loss

    parts = {
        "batch": {"x": ("float32", 3), "y": "float32"},
        "init": lambda key: {"w": mx.zeros(3)},
        "train_step": train_step,
        "evaluate": lambda params, x, y: {"loss": mx.mean((x @ params["w"] - y) ** 2)},
    }
    return SimpleNamespace(**{**parts, **changed})


def points(path: Path, rows: int, **more: Any) -> Path:
    x = np.random.default_rng(1).standard_normal((rows, 3)).astype(np.float32)
    np.savez(path / "points.npz", **{"x": x, "y": x @ np.array([1, -2, 3], np.float32), **more})
    return path / "points.npz"


def test_a_training_with_a_plan_is_that_of_its_functions_to_the_byte(
    mx: Any, digits: Any, data: Path, tmp_path: Path
) -> None:
    from primep2p.trainers.dense import minibatches

    plan = trainer(traced(digits), tmp_path)
    first = plan.init(context(tmp_path, None))
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: np.array(array).tobytes() for name, array in digits.init(mx.random.key(1)).items()
    }
    update = plan.train(first, context(tmp_path, data, learning_rate=0.05))
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"].astype(np.int32)
    params = {name: mx.array(array) for name, array in first.items()}
    velocity = digits.state(params)
    batches = minibatches(1400, 32, np.random.default_rng(1))
    for _ in range(44):
        batch = next(batches)
        params, velocity, _ = digits.train_step(
            params, velocity, mx.array(x[batch]), mx.array(y[batch]), mx.array(0.05), mx.array(0.9)
        )
    assert {name: array.tobytes() for name, array in update.params.items()} == {
        name: np.array(array).tobytes() for name, array in params.items()
    }
    assert update.examples == 1400


def test_a_plan_learns_the_digits_as_the_trainer_in_mlx_does(digits: Any, data: Path, tmp_path: Path) -> None:
    from primep2p.trainers.mlx_dense import MlxMultilayerPerceptron

    reached = {}
    for name, each in (("plan", trainer(traced(digits), tmp_path)), ("mlp-mlx", MlxMultilayerPerceptron())):
        params = each.init(context(tmp_path, data))
        for round in range(1, 6):
            params = each.train(params, context(tmp_path, data, round, epochs=4)).params
        reached[name] = each.evaluate(params, context(tmp_path, data))["accuracy"]
    assert reached["plan"] > reached["mlp-mlx"] - 0.02
    assert reached["mlp-mlx"] > 0.9


def test_a_training_that_was_cut_short_goes_on_after_its_last_epoch(
    mx: Any, digits: Any, data: Path, tmp_path: Path
) -> None:
    plan, kept = trainer(traced(digits), tmp_path), []
    params = plan.init(context(tmp_path, None))
    at = context(tmp_path, data, epochs=3)
    whole = plan.train(params, replace(at, _checkpoint=lambda state, step: kept.append((step, state))))
    assert [step for step, _ in kept] == [44, 88]
    steps: list[int] = []
    rest = plan.__class__().train(
        params, replace(at, _resume=lambda: kept[1], _report=lambda step, steps_, loss: steps.append(step))
    )
    assert steps == list(range(89, 133))
    assert {name: array.tobytes() for name, array in rest.params.items()} == {
        name: array.tobytes() for name, array in whole.params.items()
    }
    assert rest.metrics == whole.metrics


def test_the_same_step_gives_the_same_graphs(digits: Any) -> None:
    one, other = open_plan(traced(digits), OWNER), open_plan(traced(digits), OWNER)
    assert one.raw == other.raw
    assert one.record.rows == 0, "any number of rows"
    assert [setting.name for setting in one.record.settings] == ["learning_rate", "momentum"]


def test_a_plan_predicts(mx: Any, digits: Any, data: Path, tmp_path: Path) -> None:
    plan = trainer(traced(digits), tmp_path)
    params = plan.init(context(tmp_path, None))
    x = np.ones((3, 64), np.float32)
    said = plan.predict(params, {"x": x}, context(tmp_path, None))["predictions"]
    wanted = digits.predict({name: mx.array(array) for name, array in params.items()}, mx.array(x))
    assert said.tobytes() == np.array(wanted).tobytes()


def test_a_step_that_knows_its_batch_is_for_batches_of_that_size(mx: Any, tmp_path: Path) -> None:
    def evaluate(params: Any, x: Any, y: Any) -> Any:
        return {"rows": mx.array(float(x.shape[0])), "loss": mx.mean((x.reshape(8, 3) @ params["w"] - y) ** 2)}

    raw = traced(linear(mx, evaluate=evaluate, batch_size=8, predict=lambda params, x: x @ params["w"]))
    assert open_plan(raw, OWNER).record.rows == 8
    plan, at = trainer(raw, tmp_path), context(tmp_path, points(tmp_path, 45), epochs=3, held_out=0.2)
    params = plan.init(at)
    assert plan.evaluate(params, at)["rows"] == 8, "of the 9 held out, one batch"
    assert plan.evaluate(plan.train(params, at).params, at)["loss"] < plan.evaluate(params, at)["loss"]
    said = plan.predict({"w": np.ones(3, np.float32)}, {"x": np.ones((11, 3))}, at)["predictions"]
    assert said.tolist() == [3.0] * 11
    with pytest.raises(ValueError, match="batch_size is not a setting of this plan"):
        plan.train(params, context(tmp_path, at.data, batch_size=4))
    few = plan.__class__()
    with pytest.raises(ValueError, match="one batch of the plan takes 8"):
        few.train(params, context(tmp_path, points(tmp_path, 5)))


def test_a_step_may_draw_lots_from_a_key(mx: Any, tmp_path: Path) -> None:
    def train_step(params: Any, x: Any, y: Any, key: Any) -> Any:
        return {"w": params["w"] + mx.random.normal((3,), key=key)}, mx.mean(x)

    raw = traced(linear(mx, train_step=train_step))
    assert open_plan(raw, OWNER).record.is_random
    plan, path = trainer(raw, tmp_path), points(tmp_path, 60)
    params = plan.init(context(tmp_path, path))
    one, again, other = (plan.train(params, context(tmp_path, path, round)).params["w"] for round in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"evaluate": lambda params, x, y: {}}, "must give a dict of numbers"),
        ({"evaluate": lambda params, x, y: {"loss": x}}, "loss must be one number"),
        ({"train_step": lambda params, x, y: params}, "must give the new params and the loss"),
        ({"train_step": lambda params, x, y: ({"v": x}, x)}, "another v of its params"),
        ({"init": lambda key: {"w": 1.0}}, "init must give MLX arrays"),
        ({"state": lambda params: {"s": params["w"] + 1}}, "must be zeros"),
    ],
)
def test_a_plan_that_cannot_be_is_not_exported(mx: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        traced(linear(mx, **changed))


def test_a_step_with_what_no_plan_may_use_is_not_exported(mx: Any) -> None:
    def evaluate(params: Any, x: Any, y: Any) -> Any:
        return {"loss": mx.sum(x.view(mx.int32)) + mx.mean(y)}

    with pytest.raises(PluginError, match="uses 'View', which no plan may"):
        traced(linear(mx, evaluate=evaluate))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"epochs": 0}, "trainer_config.epochs is 0, and must be an int of at least 1"),
        ({"rate": 1.0}, "trainer_config.rate is not a setting of this plan; there are: batch_size, epochs, held_out"),
        ({"held_out": 1}, "held_out is 1, and must be at least 0 and less than 1"),
    ],
)
def test_settings_are_checked(mx: Any, tmp_path: Path, config: dict[str, Setting], said: str) -> None:
    plan = trainer(traced(linear(mx)), tmp_path)
    with pytest.raises(ValueError, match=said):
        plan.train({"w": np.zeros(3, np.float32)}, context(tmp_path, points(tmp_path, 9), **config))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.zeros((9, 2), np.float32)}, "y of .* has the shape"),
        ({"y": np.zeros(9, np.complex64)}, "y of .* is complex64, and must be float32"),
        ({"y": np.zeros(8, np.float32)}, "must have one number of rows"),
        ({"x_test": np.zeros((2, 3), np.float32)}, "has no array 'y_test'"),
    ],
)
def test_data_that_does_not_fit_is_named(mx: Any, tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    plan = trainer(traced(linear(mx)), tmp_path)
    with pytest.raises(ValueError, match=said):
        plan.train({"w": np.zeros(3, np.float32)}, context(tmp_path, points(tmp_path, 9, **arrays)))


def test_data_may_lie_in_other_files(mx: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = points(tmp_path, 40)
    with np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"]
    save_file({"x": x, "y": y}, tmp_path / "points.safetensors")
    (tmp_path / "points").mkdir()
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / "points" / f"{name}.npy", array)
    made = []
    for each in (path, tmp_path / "points.safetensors", tmp_path / "points"):
        plan = trainer(traced(linear(mx)), tmp_path)
        made.append(plan.train({"w": np.zeros(3, np.float32)}, context(tmp_path, each)).params["w"].tobytes())
    assert len(set(made)) == 1


def test_a_plan_that_the_node_has_not_put_there_is_not_run(mx: Any, tmp_path: Path) -> None:
    for raw, said in ((bytes(800_000), "more than the"), (b"\0", "no plan, or a damaged one")):
        with pytest.raises((ValueError, PluginError), match=said):
            trainer(raw, tmp_path).init(context(tmp_path, None))


def test_every_setting_is_in_the_docs_with_its_default(mx: Any) -> None:
    from primep2p.trainers.plan import Settings

    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
    for field in fields(Settings):
        assert f"| `{field.name}` ({field.default:g}) |" in page
