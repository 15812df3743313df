"""Names of trainers, and where they lead."""

from pathlib import Path

import pytest

from primep2p.model.errors import PluginError
from primep2p.plugin.discovery import TrainerRef, find, known


def test_trainers_that_ship_are_found_by_their_entry_points() -> None:
    assert find("mlp", {}) == TrainerRef("mlp", "primep2p.trainers.dense", "MultilayerPerceptron")
    assert {"mlp", "mlp-mlx", "softmax", "noop"} <= set(known({}))


def test_the_owners_own_trainer_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('imported')")
    assert find("mlp", {"mlp": f"{file}:Mine"}) == TrainerRef("mlp", str(file), "Mine")
    assert find("other", {"other": "package.module:Class"}) == TrainerRef("other", "package.module", "Class")


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(
        PluginError, match="no trainer 'magic' on this node; there are: mine, mlp, mlp-mlx, noop, softmax"
    ) as caught:
        find("magic", {"mine": "mine:Mine"})
    assert "[trainer.plugins]" in caught.value.hint


@pytest.mark.parametrize("target", ["mine", "mine:", ":Mine", "mine:not a name", "/no/such/file.py:Mine"])
def test_a_target_that_names_no_class_is_refused(target: str) -> None:
    with pytest.raises(PluginError, match=r"trainer\.plugins\.mine"):
        find("mine", {"mine": target})


def test_a_name_that_a_run_chose_is_never_a_path() -> None:
    for name in ("/tmp/evil.py:Trainer", "os:system", "primep2p.trainers.dense:MultilayerPerceptron"):
        with pytest.raises(PluginError, match="there is no trainer"):
            find(name, {})
