"""What is drawn of a run: from events alone, and always as large as the terminal is."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from primep2p.cli.live.chart import bar, curve
from primep2p.cli.live.draw import frame
from primep2p.cli.live.scene import Scene
from primep2p.model.views.events import (
    Accused,
    Evaluated,
    LogLine,
    MemberJoined,
    MemberLeft,
    RoundCertified,
    StepChanged,
    TransferBegun,
    TransferDone,
    UpdateArrived,
    Voted,
)
from tests.control.fake_node import PEER, RUN, detail, member

PEERS = [f"{PEER[:-2]}{number:02}" for number in range(40)]

VALUES = st.lists(st.none() | st.floats(), max_size=80)


@given(VALUES, st.integers(1, 40), st.integers(1, 12))
@example([1.7e308, -1.7e308], 5, 3)
@example([float("nan"), float("inf")], 5, 3)
def test_a_curve_has_its_size_and_dots_where_there_are_values(values, width, height):
    rows = curve(values, width, height)
    assert [len(row) for row in rows] == [width] * height
    assert all(0x2800 <= ord(cell) <= 0x28FF for row in rows for cell in row)
    has_dots = any(cell != "\u2800" for row in rows for cell in row)
    assert has_dots == any(value is not None and math.isfinite(value) for value in values)


def test_a_curve_that_falls_goes_from_the_upper_left_to_the_lower_right():
    rows = curve([3.0, 2.0, 1.0, 0.0], 4, 2)
    assert rows == ["⠑⢄⠀⠀", "⠀⠀⠑⢄"]


@given(st.floats(allow_nan=False), st.integers(1, 60))
def test_a_bar_has_its_width_and_is_full_at_one_only(share, width):
    drawn = bar(share, width)
    assert len(drawn) == width
    assert drawn != "█" * width or share > 1 - 1 / (8 * width)


def certified(round: int, **metrics: float) -> RoundCertified:
    return RoundCertified(
        run=RUN, round=round, header="ef" * 32, params="bafkrei", participants=PEERS[:3], signers=PEERS[:3],
        roster=PEERS[:4], metrics=metrics, void="", view=0, seconds=1.0, staleness=[0] * 3,
    )  # fmt: skip


def scene(members: int = 4, rounds: int = 3) -> Scene:
    known = [certified(number, loss=1 / (number + 1), accuracy=0.5) for number in range(rounds)]
    views = [member(peer) for peer in PEERS[:members]]
    return Scene(detail(members=views, rounds=known, round=rounds, head_round=rounds - 1, name="d" * 90), PEERS[0])


@given(st.integers(30, 220), st.integers(10, 70), st.integers(1, 40), st.integers(0, 60), st.integers(0, 9))
@example(80, 24, 4, 3, 2)
@example(200, 50, 40, 60, 9)
def test_a_frame_is_as_large_as_the_terminal_and_no_line_is_longer(width, height, members, rounds, more):
    it = scene(members, rounds)
    for number in range(more):
        it.apply(TransferBegun(cid=f"bafkrei{number:06}", bytes=2**30, bytes_here=2**20, provider=PEERS[1]))
        it.apply(Accused(run=RUN, peer=PEERS[2], reason="x" * 300))
        it.apply(LogLine(level="error", sentence="y\x1b[2Jy\n" * 40))
    lines = frame(it, width, height, 100.0).split("\n", allow_blank=True)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)
    assert lines[-1].plain == "Ctrl-C leaves; the run goes on"[:width]
    assert "\x1b" not in "".join(line.plain for line in lines)


def test_what_members_did_is_of_the_round_and_view_under_way():
    it = scene()
    it.apply(UpdateArrived(run=RUN, round=3, peer=PEERS[1], delta="x", examples=1))
    it.apply(Voted(run=RUN, round=3, view=0, step="prevote", peer=PEERS[1], header=""))
    assert (it.parts[PEERS[1]].update, it.parts[PEERS[1]].prevote) == (True, "")
    it.apply(StepChanged(run=RUN, round=3, view=1, step="propose"))
    it.apply(Voted(run=RUN, round=3, view=0, step="precommit", peer=PEERS[1], header="ef"))
    assert (it.parts[PEERS[1]].update, it.parts[PEERS[1]].prevote, it.parts[PEERS[1]].precommit) == (True, None, None)
    it.apply(certified(3, loss=0.1))
    assert (it.round, it.parts) == (4, {})
    it.apply(UpdateArrived(run=RUN, round=3, peer=PEERS[2], delta="x", examples=1))
    assert it.parts == {}, "it came too late to count"
    it.apply(UpdateArrived(run=RUN, round=4, peer=PEERS[2], delta="x", examples=1))
    assert it.parts[PEERS[2]].update


def test_a_metric_that_the_group_did_not_certify_is_this_nodes_own():
    it = scene(rounds=0)
    for number in (1, 2):
        it.apply(certified(number, loss=1 / number))
    it.apply(Evaluated(run=RUN, round=2, metrics={"accuracy": 0.75}))
    assert it.metrics == ["loss", "accuracy"]
    assert it.metric("loss") == [1.0, 0.5]
    assert it.metric("accuracy") == [None, 0.75]


def test_members_come_and_go_and_transfers_end():
    it = scene(members=2, rounds=1)
    it.apply(MemberJoined(run=RUN, round=1, peer=PEERS[7]))
    it.apply(MemberLeft(run=RUN, round=1, peer=PEERS[1], reason="dropped"))
    assert list(it.members) == [PEERS[0], PEERS[7]]
    assert "dropped" in it.notes[-1][1]
    it.apply(TransferBegun(cid="a", bytes=10, bytes_here=0, provider=PEERS[1]))
    it.apply(TransferDone(cid="a", bytes=10, providers=[PEERS[1]], seconds=0.5))
    assert not it.transfers.moving
    assert [(each.cid, each.bytes_here, each.state) for each in it.transfers.over] == [("a", 10, "0.50 s")]
