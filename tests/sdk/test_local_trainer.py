from pathlib import Path

import numpy as np
import pytest

from primep2p.model.errors import CallError, PluginError
from primep2p.sdk.local_trainer import LocalTrainer

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((120, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


def test_a_trainer_by_its_name_learns_from_arrays_and_leaves_nothing_behind():
    with LocalTrainer("softmax", {"epochs": 5}) as trainer:
        scratch = Path(trainer._directory.name)
        params = trainer.init(X, Y, seed=1)
        before = trainer.evaluate(params, X, Y)
        update = trainer.train(params, X, Y, seed=2)
        assert update.examples == 120
        after = trainer.evaluate(update.params, X, Y)
        assert after["accuracy"] > max(0.9, before["accuracy"])
        again = trainer.train(params, X, Y, seed=2)
        assert all(again.params[name].tobytes() == array.tobytes() for name, array in update.params.items())
    assert not scratch.exists()


def test_what_is_said_at_the_call_beats_the_config():
    with LocalTrainer("softmax", {"epochs": 5}) as trainer:
        params = trainer.init(X, Y, seed=1)
        still = trainer.train(params, X, Y, seed=2, epochs=0)
        assert not any(array.any() for array in still.delta.values())


def test_a_trainer_in_a_file_is_loaded_and_one_without_predict_is_said_to_have_none(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "class Mine:\n"
        "    def init(self, ctx): return {'w': np.zeros(3, np.float32)}\n"
        "    def train(self, params, ctx): ...\n"
        "    def evaluate(self, params, ctx): return {}\n"
    )
    with LocalTrainer(f"{tmp_path}/mine.py:Mine") as trainer:
        params = trainer.init(X, Y, seed=0)
        assert list(params) == ["w"]
        with pytest.raises(CallError, match="the trainer Mine has no predict"):
            trainer.predict(params, X)


@pytest.mark.parametrize("name", ["nobody", "none.py:Mine", "numpy:Nothing", "no_such_module:Mine"])
def test_a_trainer_that_cannot_be_found_is_said_so(name):
    with pytest.raises(PluginError):
        LocalTrainer(name)


def test_a_trainer_in_a_file_may_import_what_lies_beside_it_and_have_dataclasses(tmp_path):
    (tmp_path / "beside_the_trainer.py").write_text("SIZE = 2\n")
    (tmp_path / "theirs.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, KW_ONLY\n"
        "import numpy as np\n"
        "from beside_the_trainer import SIZE\n"
        "@dataclass\n"
        "class Theirs:\n"
        "    _: KW_ONLY\n"
        "    size: int = SIZE\n"
        "    def init(self, ctx): return {'w': np.zeros(self.size, np.float32)}\n"
    )
    with LocalTrainer(f"{tmp_path}/theirs.py:Theirs") as learner:
        assert learner.init(X, Y, seed=0)["w"].shape == (2,)
