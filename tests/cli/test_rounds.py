import msgspec
import pytest

from primep2p.cli.render.history import show_round
from primep2p.control.calls import decode_call
from primep2p.control.calls.rounds import RoundShow
from primep2p.model.errors import CallError
from primep2p.model.views.rounds import DepartureView, InclusionView, ListView, MissingView, RoundView

ONE, TWO, THREE = (f"12D3KooW{letter * 44}" for letter in "ABC")


def view(**more: object) -> RoundView:
    usual = {
        "run": "ab" * 32, "name": "digits", "round": 7, "header": "cd" * 32, "parent": "ef" * 32, "params": "bafkrei",
        "optimiser": "", "bundle": "01" * 32, "beacon": "02" * 32, "void": "", "ended": "", "view": 1,
        "committee": [ONE, TWO, THREE], "quorum": 2, "signers": [ONE, TWO], "missing": [], "lists": None,
        "seen": [ONE, TWO], "joined": [], "left": [], "blamed": [], "members": 3, "metrics": {"loss": 0.25},
        "inclusions": [
            InclusionView(
                trainer=ONE, update="03", delta="bafdelta", weight=1000, share=0.25, staleness=0, examples=None,
                metrics=None,
            )
        ],
    }  # fmt: skip
    return RoundView(**{**usual, **more})


def shown(capsys: pytest.CaptureFixture[str], **more: object) -> str:
    show_round(view(**more))
    return capsys.readouterr().out


def test_people_see_who_is_in_who_is_not_and_who_signed(capsys):
    out = shown(
        capsys,
        missing=[MissingView(trainer=TWO, reason="it was silent")],
        left=[DepartureView(peer=THREE, reason="dropped")],
        lists=[ListView(member=ONE, trainers=[ONE])],
        joined=[TWO],
    )
    assert "round     7 of digits, certified in view 1\n" in out
    assert "metrics   loss 0.25\n" in out
    assert (
        f"signed    by 2 of 3, a quorum is 2\n          {ONE}\n          {TWO}\n          {THREE} is not in the" in out
    )
    assert [ONE, "1,000", "25.0%", "bafdelta"] in [line.split() for line in out.splitlines()]
    assert f"missing   {TWO}: it was silent\n" in out
    assert f"left      {THREE}: dropped\n" in out
    assert f"list      of {ONE}: 1 update\n" in out
    assert f"joined    {TWO}\n" in out


def test_a_round_without_a_model_and_the_last_one_say_so(capsys):
    assert "in view 1, without a model: too few updates\n" in shown(capsys, void="too few updates", inclusions=[])
    assert "in view 1, the last: its rounds are done\n" in shown(capsys, ended="rounds")


def test_what_the_trainer_said_of_an_update_is_shown_where_it_is_known(capsys):
    told = InclusionView(
        trainer=ONE, update="03", delta="bafdelta", weight=1, share=1.0, staleness=0, examples=1, metrics={"loss": 2}
    )
    assert "loss 2" in shown(capsys, inclusions=[told], metrics={})


def test_how_late_updates_were_is_shown_where_one_was(capsys):
    late = msgspec.structs.replace(view().inclusions[0], staleness=2)
    assert "2 rounds" in shown(capsys, inclusions=[late])
    assert "late" not in shown(capsys)


def test_a_round_before_the_first_is_not_asked_for():
    assert decode_call("round.show", b'{"run": "ab"}') == RoundShow(run="ab", round=-1)
    with pytest.raises(CallError, match=r"params\.round must be an integer >= -1"):
        decode_call("round.show", b'{"run": "ab", "round": -2}')
