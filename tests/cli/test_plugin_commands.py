"""The commands about trainers: two that ask a daemon, one that tries a trainer by itself, one that writes one."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from primep2p.cli.main import main
from primep2p.control.calls.plugins import PluginList, PluginLogs
from tests.cli.test_commands import Daemon
from tests.control.fake_plugins import BAD, GOOD

SAMPLES = Path(__file__).parents[1] / "plugin" / "sample_trainers.py"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command: its exit code, what it printed, and its errors."""
    monkeypatch.setenv("COLUMNS", "200")
    home = tmp_path / "home"
    home.mkdir()

    def run(*words: str) -> tuple[int, str, str]:
        code = 0
        try:
            main([*words, *([] if "new" in words else ["--home", str(home)])])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def daemon(tmp_path: Path, command: Command) -> object:
    served = Daemon(tmp_path / "home")
    served.start()
    yield served
    served.stop()


def test_trainers_are_listed_with_who_brings_them_and_why_one_does_not_load(command, daemon) -> None:
    code, out, _ = command("plugin", "list")
    assert code == 0
    assert daemon.node.plugins.asked == [(PluginList().names_only,)]
    row = next(line for line in out.splitlines() if line.startswith("mlp"))
    assert row.split() == ["mlp", "primep2p", "0.1.0", GOOD.location, "yes", "2", "yes"]
    assert BAD.problem in out
    assert "primep2p plugin check NAME --home" in out
    assert json.loads(command("plugin", "list", "--names-only", "--json")[1])[0]["name"] == "mine"
    assert daemon.node.plugins.asked[-1] == (True,)


def test_what_a_trainer_printed_is_shown_from_the_end(command, daemon) -> None:
    assert command("plugin", "logs", "mine", "--lines", "1")[:2] == (0, "two\n")
    assert command("plugin", "logs", "mine")[1] == "one\ntwo\n"
    assert daemon.node.plugins.asked == [("mine", 1), ("mine", PluginLogs(of="mine").lines)]


def findings(out: str) -> list[tuple[str, str, str]]:
    return [(found["state"], found["what"], found["said"]) for found in map(json.loads, out.splitlines())]


def test_a_good_trainer_is_said_to_be_good(command, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)))
    data = ("--data", str(tmp_path / "data.npz"))
    code, out, _ = command("plugin", "check", f"{SAMPLES}:Predicts", *data, "--json")
    told = findings(out)
    assert code == 0
    assert {state for state, _, _ in told} == {"ok"}
    assert [what for _, what, _ in told] == [
        *("load", "init", "train", "evaluate", "predict", "checkpoint", "again", "used")
    ]
    assert told[1][2] == "17 numbers (68 bytes a round): weight (3, 4), bias (4,), scale ()"
    assert told[4][2].startswith("label int64 ()")


@pytest.mark.parametrize(
    ("trainer", "settings", "told"),
    [
        ("Nobody", (), ("fault", "load", "no class 'Nobody' in ")),
        ("Wrong", ("wrong=NaN",), ("fault", "init", "tensor 'scale' has values that are not finite")),
        ("Wrong", ("wrong=dtype",), ("fault", "init", "tensor 'bias' is float64, and must be float32")),
        ("Mutates", (), ("fault", "train", "are read-only, so copy them first")),
        ("Stands", (), ("fault", "train", "the delta is zero everywhere: training changed nothing")),
        ("Halves", (), ("note", "train", "bias, scale: training did not change it")),
        ("Chance", (), ("note", "again", "the same seed gave other first params")),
        ("Chance", (), ("note", "again", "the same seed gave another delta")),
        ("Pickles", (), ("note", "pickles", "unpickled collections.OrderedDict")),
        ("Good", (), ("note", "predict", "no such method")),
        ("SavesAndMoves", ("crashes=[]",), ("ok", "checkpoint", "goes on from step 4")),
        ("Saves", ("crashes=[]",), ("fault", "evaluate", "only train can save a checkpoint")),
        ("Saves", ("crashes=[]",), ("ok", "checkpoint", "goes on from step 4")),
    ],
)
def test_what_is_odd_about_a_trainer_is_said(command, trainer: str, settings: tuple[str, ...], told) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    code, out, _ = command("plugin", "check", f"{SAMPLES}:{trainer}", *options, "--json")
    state, what, said = told
    assert any(each[:2] == (state, what) and said in each[2] for each in findings(out)), out
    assert code == (5 if any(each[0] == "fault" for each in findings(out)) else 0)


def test_a_file_that_is_no_python_is_shown_where_it_is_wrong_and_nothing_of_ours(command, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("class Half(:\n")
    code, out, _ = command("plugin", "check", f"{tmp_path}/half.py:Half")
    assert (code, "class Half(:" in out, "SyntaxError" in out) == (5, True, True)
    assert "worker.py" not in out
    assert "importlib" not in out


def test_a_path_that_names_no_class_or_no_file_is_answered_with_how_to_write_it(command, tmp_path: Path) -> None:
    code, _, err = command("plugin", "check", str(SAMPLES))
    assert code == 2
    assert err.endswith(f"write: primep2p plugin check {SAMPLES}:CLASS\n")
    for words in ("nowhere.py:Half", "nowhere.py"):
        code, _, err = command("plugin", "check", words)
        assert (code, "there is no file nowhere.py" in err) == (2, True)


def test_settings_come_from_a_run_and_from_words(command, tmp_path: Path) -> None:
    run = tmp_path / "run.toml"
    run.write_text('name = "x"\ntrainer = "noop"\n[trainer_config]\nelements = 5\nseconds = 0\n')
    out = command("plugin", "check", "noop", "--run", str(run))[1]
    assert "5 numbers" in out
    assert "7 numbers" in command("plugin", "check", "noop", "--run", str(run), "--set", "elements=7")[1]
    code, _, err = command("plugin", "check", "noop", "--set", "elements")
    assert (code, "--set elements: is not of the form KEY=VALUE" in err) == (2, True)


def test_a_trainer_that_hangs_is_stopped_at_the_deadline(command) -> None:
    code, out, _ = command("plugin", "check", "noop", "--set", "seconds=60", "--deadline-s", "1")
    assert code == 5
    assert "fault train       trainer noop reported nothing for 1 s" in out or "not done by its deadline" in out


def test_a_new_package_passes_the_check_that_it_names_and_its_own_test(command, tmp_path: Path) -> None:
    code, out, _ = command("plugin", "new", "tide-tables", "--dir", str(tmp_path / "tides"))
    assert code == 0
    words = out.splitlines()[-1].removeprefix("try it with: primep2p ").split()
    code, out, _ = command(*words, "--json")
    assert code == 0
    assert {state for state, _, _ in findings(out)} == {"ok"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path / "tides",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "tides")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout
    assert command("plugin", "new", "tide-tables", "--dir", str(tmp_path / "tides"))[0] == 2


@pytest.mark.alone
@pytest.mark.skipif(not importlib.util.find_spec("setuptools"), reason="building without a network needs setuptools")
def test_a_new_package_installs_and_is_found_by_its_name(command, tmp_path: Path) -> None:
    command("plugin", "new", "tides", "--dir", str(tmp_path / "tides"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / "tides")], check=True, capture_output=True)
    home = ["--home", str(tmp_path / "home"), "--data", str(tmp_path / "tides" / "example.npz")]
    ran = subprocess.run(
        [sys.executable, "-m", "primep2p.cli.main", "plugin", "check", "tides", *home],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ["", "Tides", "tide tables", "../tides", "1st", "a" * 65])
def test_a_name_that_no_package_has_is_refused(command, name: str) -> None:
    assert command("plugin", "new", name)[0] == 2
