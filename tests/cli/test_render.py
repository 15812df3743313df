import io
import json
import logging
import sys
import time

import msgspec
import pytest
import structlog

from primep2p.cli.daemon.logs import configure_logs
from primep2p.cli.daemon.logtail import follow, readable
from primep2p.cli.demo.screen import Screen
from primep2p.cli.main import print_error
from primep2p.cli.render.node import show_peers
from primep2p.cli.render.printing import print_json
from primep2p.cli.render.rounds import RoundTable
from primep2p.cli.render.runs import show_joined, show_run, show_runs
from primep2p.config import LogSection
from primep2p.model.errors import PeerError, PluginError
from primep2p.model.views.events import Accused, Evaluated, LogLine, PluginFailed, RoundCertified
from primep2p.model.views.node import PeerView
from primep2p.model.views.runs import RunSummary
from tests.control.fake_node import detail, member

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b2J\x7f\u202eb\nquorum    1"
"""Clears a terminal in two ways, renames its window, writes backwards, and begins a line of its own."""

SUMMARY = RunSummary(
    run="ab" * 32,
    name=HOSTILE,
    phase="running",
    round=3,
    head="cd" * 32,
    params="b",
    members=4,
    connected=3,
    rests=HOSTILE,
    note=HOSTILE,
)
CERTIFIED = RoundCertified(
    round=1, header="ef" * 32, params="b", participants=[], staleness=[], signers=[], roster=[],
    metrics={HOSTILE: 0.5}, void="", view=0, seconds=1.0,
)  # fmt: skip
DETAIL = detail(
    name=HOSTILE, trainer=HOSTILE, members=[member("p")], rounds=[CERTIFIED], accusations=[HOSTILE],
    plugin_error=f"{HOSTILE}\nlast words", obstacle=HOSTILE, rests=HOSTILE,
)  # fmt: skip
EVENTS = [
    CERTIFIED,
    msgspec.structs.replace(CERTIFIED, void=HOSTILE),
    Accused(peer="p", reason=HOSTILE),
    Evaluated(round=1, metrics={HOSTILE: None}),
    LogLine(level="warning", sentence=HOSTILE),
    PluginFailed(round=1, sentence=HOSTILE, stderr=HOSTILE),
]


def show_events() -> None:
    table = RoundTable(verbose=True)
    for event in EVENTS:
        table.add(event)


def show_log() -> None:
    print(readable(json.dumps({"timestamp": "2030-01-01T00:00:00", "level": "info", "event": "e", "name": HOSTILE})))
    print(readable(HOSTILE))


@pytest.mark.parametrize(
    "show",
    [
        lambda: show_runs([SUMMARY], "primep2p run create"),
        lambda: show_joined(DETAIL, "primep2p run watch", "primep2p job next"),
        lambda: show_run(DETAIL, f"/{HOSTILE}"),
        lambda: show_peers([PeerView(peer="p", connected=True, runs=[], faults=[HOSTILE])]),
        lambda: print_error(PeerError(HOSTILE, hint=HOSTILE)),
        lambda: print_error(PluginError(HOSTILE, stderr=HOSTILE)),
        lambda: print_json(DETAIL),
        show_events,
        show_log,
    ],
    ids=["runs", "joined", "run", "peers", "error", "trainer", "json", "events", "log"],
)
def test_words_of_peers_do_not_drive_the_terminal(show, capsys):
    show()
    shown = "".join(capsys.readouterr())
    assert "[2J" in shown
    assert "\x1b" not in shown
    assert all(character.isprintable() or character in "\n\u202e" for character in shown)
    assert not [line for line in shown.splitlines() if line.startswith("quorum    1")]


def test_words_of_peers_do_not_drive_the_demos_screen(capsys):
    with Screen(1, 1, verbose=True, quiet=False) as screen:
        screen.say(f"node 0 accuses p: {HOSTILE}")
    shown = capsys.readouterr().out
    assert "[2J" in shown
    assert all(map(str.isprintable, shown.splitlines()))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [76, 80, 200])
def test_a_peer_id_is_whole_on_a_terminal_however_narrow_the_others_get(monkeypatch, columns):
    terminal, peer = Terminal(), "12D3KooW" + "A" * 44
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    show_peers([PeerView(peer=peer, connected=True, runs=["ab" * 32, "cd" * 32], faults=["two votes (1)"])])
    long = member(peer, since=12_345, missed=123)
    show_run(msgspec.structs.replace(DETAIL, members=[long], rounds=[]), "")
    lines = terminal.getvalue().splitlines()
    assert [line.split()[0] for line in lines if peer in line] == [peer, "accused", "waits", peer]
    assert "ab" * 6 in terminal.getvalue()
    assert "cd" * 6 in terminal.getvalue()
    assert columns < 80 or "awaited" in terminal.getvalue()


def test_every_clock_is_local_and_a_log_omits_what_is_empty(monkeypatch, capsys):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        logged = {"timestamp": "1970-01-01T00:00:01.234567Z", "level": "info", "event": "certified", "void": ""}
        assert readable(json.dumps(logged)) == "1970-01-01 05:30:01.234 info    certified"
        RoundTable(verbose=True).add(LogLine(level="info", sentence="so", at_s=1.234567))
        assert capsys.readouterr().out == "  05:30:01.234 so\n"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
def logging_as_it_was():
    root, raises = logging.getLogger(), logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_as_it_was")
def test_words_of_peers_do_not_drive_the_terminal_of_a_daemon_in_the_foreground(tmp_path, capsys):
    configure_logs(tmp_path, LogSection(), console=True)
    structlog.get_logger("primep2p.node").warning("accused", reason=HOSTILE)
    shown = capsys.readouterr().err
    assert "[2J" in shown
    assert shown == readable((tmp_path / "daemon.log").read_text()) + "\n"
    assert all(map(str.isprintable, shown.splitlines()))


@pytest.mark.usefixtures("logging_as_it_was")
def test_the_log_goes_on_in_new_files_keeps_some_and_is_followed_across_them(tmp_path):
    configure_logs(tmp_path, LogSection(file_mib=1, keep_files=2), console=False)
    log = structlog.get_logger("primep2p.node")
    log.info("first")
    lines = follow(tmp_path / "daemon.log", 1)
    assert json.loads(next(lines))["event"] == "first"
    for number in range(50):
        log.info("full", number=number, words="x" * 100_000)
        assert json.loads(next(lines))["number"] == number
    files = sorted(tmp_path.glob("daemon.log*"))
    assert [file.name for file in files] == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    assert all(file.stat().st_size <= 2**20 for file in files)


def test_a_buffered_run_says_what_a_round_takes_and_how_late_each_update_was(capsys):
    show_run(detail(mode="buffered", wanted_updates=3, max_staleness=8), "")
    assert "buffered  a round takes 3 updates and what else is there; an update counts up to 8 rounds late\n" in (
        capsys.readouterr().out
    )
    table = RoundTable()
    table.add(msgspec.structs.replace(CERTIFIED, participants=["p", "q"], staleness=[0, 2], metrics={"loss": 1}))
    assert capsys.readouterr().out.endswith("staleness 0 2  loss 1\n")
