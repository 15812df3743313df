"""Trainers in real daemons: one that fails costs its node the round, and nobody else anything."""

import pytest
from conftest import FAILING
from runs import found
from trainers import FAILING_ROUND

from primep2p.control.calls.runs import RunShow
from primep2p.model.pipeline import Pipeline, TopK
from primep2p.model.views.events import LogLine, PluginFailed


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("raises", "RuntimeError: no pictures today"),
        ("nan", "values"),
    ],
)
def test_a_failing_trainer_costs_its_node_the_round(four, trainer, said):
    failing, others = four[FAILING], [daemon for daemon in four if daemon is not four[FAILING]]
    run = found(*four, rounds=5, trainer=trainer, seconds=0.5, min_updates=3)
    failed = run.event(failing, PluginFailed)
    assert failed.round == FAILING_ROUND
    assert said in failed.sentence + failed.stderr
    run.end(*four)
    told = run.certified[others[0]]
    assert failing.peer in told[FAILING_ROUND - 1].participants
    assert set(told[FAILING_ROUND].participants) == {daemon.peer for daemon in others}
    assert failing.peer in told[5].participants
    assert not any(event.void for event in told.values())
    shown = failing.call(RunShow(run=run.run)).plugin_error
    assert said in shown
    if trainer == "raises":
        assert "the microscope is not plugged in" in shown
    assert all(daemon.call(RunShow(run=run.run)).plugin_error == "" for daemon in others)


def test_who_trains_for_several_rounds_takes_part_in_a_buffered_run(four):
    """All four come to the same model, with an update that weighs less than others."""
    slow = four[FAILING]
    run = found(*four, rounds=8, trainer="slow", seconds=0.4, mode="buffered", pipeline=Pipeline(wire=TopK("0.5")))
    run.end(*four)
    told = run.certified[four[0]]
    assert not any(event.void for event in told.values())
    ages = [dict(zip(event.participants, event.staleness, strict=True)) for event in told.values()]
    assert max(age.get(slow.peer, 0) for age in ages) >= 2
    assert any(age.get(slow.peer) is None for age in ages)
    assert run.blamed(*four) == []


def test_a_trainer_that_hangs_is_stopped_and_started_anew(four):
    failing, others = four[FAILING], [daemon for daemon in four if daemon is not four[FAILING]]
    run = found(*four, rounds=8, trainer="hangs", seconds=0.7, min_updates=3)
    stopped = run.event(failing, LogLine | PluginFailed)
    said = {"reported nothing for 3 s", f"training for round {FAILING_ROUND} is stopped"}
    assert any(each in stopped.sentence for each in said)
    run.end(*four)
    told = run.certified[others[0]]
    assert failing.peer not in told[FAILING_ROUND].participants
    assert run.first_part(failing.peer, FAILING_ROUND, others[0]) <= 8
    assert not any(event.void for event in told.values())


def test_members_train_one_model_with_adam_each_in_the_framework_of_its_own(four):
    settings = {"optimiser": "adam", "features": 64, "classes": 10, "epochs": 5, "init_seed": 1}
    run = found(*four, rounds=3, trainer="mlp", settings=settings, min_updates=4)
    run.end(*four)
    told = run.certified[four[0]]
    assert [len(told[round].participants) for round in (1, 2, 3)] == [4, 4, 4]
    assert not any(event.void for event in told.values())
    assert told[3].metrics["loss"] < told[1].metrics["loss"] < 2.5
