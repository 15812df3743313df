"""Commands about what this node does in a run, and what people see of it."""

import json

import pytest

from primep2p.cli.render.standings import ends
from primep2p.control.calls.speed import SpeedMeasure
from primep2p.control.calls.standings import RunLeave, RunPause, RunResume
from primep2p.model.views.runs import EndView
from tests.cli.test_commands import Daemon, command, daemon  # noqa: F401  fixtures
from tests.control.fake_node import PEER, RUN, detail

SHORT = RUN[:12]


@pytest.mark.parametrize("call", [RunLeave, RunPause, RunResume])
def test_what_it_does_changes_something(call):
    assert call.access == "write"


def test_who_leaves_is_told_whom_it_takes_and_how_to_go_without_them(command, daemon):  # noqa: F811
    code, out, _ = command("run", "leave", "ab")
    assert code == 0
    assert out.splitlines()[:2] == [
        f"leaving digits ({SHORT}): this node votes until a checkpoint has left it out",
        f"that takes members who are not connected: {PEER}",
    ]
    assert f"run leave {SHORT}" in out
    assert "1 member cannot go on: a round takes 2 updates" in out
    assert command("run", "leave", "ab", "--now")[1].splitlines()[0] == f"left digits ({SHORT})"
    assert daemon.node.standings.asked == [("leave", "ab"), ("leave", "ab", "now")]
    assert json.loads(command("run", "leave", "ab", "--json")[1])["phase"] == "leaving"


def test_pause_and_resume_say_how_it_goes_on(command, daemon):  # noqa: F811
    assert "run resume" in command("run", "pause", "ab")[1]
    assert command("run", "resume", "ab")[1] == f"resumed in digits ({SHORT})\n"
    assert daemon.node.standings.asked == [("pause", "ab"), ("resume", "ab")]


def test_show_says_what_ends_a_run_and_why_this_node_rests(command, daemon):  # noqa: F811
    daemon.node.more = {"rests": "its owner has paused it"}
    out = command("run", "show", "ab")[1]
    assert "ends      never by itself\n" in out
    assert "rests     its owner has paused it\n" in out


NEVER = EndView(rounds=0, metric="", at_least=None, at_most=None, newest=None, until=0.0, ended="")


def test_what_ends_a_run_is_told_with_how_far_it_is():
    end = EndView(rounds=20, metric="accuracy", at_least=0.95, at_most=None, newest=0.87, until=1e9, ended="")
    told = ends(detail(ends=end), 1e9 - 7200)
    assert told.startswith("after round 20 (2 done), or when most updates claim accuracy of at least 0.95 (0.87 on ")
    assert told.endswith("(in 2 h 0 min)")
    assert ends(detail(ends=end), 1e9 + 1).endswith("(which is over)")
    below = EndView(rounds=0, metric="loss", at_least=None, at_most=0.1, newest=None, until=0.0, ended="")
    assert ends(detail(ends=below), 0.0) == "when most updates claim loss of at most 0.1"


@pytest.mark.parametrize(
    ("ended", "told"),
    [("rounds", "its rounds are over"), ("time", "its time is over"), ("metric", "its target is met")],
)
def test_of_a_run_that_is_over_it_is_told_why(ended, told):
    end = EndView(rounds=20, metric="loss", at_least=None, at_most=0.1, newest=0.05, until=1.0, ended=ended)
    assert ends(detail(ends=end), 5.0) == told


def test_a_speed_test_tells_both_directions(command, daemon):  # noqa: F811
    assert SpeedMeasure.access == "write"
    assert command("speedtest", PEER)[1] == f"with {PEER}\nup    12.35 Mbit/s\ndown  50 Mbit/s\n"
    assert json.loads(command("speedtest", "--json")[1])["up_mbps"] == 12.3456


def test_watching_a_run_that_this_node_has_left_ends_at_once(command, daemon):  # noqa: F811
    daemon.node.phase = "left"
    code, out, _ = command("run", "watch", "ab")
    assert code == 0
    assert "left after round 2\n" in out
