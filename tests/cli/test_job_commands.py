"""The commands of a loop that is a shell's."""

import json
import os

import pytest

from primep2p.cli.main import main
from primep2p.control.calls.jobs import PIECE_BYTES
from primep2p.control.calls.runs import RunCreate, RunJoin
from primep2p.model.views.jobs import JobRejected
from tests.cli.test_commands import Daemon
from tests.control.fake_jobs import JOB, PARAMS, RUN


@pytest.fixture
def daemon(tmp_path):
    served = Daemon(tmp_path / "home")
    (tmp_path / "home").mkdir()
    served.start()
    yield served
    served.stop()


@pytest.fixture
def command(daemon, capsys):
    """Runs a command: its exit code, what it printed, and its errors."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--home", str(daemon.home)])
        return (ended.value.code or 0, *capsys.readouterr())

    return run


def test_the_next_job_is_shown_with_all_that_a_shell_needs(command, daemon):
    daemon.node.jobs.path = "/params.safetensors"
    code, out, _ = command("job", "next", RUN[:8], "--wait-s", "20", "--worker", "night")
    assert code == 0
    assert out.splitlines() == [
        f"job       {JOB}",
        "round     4, 59.5 s left",
        "params    /params.safetensors",
        "seed      7",
        "config    epochs = 2",
    ]
    assert daemon.node.jobs.asked == [(RUN[:8], "night", 20.0)]
    told = json.loads(command("job", "next", RUN, "--json")[1])
    assert (told["answer"], [each["name"] for each in told["tensors"]]) == ("accepted", ["w", "b"])


@pytest.mark.parametrize(("retry_after_s", "expected", "hint"), [(2.5, 3, "ask again in 2.5 s"), (None, 4, "")])
def test_where_there_is_no_job_the_exit_code_says_whether_to_ask_again(command, daemon, retry_after_s, expected, hint):
    daemon.node.jobs.rejected = JobRejected(
        run=RUN, reason="finished", sentence="no job for you", retry_after_s=retry_after_s
    )
    code, out, err = command("job", "next", RUN)
    assert (code, out) == (expected, "")
    assert "no job for you" in err
    assert hint in err
    code, out, _ = command("job", "next", RUN, "--json")
    assert code == expected
    assert json.loads(out)["retry_after_s"] == retry_after_s


def test_params_come_by_pieces_into_a_file_or_as_lines(command, daemon, tmp_path):
    code, out, _ = command("job", "params", JOB, "--out", str(tmp_path / "params"))
    assert (code, out) == (0, f"{tmp_path / 'params'}: {len(PARAMS)} bytes\n")
    assert (tmp_path / "params").read_bytes() == PARAMS
    assert [asked[1] for asked in daemon.node.jobs.asked] == [0, PIECE_BYTES, 2 * PIECE_BYTES]
    lines = [json.loads(line) for line in command("job", "params", JOB, "--json")[1].splitlines()]
    assert [line["offset"] for line in lines] == [0, PIECE_BYTES, 2 * PIECE_BYTES]
    assert "--out" in command("job", "params", JOB)[2]
    assert command("job", "params", JOB, "--out", str(tmp_path / "no" / "where"))[0] == 2


def test_a_report_says_how_long_there_is_still(command, daemon):
    assert command("job", "report", JOB, "3", "--steps", "9", "--loss", "0.5")[1] == f"{JOB}: 30.2 s left\n"
    assert daemon.node.jobs.asked == [(JOB, 3, 9, 0.5)]
    assert json.loads(command("job", "report", JOB, "4", "--json")[1])["left_s"] == 30.25


@pytest.mark.parametrize("upload", [False, True])
def test_an_update_is_named_or_sent(command, daemon, tmp_path, monkeypatch, upload):
    (tmp_path / "mine").write_bytes(PARAMS)
    monkeypatch.chdir(tmp_path)
    numbers = ["--metric", "loss=0.5", "--metric", "accuracy=1", "--evaluated", "loss=2e-1"]
    options = [*numbers, *(["--upload"] if upload else ["--delta"])]
    code, out, err = command("job", "submit", JOB, "mine", "--examples", "12", *options)
    assert (code, out) == (0, f"{JOB}: taken, an update by 12 examples after 2.5 s\n"), err
    assert daemon.node.jobs.uploaded == PARAMS
    path, kind = ("", "params") if upload else (os.fspath(tmp_path / "mine"), "delta")
    assert daemon.node.jobs.asked[-1] == (path, kind, 12, {"loss": 0.5, "accuracy": 1.0}, {"loss": 0.2})


def test_what_is_refused_ends_the_command_with_the_reason(command, tmp_path):
    (tmp_path / "mine").write_bytes(PARAMS)
    for words in (["report", "old", "1"], ["params", "old", "--out", str(tmp_path / "out")]):
        code, _, err = command("job", *words)
        assert (code, "stale: round 3 is not under way: ask for the next job" in err) == (4, True)
    for words in ([], ["--upload"]):
        assert command("job", "submit", "old", str(tmp_path / "mine"), "--examples", "1", *words)[0] == 4
    odd = command("job", "submit", JOB, str(tmp_path / "mine"), "--examples", "1", "--metric", "loss")
    assert "'loss' is not NAME=VALUE with a number" in odd[2]
    assert command("job", "submit", JOB, str(tmp_path / "gone"), "--examples", "1", "--upload")[0] == 2


def test_a_run_is_joined_and_created_for_a_loop_of_ones_own(command, daemon, tmp_path):
    assert RunJoin(run=RUN).own_loop is RunCreate().own_loop is False
    daemon.node.more = {"own_loop": True}
    code, out, _ = command("run", "join", RUN, "--own-loop")
    assert code == 0
    assert f"take its jobs with: primep2p job next {RUN[:12]} --wait-s 60 --home {daemon.home}" in out
    assert daemon.node.own_loops == [RUN]
    (tmp_path / "run.toml").write_text('name = "x"\ntrainer = "jobs"\nparams = "init.safetensors"\n')
    code, out, _ = command("run", "create", str(tmp_path / "run.toml"))
    assert "take its jobs with" in out
    assert daemon.node.created[-1].params == str(tmp_path / "init.safetensors")
    command("run", "create", str(tmp_path / "run.toml"), "--params", str(tmp_path / "other"))
    assert daemon.node.created[-1].params == str(tmp_path / "other")
    assert "trainer mlp (a loop of your own)" in command("run", "show", RUN)[1]
    code, _, err = command("run", "create", "--from", RUN, "--params", "x")
    assert (code, "--params is for a run that has a FILE" in err) == (4, True)
