"""What docs/plugins.md shows works, and what it says of settings is what the code says."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import trio

from primep2p.plugin.process import DEADLINE_S, SILENT_S, Worker
from primep2p.trainers.settings import OPTIMISERS, Settings

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
        assert str("sgd" if field.name == "optimiser" else default) in row


def test_every_setting_of_an_optimiser_is_in_the_docs_with_its_default_and_no_other() -> None:
    head, *rows = re.findall(r"^\|(.*)\|$", PAGE[PAGE.index("| of an optimiser") :].split("\n\n")[0], re.MULTILINE)
    names = [cell.strip(" `") for cell in head.split("|")[1:-1]]
    told: dict[str, dict[str, object]] = {name: {} for name in names}
    for key, *defaults in ([cell.strip(" `") for cell in row.split("|")[:-1]] for row in rows[1:]):
        for name, default in zip(names, defaults, strict=True):
            if default != "–":
                told[name][key] = json.loads(default)
    assert told == {name: asdict(kind()) for name, kind in OPTIMISERS.items()}


def test_the_deadlines_of_the_docs_are_those_of_the_code() -> None:
    assert f"`trainer.silent_s` ({SILENT_S:g})" in PAGE
    assert f"{DEADLINE_S:g} s" in PAGE
