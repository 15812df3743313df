"""The MLX trainer beside the numpy one, which it must equal but for rounding; and what is said without MLX."""

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from packaging.markers import default_environment
from packaging.requirements import Requirement

from primep2p.model.errors import PluginError
from primep2p.plugin.api import Context, Metrics, Params, Setting, Update
from primep2p.plugin.discovery import find
from primep2p.plugin.process import Worker
from primep2p.trainers.dense import MultilayerPerceptron, Network
from primep2p.trainers.settings import Sgd

PROJECT = Path(__file__).parents[2] / "pyproject.toml"

ROWS, FEATURES, CLASSES = 320, 20, 5
SHAPE: dict[str, Setting] = {"hidden": [32, 16], "features": FEATURES, "classes": CLASSES, "batch_size": 32}

CHOSEN: list[dict[str, Setting]] = [
    {},
    {"momentum": 0.0},
    {"nesterov": True, "weight_decay": 0.01},
    {"optimiser": "adam"},
    {"optimiser": "adam", "beta1": 0.0, "beta2": 0.9, "epsilon": 1e-3},
    {"optimiser": "adamw", "weight_decay": 0.1},
]


@pytest.fixture(scope="module")
def mlx_dense() -> Any:
    """The module. What checks a change has MLX: there its absence is a failure."""
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    from primep2p.trainers import mlx_dense

    return mlx_dense


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples with features that are always 0, whose weights have no gradient."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    x[:, :3] = 0
    path = tmp_path_factory.mktemp("data") / "random.npz"
    np.savez(path, x=x, y=random.integers(0, CLASSES, ROWS))
    return path


def trained(
    trainer: MultilayerPerceptron, data: Path, **config: Setting
) -> tuple[Params, Update, list[float], Metrics]:
    """The first params, one epoch from them, its losses, and what those first params are worth."""
    losses: list[float] = []
    ctx = Context(1, 7, {**SHAPE, **config}, data, Path(), lambda step, steps, loss: losses.append(loss))
    params = trainer.init(ctx)
    return params, trainer.train(params, ctx), losses, trainer.evaluate(params, ctx)


@pytest.mark.parametrize("config", CHOSEN, ids=str)
def test_an_epoch_in_mlx_is_that_in_numpy(mlx_dense: Any, data: Path, config: dict[str, Setting]) -> None:
    first, update, losses, worth = trained(MultilayerPerceptron(), data, **config)
    same_first, same_update, same_losses, same_worth = trained(mlx_dense.MlxMultilayerPerceptron(), data, **config)
    assert len(losses) == ROWS // 32
    np.testing.assert_allclose(same_losses, losses, rtol=1e-5)
    assert same_worth == pytest.approx(worth, rel=1e-5)
    assert same_update.metrics == pytest.approx(update.metrics, rel=1e-5)
    assert same_update.examples == update.examples
    assert update.params is not None
    assert same_update.params is not None
    assert list(same_update.params) == list(update.params)
    for name, array in update.params.items():
        assert same_first[name].tobytes() == first[name].tobytes()
        same = same_update.params[name]
        assert (same.dtype, same.shape, same.flags.c_contiguous) == (np.float32, array.shape, True)
        moved = np.abs(array - first[name]).max()
        assert moved > 1e-3
        np.testing.assert_allclose(same, array, rtol=0, atol=1e-4 * moved)


@pytest.mark.parametrize("hidden", [[], [6], [8, 5, 7]])
def test_a_gradient_in_mlx_is_that_in_numpy(mlx_dense: Any, hidden: list[Setting]) -> None:
    random = np.random.default_rng(3)
    ctx = Context(1, 7, {**SHAPE, "hidden": hidden}, None, Path())  # type: ignore[dict-item]
    params = MultilayerPerceptron().init(ctx)
    x, y = random.normal(size=(9, FEATURES)).astype(np.float32), random.integers(0, CLASSES, 9)
    network = Network(params)
    loss = network.gradient(x, y)
    learner = mlx_dense.MlxLearner(params, Sgd(learning_rate=1.0, momentum=0.0))
    assert learner.widths == network.widths
    np.testing.assert_allclose(learner.outputs(x), network.activations(x)[-1], atol=1e-5)
    assert learner.step(x, y) == pytest.approx(loss, rel=1e-5)
    stepped = learner.params()
    gradient = np.concatenate([(params[name] - stepped[name]).ravel() for name in params])
    np.testing.assert_allclose(gradient, network.flat_gradient, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_the_optimiser_begins_anew_each_round(mlx_dense: Any, data: Path, optimiser: str) -> None:
    for trainer in (MultilayerPerceptron(), mlx_dense.MlxMultilayerPerceptron()):
        _, once, *_ = trained(trainer, data, optimiser=optimiser)
        _, again, *_ = trained(trainer, data, optimiser=optimiser)
        assert once.params is not None
        assert again.params is not None
        for name, array in once.params.items():
            assert again.params[name].tobytes() == array.tobytes()


async def test_a_member_of_a_run_of_mlp_may_train_in_mlx(mlx_dense: Any, data: Path, tmp_path: Path) -> None:
    """In a process of its own, as always; the names and shapes are the run's."""
    located = {"mlp": "primep2p.trainers.mlx_dense:MlxMultilayerPerceptron"}
    config = {**SHAPE, "optimiser": "adam"}
    made = []
    async with trio.open_nursery() as nursery:
        for place, plugins in (("numpy", {}), ("mlx", located)):
            worker = Worker("mlp", plugins=plugins, config=config, data=data, directory=tmp_path / place)  # type: ignore[arg-type]
            await nursery.start(worker.run)
            model = await worker.init(1)
            delta = (await worker.train(1, 1, model.params, deadline_s=100)).delta
            made.append((model.tensors, np.fromfile(delta, "<f4")[-1000:]))
        nursery.cancel_scope.cancel()
    assert made[0][0] == made[1][0]
    np.testing.assert_allclose(made[0][1], made[1][1], atol=1e-5)


async def test_without_mlx_its_trainer_fails_with_a_sentence_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "__init__.py").touch()  # stands before the real one, and has nothing
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("mlp-mlx", plugins={}, config=SHAPE, data=None, directory=tmp_path / "run")  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        with pytest.raises(PluginError, match=r"MLX cannot be imported .* pip install '\.\[mlx\]'") as caught:
            await worker.init(1)
        nursery.cancel_scope.cancel()
    assert "\n" not in caught.value.sentence


def test_the_mlx_trainer_is_found_by_its_name() -> None:
    assert find("mlp-mlx", {}).location == "primep2p.trainers.mlx_dense"


@pytest.mark.parametrize(
    ("system", "machine", "installed"),
    [
        ("Linux", "x86_64", ["mlx[cpu]"]),
        ("Linux", "aarch64", ["mlx[cpu]"]),
        ("Darwin", "arm64", ["mlx"]),
        ("Darwin", "x86_64", []),
        ("Windows", "AMD64", []),
    ],
)
def test_the_extra_mlx_is_what_each_system_has_of_it(system: str, machine: str, installed: list[str]) -> None:
    extra = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["mlx"]
    environment: dict[str, str] = {**default_environment(), "platform_system": system, "platform_machine": machine}  # type: ignore[dict-item]
    wanted = [each for each in map(Requirement, extra) if each.marker is None or each.marker.evaluate(environment)]
    assert [each.name + (f"[{','.join(each.extras)}]" if each.extras else "") for each in wanted] == installed
