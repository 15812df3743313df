"""A trainer that fails costs its node the round, and nobody else anything."""

import pytest
from conftest import FAILING
from trainers import FAILING_ROUND
from watched import found

from primep2p.control.calls import RunShow
from primep2p.model.views import PluginFailed


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ("raises", "RuntimeError: no pictures today"),
        ("hangs", "reported nothing for 3 s"),
        ("nan", "values"),
    ],
)
def test_a_failing_trainer_costs_its_node_the_round(four, trainer, said):
    failing, others = four[FAILING], [daemon for daemon in four if daemon is not four[FAILING]]
    # Rounds long enough for a trainer that hung to be found out and started anew before the run is over.
    run = found(*four, rounds=7, trainer=trainer, seconds=0.7, min_updates=3)
    failed = run.event(failing, PluginFailed)
    assert failed.round == FAILING_ROUND
    assert said in failed.sentence + failed.stderr
    run.end(*four)
    told = run.certified[others[0]]
    assert failing.peer in told[FAILING_ROUND - 1].participants
    assert set(told[FAILING_ROUND].participants) == {daemon.peer for daemon in others}
    assert failing.peer in told[7].participants
    assert not any(event.void for event in told.values())
    shown = failing.call(RunShow(run=run.run)).plugin_error
    assert said in shown
    if trainer == "raises":
        assert "the microscope is not plugged in" in shown
    assert all(daemon.call(RunShow(run=run.run)).plugin_error == "" for daemon in others)
