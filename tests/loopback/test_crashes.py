"""Nothing certified is lost: kill -9 at any instant, restart on the same home, and the node goes on."""

from pathlib import Path

from runs import found

from primep2p.cli.swarm.watched import eventually
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.rounds import RoundShow
from primep2p.control.calls.runs import RunShow
from primep2p.model.views.events import TrainingReported


def test_a_killed_node_resumes_and_takes_part_again_within_two_rounds(four, swarm):
    *others, victim = four
    run = found(*four, rounds=12, seconds=1.0)
    run.until_round(2, *four)
    victim.kill()
    run.until_round(3, others[0])
    heard = len(run.events)
    swarm.start(victim)
    run.follow(victim)
    # From when its trainer is up again, which the others do not wait for.
    run.event(victim, TrainingReported, since=heard)
    under_way = run.newest(others[0]) + 1
    assert run.first_part(victim.peer, under_way - 1, others[0]) <= under_way + 2
    run.end(*four)


def test_a_long_training_goes_on_after_a_restart_from_what_its_trainer_saved(four, swarm):
    other, victim = four[:2]
    run = found(other, victim, rounds=2, trainer="saves", settings={"steps": 25}, min_updates=2, min_members=2)

    def is_half_done() -> bool:
        told = [event for who, event in run.events if who is victim and isinstance(event, TrainingReported)]
        return any(event.round == 1 and event.step >= 10 for event in told)

    run.until(is_half_done)
    victim.kill()
    swarm.start(victim)
    run.follow(victim)
    run.end(other, victim)
    told = run.certified[other]
    assert set(told[1].participants) == {other.peer, victim.peer}
    assert 5 <= told[1].metrics["begun_at"] < 25  # the mean of both, of which one was not cut short
    assert told[2].metrics["begun_at"] == 0


def test_all_killed_at_once_go_on_from_where_they_were(four, swarm):
    run = found(*four, rounds=10, seconds=0.2)
    run.until_round(4, four[0])
    for daemon in four:
        daemon.kill()
    before = {daemon: dict(run.certified[daemon]) for daemon in four}
    swarm.start(*four)
    for daemon in four:
        detail = daemon.call(RunShow(run=run.run))
        assert detail.head_round >= max(before[daemon])
    run.follow(*four)
    run.end(*four)
    # `run` itself holds that each round has one header, whoever tells of it and when.
    for daemon in four:
        for round, event in before[daemon].items():
            assert daemon.call(RoundShow(run=run.run, round=round)).params == event.params
    after = set(run.certified[four[0]]) - set(before[four[0]])
    assert max(after) == 10


def test_a_node_that_was_away_for_rounds_catches_up(four, swarm):
    *others, away = four
    run = found(*four, rounds=12, seconds=0.4)
    run.until_round(1, *four)
    swarm.stop(away)
    run.until_round(6, others[0])
    swarm.start(away)
    run.follow(away)
    run.end(*four)
    # Of rounds that it missed it has the chain, though not the params.
    for round in range(2, 7):
        assert away.call(RoundShow(run=run.run, round=round)).params == run.certified[others[0]][round].params


def test_a_node_that_was_dropped_for_silence_comes_back(four, swarm):
    *others, away = four
    run = found(*four, rounds=0, seconds=0.4, min_members=3, drop_after=2)
    run.until_round(1, *four)
    swarm.stop(away)
    run.until(lambda: any(away.peer not in event.roster for event in run.certified[others[0]].values()))
    swarm.start(away)
    run.follow(away)
    run.first_part(away.peer, run.newest(others[0]), others[0])
    run.until_round(run.newest(*four) + 1, *four)
    for daemon in four:  # a run without an end goes on in no other test
        daemon.kill()


def test_damaged_params_are_fetched_again_and_nothing_certified_is_lost(four, swarm):
    victim = four[3]
    run = found(*four, rounds=8, seconds=0.5)
    run.until_round(2, *four)
    swarm.stop(victim)
    for path in (victim.home / "blobs").glob("??/*"):  # of all runs, params and deltas
        damage(path)
    swarm.start(victim)
    run.follow(victim)
    head = run.end(*four)
    paths = [daemon.call(ModelPathOf(model=run.run)).path for daemon in four]
    assert len({Path(path).read_bytes() for path in paths}) == 1
    assert head.head_round == 8


def test_damaged_params_of_a_finished_run_are_found_at_the_next_start(four, swarm):
    victim = four[3]
    run = found(*four, rounds=2)
    run.end(*four)
    path = Path(victim.call(ModelPathOf(model=run.run)).path)
    sound = path.read_bytes()
    swarm.stop(victim)
    damage(path)
    swarm.start(victim)
    eventually(lambda: Path(victim.call(ModelPathOf(model=run.run)).path).read_bytes() == sound)


def damage(path: Path) -> None:
    """A bit flips in the middle; the size stays."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(raw)
