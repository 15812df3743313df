import signal
import subprocess
import sys

import pytest
from runs import found

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.control.calls.runs import RunJoin, RunList, RunShow
from primep2p.model.pipeline import Bfloat16, Int8, Pipeline, TopK


def test_four_daemons_train_the_digits_to_the_end_with_equal_heads(four):
    settings = {"hidden": [32], "features": 64, "classes": 10}
    run = found(*four, rounds=4, trainer="mlp", settings=settings, min_updates=3)
    run.end(*four)
    told = run.certified[four[1]]
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert set(told[0].signers) == {daemon.peer for daemon in four}
    assert all(not event.void and len(event.participants) >= 3 for round, event in told.items() if round)
    assert told[4].metrics["loss"] < told[1].metrics["loss"]


@pytest.mark.parametrize("wire", [Bfloat16(), Int8(), TopK("0.05")], ids=lambda wire: type(wire).__name__)
def test_the_digits_are_learnt_in_whatever_form_deltas_travel(four, wire):
    settings = {"hidden": [32], "features": 64, "classes": 10, "epochs": 3}
    run = found(*four, rounds=6, trainer="mlp", settings=settings, min_updates=3, pipeline=Pipeline(wire=wire))
    run.end(*four)
    told = run.certified[four[0]]
    assert not any(event.void for event in told.values())
    assert told[6].metrics["loss"] < 0.7 * told[1].metrics["loss"]


def test_the_run_goes_on_without_its_creator(four):
    creator, *others = four
    run = found(*four, rounds=6, seconds=0.2, min_updates=3)
    run.until_round(2, others[0])
    creator.kill()
    run.end(*others)
    assert creator.peer not in run.certified[others[0]][6].participants
    assert not any(event.void for event in run.certified[others[0]].values())


def test_one_who_joins_with_a_pin_takes_part_within_two_rounds(four, swarm):
    fifth = swarm.daemons[4]
    if not fifth.alive:
        swarm.start(fifth)
        swarm.until_connected()
    run = found(*four, rounds=10, seconds=0.8)
    run.until_round(2, four[0])
    pin = four[0].call(RunShow(run=run.run)).pin
    fifth.call(RunJoin(run=pin))
    run.follow(fifth)
    joined_at = run.newest(four[0])
    # In the round under way it is too late to be heard of, in the next it is let in, in the one after it trains.
    assert run.first_part(fifth.peer, joined_at, four[0]) <= joined_at + 3
    run.end(*four, fifth)
    assert fifth.peer in run.certified[four[0]][10].roster


def test_one_who_knows_a_single_member_joins_at_once_without_a_pin_and_without_the_creator(tmp_path):
    with Swarm(tmp_path, [Settings()] * 4) as swarm:
        creator, known, other, late = swarm.daemons
        swarm.start(creator, known, other)
        swarm.until_connected()
        run = found(creator, known, other, rounds=0, trainer="noop", seconds=0.2)
        run.until_round(2, known, other)
        creator.kill()
        run.until_round(run.newest(known) + 1, known, other)
        late.configure([f"{known.address}/p2p/{known.peer}"])
        swarm.start(late)  # it may have met nobody yet
        late.call(RunJoin(run=run.run))
        run.follow(late)
        run.first_part(late.peer, run.newest(known), known)


def test_a_wrong_pin_is_refused_with_one_sentence(four, swarm):
    fifth = swarm.daemons[4]
    run = found(*four, rounds=2)
    run.end(*four)
    if not fifth.alive:
        swarm.start(fifth)
        swarm.until_connected()
    wrong = f"{run.run}@1:{'ab' * 32}"
    command = [sys.executable, "-m", "primep2p.cli.main", "run", "join", wrong, "--home", str(fifth.home)]
    joined = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert joined.returncode == 3
    assert joined.stdout == ""
    assert "\nprimep2p: nobody that this node can reach has checkpoint 1 with that hash\n" in joined.stderr
    assert all(each.run != run.run for each in fifth.call(RunList()))
    fifth.signal(signal.SIGTERM)
    assert fifth.wait(5) == 0
