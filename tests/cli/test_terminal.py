"""`run watch` and `top` as a person sees them, at the size of an old terminal and of a large one."""

import pytest

from primep2p.model.views.events import (
    ListArrived,
    LogLine,
    PeerChanged,
    RunFinished,
    StepChanged,
    TrainingReported,
    TransferBegun,
    UpdateArrived,
    Voted,
)
from tests.cli.terminal import shown
from tests.cli.test_commands import Daemon, certified
from tests.control.fake_node import PEER, RUN

SIZES = pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])

PEERS = [f"{PEER[:-1]}{letter}" for letter in "ABCD"]

ROUND_4 = [
    StepChanged(run=RUN, round=4, view=0, step="train"),
    TrainingReported(run=RUN, round=4, step=12, steps=40, loss=0.5),
    TransferBegun(cid="bafkreigone", bytes=4 * 2**20, bytes_here=2**20, provider=PEERS[1]),
    *(UpdateArrived(run=RUN, round=4, peer=peer, delta="bafkrei", examples=9) for peer in PEERS[:3]),
    *(ListArrived(run=RUN, round=4, peer=peer, updates=3) for peer in PEERS[:3]),
    StepChanged(run=RUN, round=4, view=0, step="prevote"),
    Voted(run=RUN, round=4, view=0, step="prevote", peer=PEERS[0], header="ef"),
    Voted(run=RUN, round=4, view=0, step="prevote", peer=PEERS[1], header=""),
]


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.start()
    daemon.node.members = tuple(PEERS)
    daemon.node.more = {"rounds": [certified(number) for number in range(4)], "round": 4, "step": "train"}
    yield daemon
    daemon.stop()


def tell(daemon: Daemon, *events: object) -> None:
    daemon.token.run_sync_soon(daemon.node.emit, *events)


@SIZES
def test_a_watched_run_is_drawn_whole_and_leaves_its_rounds_when_it_is_finished(daemon, columns, rows):
    daemon.script = ROUND_4
    with shown(columns, rows, "run", "watch", home=daemon.home) as (terminal, process):
        terminal.until_all(
            f"digits  {RUN[:12]}  round 4  prevote",
            "member     update  list  prevote  commit",
            "of 4         3      3       2       0",  # a vote for none is a vote
            "…AAAAAA me   ●      ●       ●       ·",
            "…AAAAAB      ●      ●       ○       ·",
            "…AAAAAD      ·      ·       ·       ·",
            "loss 0.25  over 4 rounds",
            "accuracy 0.9123  over 4 rounds",
            "training  ███",
            " 12 of 40  loss 0.5",
            "fetching  …eigone  ███",
            " 1024 KiB of 4096 KiB from …AAAAAB",
            "     3     3/4     4/4     1.25  efefefefefef  accuracy 0.9123  loss 0.25",
            "Ctrl-C leaves; the run goes on",
        )
        tell(daemon, certified(4), LogLine(level="warning", sentence="the disk is nearly full"))
        terminal.until(lambda text: "round 5" in text and "the disk is nearly full" in text)
        tell(daemon, certified(5), RunFinished(run=RUN, round=5))
        assert terminal.until_end(process) == 0
        assert terminal.left_as_it_was
        after = terminal.written[terminal.written.rfind(b"\x1b[?1049l") :].decode()
        assert [line.split()[0] for line in after.splitlines()[1:] if line[:6].strip().isdigit()] == list("012345")
        assert "finished after round 5" in after


def test_a_watched_run_follows_the_terminals_size_and_ctrl_c_leaves_it_cleanly(daemon):
    daemon.script = ROUND_4
    with shown(80, 24, "run", "watch", home=daemon.home) as (terminal, process):
        terminal.until(lambda text: "12 of 40" in text)
        terminal.resize(200, 50)
        terminal.until(lambda text: any("loss 0.25" in row and "accuracy 0.9" in row for row in text.splitlines()[1:4]))
        terminal.until(lambda text: text.splitlines()[49:] == ["Ctrl-C leaves; the run goes on"])
        terminal.type("\x03")
        assert terminal.until_end(process) == 130
        assert terminal.left_as_it_was
        assert b"Traceback" not in terminal.written


KEYS = "1 Runs  2 Peers  3 Rounds  4 Transfers  5 Log  q Quit"


@SIZES
def test_top_shows_each_pane_whole_and_q_leaves_the_terminal_as_it_was(daemon, columns, rows):
    with shown(columns, rows, "top", home=daemon.home) as (terminal, process):
        terminal.until_all("4 of 4 members here", KEYS)
        tell(daemon, *ROUND_4, PeerChanged(peer=PEERS[3], connected=True))
        terminal.until_all(
            " node …AAAAAA  0.1.0, 50 MiB at the start, 2 peers connected",
            "updates 3, lists 3, prevotes 2, precommits 0",
            "loss 0.25  over 4 rounds",
            KEYS,
        )
        terminal.type("2")
        terminal.until(lambda text: f"{PEERS[3]}  here   digits" in text)
        terminal.type("3")
        terminal.until(
            lambda text: (
                [row.split()[0] for row in text.splitlines() if "accuracy 0.9123  loss 0.25" in row] == [*"3210"]
            )
        )
        terminal.type("4")
        terminal.until_all("fetching  …eigone  ███", " 1024 KiB of 4096 KiB from …AAAAAB")
        terminal.type("5")
        terminal.until(lambda text: "round 4 view 0: a prevote of …AAAAAB, for none" in text)
        terminal.type("q")
        assert terminal.until_end(process) == 0
        assert terminal.left_as_it_was
        assert b"Traceback" not in terminal.written


def test_top_says_that_the_daemon_is_gone_and_goes_on_when_it_is_back(tmp_path):
    def start(members: int) -> Daemon:
        daemon = Daemon(tmp_path)
        daemon.start()
        daemon.node.members = tuple(PEERS[:members])
        return daemon

    first = start(4)
    with shown(80, 24, "top", home=tmp_path) as (terminal, process):
        try:
            terminal.until(lambda text: "4 of 4 members here" in text)
        finally:
            first.stop()
        terminal.until(lambda text: "waiting for the daemon: " in text.splitlines()[0])
        second = start(3)
        try:
            terminal.until(lambda text: " node …AAAAAA" in text and "3 of 3 members here" in text)
            terminal.type("q")
            assert terminal.until_end(process) == 0
        finally:
            second.stop()
