"""`primep2p aggregate`, as a person calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from primep2p.cli.main import main

ROWS = [np.arange(6, dtype=np.float32).reshape(2, 3) * np.float32(row + 1) for row in range(5)]


def files(tmp_path: Path, rows: list[np.ndarray]) -> list[str]:
    """Files of two tensors each; those of every second one stand in another order."""
    paths = []
    for place, row in enumerate(rows):
        tensors = {"weight": row, "bias": row[0]}
        save_file(dict(reversed(tensors.items())) if place % 2 else tensors, tmp_path / f"{place}.safetensors")
        paths.append(str(tmp_path / f"{place}.safetensors"))
    return paths


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["aggregate", *arguments])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def test_a_rule_on_files_is_that_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    code, printed, _ = run([*files(tmp_path, ROWS), "--rule", "median", "-o", str(out)], capsys)
    assert code == 0
    assert printed.startswith(f"{out}: 9 values from 5 files in ")
    made = load_file(out)
    np.testing.assert_array_equal(made["weight"], ROWS[2])
    np.testing.assert_array_equal(made["bias"], ROWS[2][0])


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["--rule", "krum", "--f", "1"], [1]),
        (["--rule", "multi_krum", "--f", "1", "--m", "3"], [1, 2, 3]),
        (["--rule", "fedavg"], [0, 1, 2, 3, 4]),
        (["--rule", "median"], [0, 1, 2, 3, 4]),
    ],
)
def test_what_the_rule_has_chosen_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], chosen: list[int]
) -> None:
    paths, out = files(tmp_path, ROWS), str(tmp_path / "out.safetensors")
    told = json.loads(run([*paths, *options, "-o", out, "--json"], capsys)[1])
    assert told["entered"] == [paths[row] for row in chosen]
    said = run([*paths, *options, "-o", out], capsys)[1]
    assert said.endswith(f"; chosen: {', '.join(told['entered'])}\n") == (len(chosen) < 5)


def test_the_files_that_bulyan_left_out_are_not_among_the_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROWS[0] + np.float32(row / 100) for row in range(6)] + [ROWS[0] * np.float32(1e6)]
    paths, out = files(tmp_path, rows), str(tmp_path / "out.safetensors")
    told = json.loads(run([*paths, "--rule", "bulyan", "--f", "1", "-o", out, "--json"], capsys)[1])
    assert len(told["entered"]) == 5
    assert paths[-1] not in told["entered"]


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ([], 3.0),
        (["--examples", "1,1,1,1,6"], 4.0),
        (["--rule", "krum", "--f", "1"], 2.0),  # three are as near to their neighbours: the first
        (["--rule", "multi_krum", "--f", "1", "--m", "3"], 3.0),
        (["--rule", "trimmed_mean", "--trim-ratio", "0.4"], 3.0),
        (["--rule", "geometric_median", "--iterations", "20"], 3.0),
        (["--pre", "clip:norm=1e9", "--pre", "nnm:f=1"], 2.9),
        (["--pre", "bucketing:size=5", "--seed", "x"], 3.0),
    ],
)
def test_options_are_the_settings_of_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], factor: float
) -> None:
    out = tmp_path / "out.safetensors"
    code, printed, errors = run([*files(tmp_path, ROWS), *options, "--out", str(out), "--json"], capsys)
    assert (code, errors) == (0, "")
    assert json.loads(printed)["files"] == 5
    np.testing.assert_allclose(load_file(out)["weight"], ROWS[0] * factor, rtol=0.02)


def test_a_file_that_is_read_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, ROWS[:2])
    code, _, errors = run([*paths, "-o", str(tmp_path / "." / "0.safetensors")], capsys)
    assert code == 2
    assert "is one of the files that are read" in errors
    np.testing.assert_array_equal(load_file(paths[0])["weight"], ROWS[0])


def test_another_file_is_replaced_when_the_result_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = files(tmp_path, ROWS[:2]), tmp_path / "out.safetensors"
    out.write_text("what was there before")
    assert run([*paths, "-o", str(out)], capsys)[0] == 0
    np.testing.assert_array_equal(load_file(out)["weight"], ROWS[0] * np.float32(1.5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.safetensors", "1.safetensors", "out.safetensors"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rule", "krum", "--f", "2"], "krum with f = 2 needs 7 files (2f + 3), and there are 5"),
        (["--rule", "krmu"], "--rule must be one of fedavg, median,"),
        (["--rule", "median", "--f", "1"], "--f has no effect with median"),
        (["--rule", "trimmed_mean", "--trim-ratio", "1.5"], "--trim-ratio must be a decimal below 0.5"),
        (["--rule", "median", "--examples", "1,2,3,4,5"], "--examples has no effect with median"),
        (["--examples", "1,2"], "--examples must be 5 counts above 0"),
        (["--pre", "nnm:f=x"], "--pre nnm:f=x: f is 'x', and must be a number"),
        (["--rule", "krum", "--f", "1.5"], "--f must be an integer"),
        (["--rule", "geometric_median", "--nu", "x"], "--nu is 'x', and must be a number"),
        (["--seed", "x"], "--seed has no effect without --pre bucketing"),
        (["--pre", "clip:5"], "--pre clip:5: NAME:KEY=VALUE"),
        (["--pre", "nnm:f=1,f=2"], "--pre nnm:f=1,f=2: NAME:KEY=VALUE"),
        (["--pre", "nmm"], "--pre[0].name must be one of clip, arc, nnm, bucketing"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    out = tmp_path / "out.safetensors"
    code, _, errors = run([*files(tmp_path, ROWS), *options, "-o", str(out)], capsys)
    assert code == 2
    assert errors.startswith(f"primep2p: {sentence}"), errors
    assert not out.exists()


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"weight": np.zeros((2, 3), np.float32)}, "has no tensor 'bias'"),
        ({"weight": np.zeros((3, 2), np.float32), "bias": np.zeros(3, np.float32)}, "shape"),
        (
            {"weight": np.zeros((2, 3), np.float16), "bias": np.zeros(3, np.float32)},
            "is F16, and must be F32",
        ),
        ({"weight": np.full((2, 3), np.nan, np.float32), "bias": np.zeros(3, np.float32)}, "not finite"),
    ],
)
def test_a_file_that_is_not_like_the_others_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tensors: dict[str, np.ndarray], problem: str
) -> None:
    odd, out = tmp_path / "odd.safetensors", tmp_path / "out.safetensors"
    save_file(tensors, odd)
    code, _, errors = run([*files(tmp_path, ROWS), str(odd), "-o", str(out)], capsys)
    assert code == 2
    assert str(odd) in errors
    assert problem in errors
    assert "Traceback" not in errors
    assert not out.exists()
