"""The examples learn from real data that they share, and are as short as they are said to be."""

import re
from pathlib import Path

import numpy as np
import pytest

from primep2p.plugin.api import Context, Params
from primep2p.run_config import load_run
from tests.plugin.examples import EXAMPLES, imported

TRAINERS = [
    ("numpy_digits", "Digits", "digits", None, 0.95),
    ("sklearn_breast_cancer", "BreastCancer", "breast_cancer", None, 0.96),
    ("mlx_digits", "Digits", "digits", "mlx", 0.97),
    ("torch_digits", "Digits", "digits", "torch", 0.97),
]
ROUNDS = 5


@pytest.mark.parametrize(("module", "kind", "data", "needs", "least"), TRAINERS)
def test_an_example_learns_from_shares_what_nobody_trained_on(
    tmp_path: Path, module: str, kind: str, data: str, needs: str | None, least: float
) -> None:
    if needs:
        framework = pytest.importorskip(needs, reason=f"{needs} has no wheel here that `make venv` takes")
        if needs == "torch":
            framework.set_num_threads(
                1
            )  # as in a trainer's process: threads that spin beside other tests' cost minutes
    imported("data").write(tmp_path, data, 3, f"examples/{module}.py:{kind}")
    config = load_run(tmp_path / "run.toml").trainer_config
    trainers = [getattr(imported(module), kind)() for _ in range(3)]

    def context(round: int, node: int) -> Context:
        path = tmp_path / f"node{node}" / "data.npz"
        return Context(round=round, seed=10 * round + node, config=config, data=path, scratch=tmp_path)

    params: Params = trainers[0].init(context(0, 0))
    for round in range(1, ROUNDS + 1):
        updates = [trainer.train(params, context(round, node)) for node, trainer in enumerate(trainers)]
        params = {
            name: np.mean([update.params[name] for update in updates], axis=0, dtype=np.float32) for name in params
        }
    measured = trainers[1].evaluate(params, context(ROUNDS, 1))
    assert measured["accuracy"] >= least
    with np.load(tmp_path / "node2" / "data.npz") as arrays:
        answered = trainers[2].predict(params, {"x": arrays["x_test"]}, context(0, 2))
        assert (answered["classes"] == arrays["y_test"]).mean() == pytest.approx(measured["accuracy"])


def test_no_node_trains_on_what_is_held_out_and_shares_are_disjoint() -> None:
    parts, _, _ = imported("data").shares("breast_cancer", 3)
    held_out = {row.tobytes() for row in parts[0]["x_test"]}
    own = [{row.tobytes() for row in part["x"]} for part in parts]
    assert sum(map(len, own)) == len(set.union(*own))
    assert not held_out & set.union(*own)
    assert len(held_out) + sum(map(len, own)) == 569


@pytest.mark.parametrize("module", [each[0] for each in TRAINERS])
def test_an_example_has_at_most_60_lines(module: str) -> None:
    assert len((EXAMPLES / f"{module}.py").read_text().splitlines()) <= 60


def test_what_an_example_says_of_its_command_is_so() -> None:
    for module, kind, data, _, _ in TRAINERS:
        (said,) = re.findall(r"python examples/data.py (.*)", (EXAMPLES / f"{module}.py").read_text())
        assert said.split() == [data, "--trainer", f"examples/{module}.py:{kind}", "--into", "trial"]
