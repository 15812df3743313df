"""`primep2p plan`: from functions in a file to a plan that somebody else can look at, check and start a run with."""

import json
import os
from pathlib import Path

import pytest

from primep2p.cli.main import main
from primep2p.model.errors import ConfigError
from primep2p.model.plans import MAX_PLAN_BYTES
from primep2p.run_config import load_run
from tests.wire.graphs import sealed

EXAMPLE = Path(__file__).parents[2] / "examples" / "plan.py"


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """What a command prints; its error where it fails."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    told = capsys.readouterr()
    assert ended.value.code == code, told.err
    return told.err if code else told.out


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's plan, in a home of its own."""
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    home = tmp_path_factory.mktemp("home")
    with pytest.raises(SystemExit) as ended:
        main(["plan", "export", f"{EXAMPLE}:Digits", "-o", str(home / "digits.plan"), "--home", str(home), "--json"])
    assert ended.value.code == 0
    return home / "digits.plan"


def test_what_is_exported_is_shown_to_others_without_running_it(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = json.loads(said(capsys, "plan", "show", exported, "--home", exported.parent, "--json"))
    assert (view["name"], view["trusted"], view["rows"], view["cid"]) == ("digits", True, 0, "")
    assert view["batch"] == {"x": "float32[64]", "y": "int32[]"}
    assert view["settings"] == {"learning_rate": 0.1, "momentum": 0.9}
    assert sorted(view["graphs"]) == ["evaluate", "init", "predict", "train"]
    told = said(capsys, "plan", "show", exported, "--home", tmp_path)
    assert f"{view['owner']}, whom this node does not trust" in told
    assert "ScatterAxis 1" in told
    assert not (tmp_path / "identity.key").exists(), "looking at a file makes no key"


@pytest.mark.alone
def test_a_plan_is_checked_by_running_it_once_in_a_trainer_s_process(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, "plan", "check", exported, "--home", exported.parent)
    assert "checked: 4 graphs ran on zeros" in told


def test_a_damaged_plan_is_refused(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = exported.read_bytes()
    for name, bad, wanted in (
        ("cut", raw[:-1], "no plan, or a damaged one"),
        ("flipped", raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "other bytes than its owner signed"),
        ("large", raw + bytes(MAX_PLAN_BYTES), "more than the"),
        ("foreign", sealed(), "not signed by its owner"),
    ):
        (tmp_path / name).write_bytes(bad)
        for command in ("show", "check"):
            assert wanted in said(capsys, "plan", command, tmp_path / name, "--home", tmp_path, code=5)
    assert "cannot read the plan" in said(capsys, "plan", "show", tmp_path / "none", "--home", tmp_path, code=2)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [("none.py:Plan", "there is no file none.py"), (f"{EXAMPLE}:Digit", "no class 'Digit' in")],
)
def test_a_source_that_is_not_there_is_named(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, wanted: str
) -> None:
    assert wanted in said(capsys, "plan", "export", source, "--home", tmp_path, code=4)


def test_the_file_of_a_run_names_its_plan_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('name = "digits"\nplan = "digits.plan"\n')
    assert load_run(tmp_path / "run.toml").plan == str(tmp_path / "digits.plan")
    for text, wanted in (("", "trainer or plan must be set"), ('plan = "p"\ntrainer = "t"', "cannot both be set")):
        (tmp_path / "run.toml").write_text(f'name = "digits"\n{text}\n')
        with pytest.raises(ConfigError, match=wanted):
            load_run(tmp_path / "run.toml")
