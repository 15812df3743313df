"""What docs/plugins.md shows works, and what it says of settings is what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import trio

from primep2p.plugin.process import DEADLINE_S, SILENT_S, Worker
from primep2p.trainers.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()


async def test_the_trainer_of_the_docs_finds_the_line(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "line.py").write_text(code)
    x = np.linspace(-1, 1, 50)
    np.savez(tmp_path / "points.npz", x=x, y=3 * x + 1)
    worker = Worker(
        "line",
        plugins={"line": f"{tmp_path / 'line.py'}:Line"},
        config={"steps": 300},
        data=tmp_path / "points.npz",
        directory=tmp_path / "run",
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        model = await worker.init(1)
        trained = await worker.train(1, 1, model.params, deadline_s=100)
        assert trained.examples == 50
        loss = await worker.evaluate(1, 1, model.params)  # of the zeros that training began with
        assert loss["loss"] > 1
        delta = np.fromfile(trained.delta, "<f4")[-2:]
        np.testing.assert_allclose(delta, [3, 1], atol=0.05)
        nursery.cancel_scope.cancel()


def test_every_setting_of_the_trainers_is_in_the_docs_with_its_default() -> None:
    for field in fields(Settings):
        (row,) = re.findall(rf"^\|[^|]*`{field.name}`.*$", PAGE, re.MULTILINE)
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert str(default) in row


def test_the_deadlines_of_the_docs_are_those_of_the_code() -> None:
    assert f"`trainer.silent_s` ({SILENT_S:g})" in PAGE
    assert f"{DEADLINE_S:g} s" in PAGE
