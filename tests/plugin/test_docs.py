"""What docs/plugins.md shows works, and what it says of settings is what the code says."""

import json
import re
import runpy
import shlex
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import trio

from primep2p.adapters.base import Adapter
from primep2p.cli.main import main
from primep2p.config import load
from primep2p.plugin.api import ABI_VERSION, ABI_VERSIONS
from primep2p.plugin.process import DEADLINE_S, SILENT_S, Worker
from primep2p.run_config import load_run
from primep2p.trainers.settings import OPTIMISERS, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
SHIPPED = PAGE[PAGE.index("## Trainers that ship") :]


CODE = dict(
    re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", PAGE.replace("`python points.py`", "`points.py`"), re.DOTALL)
)


def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader has who has saved all of the page's files in one directory."""
    for name, code in CODE.items():
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("points.py")


def checked(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, list[str]]:
    """A command as it stands on the page: its exit code and its lines."""
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    return int(ended.value.code or 0), capsys.readouterr().out.splitlines()


def test_every_program_of_the_page_has_a_name_to_be_saved_by() -> None:
    assert set(CODE) == {"line.py", "points.py", "cells.py"}
    assert len(re.findall("```python", PAGE)) == len(CODE)


def test_the_check_of_the_docs_says_of_the_trainer_of_the_docs_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(tmp_path, monkeypatch)
    ((command, told),) = re.findall(r"```\n\$ (primep2p plugin check .*?)\n(.*?)```", PAGE, re.DOTALL)
    code, lines = checked(capsys, f"{command} --home {tmp_path}")
    assert code == 0
    words = [[line.split()[:2] for line in each] for each in (lines, told.splitlines())]
    assert words[0] == words[1]
    exact = [(ours, said) for ours, said in zip(lines, told.splitlines(), strict=True) if " in " not in said]
    for ours, said in exact:
        if "used" not in said:
            assert ours == said


def test_the_adapter_of_the_docs_passes_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(tmp_path, monkeypatch)
    np.savez("cells.npz", x=np.random.default_rng(0).random((40, 3)), y=np.arange(40) % 2)
    code, lines = checked(capsys, f"primep2p plugin check cells.py:Cells --data cells.npz --home {tmp_path}")
    assert code == 0, lines


async def test_the_trainer_of_the_docs_finds_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(tmp_path, monkeypatch)
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


def test_the_configurations_of_the_docs_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(tmp_path, monkeypatch)
    tables = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    for table in tables:
        if "[project" in table:
            continue
        path = tmp_path / "shown.toml"
        path.write_text(table)
        load_run(path) if table.startswith("name") else load(path, {})


@pytest.mark.parametrize("adapter", ["base", "sklearn"])
def test_every_setting_of_adapters_is_in_the_docs_with_its_default(adapter: str) -> None:
    trainer = Adapter if adapter == "base" else pytest.importorskip("primep2p.adapters.sklearn").SklearnTrainer
    rows = PAGE[PAGE.index("| `trainer_config` of adapters") :].split("\n\n")[0]
    for name, default in trainer.settings.items():
        (row,) = re.findall(rf"^\|[^|]*`{name}`.*$", rows, re.MULTILINE)
        assert json.dumps(default) in row


def test_the_versions_of_the_docs_are_those_of_the_code() -> None:
    assert f"abi_version = {ABI_VERSION}" in CODE["line.py"]
    assert f"this primep2p has {' and '.join(map(str, ABI_VERSIONS))} of the plugin API" in PAGE


def test_every_setting_of_the_trainers_is_in_the_docs_with_its_default() -> None:
    for field in fields(Settings):
        (row,) = re.findall(rf"^\|[^|]*`{field.name}`.*$", SHIPPED, re.MULTILINE)
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
