"""Seven real daemons, and what happens to machines: they are killed, stop, sleep, fill up, come back from a backup."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from runs import found

from primep2p.cli.exits import EXIT_CODES
from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.cli.swarm.watched import Watched, eventually
from primep2p.control.calls.runs import RunShow
from primep2p.model.errors import StoreError

QUICK = {"propose_s": 1.0, "vote_s": 0.5}
"""Who is stopped stays connected, and is waited for."""

SLEEP_S = 60.0
STOP_S = 20.0

VOTES = ("prevote", "precommit")

BUSY_ROUNDS = 4

POOR = 6
"""The node whose disk is small."""


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Seven nodes, the last on a disk with room for a few megabytes where this machine lets tests mount one."""
    base = tmp_path_factory.mktemp("seven")
    small = base / f"node{POOR}"
    small.mkdir()
    mounted = is_mounted(small)
    plugins = {"steady": f"{Path(__file__).parent / 'trainers.py'}:Steady"}
    try:
        with Swarm(base, [Settings(plugins=plugins)] * 7) as swarm:
            yield swarm
    finally:
        if mounted:
            subprocess.run(["umount", str(small)], check=True)


def is_mounted(path: Path) -> bool:
    """Whether a small disk is there now."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)]
    return subprocess.run(mount, capture_output=True).returncode == 0


@pytest.fixture
def seven(swarm: Swarm) -> list[Daemon]:
    """All up and connected: whoever a test before has ended is started again."""
    if gone := [daemon for daemon in swarm.daemons if not daemon.alive]:
        swarm.start(*gone)
    swarm.until_connected()
    return swarm.daemons


def test_the_proposer_is_killed_in_the_middle_of_its_round_and_the_next_view_certifies_it(seven, swarm):
    run = found(*seven, rounds=6, seconds=1.0, **QUICK)
    run.until_round(2, *seven)
    detail = seven[0].call(RunShow(run=run.run))
    round, proposer = detail.head_round + 1, detail.committee[0]
    victim = next(daemon for daemon in seven if daemon.peer == proposer)
    others = [daemon for daemon in seven if daemon is not victim]
    victim.kill()
    run.until_round(round, *others)
    assert max(run.certified[daemon][round].view for daemon in others) > 0
    assert victim.peer not in run.certified[others[0]][round].signers
    assert not run.certified[others[0]][round].void
    swarm.start(victim)
    run.follow(victim)
    run.end(*seven)
    assert run.blamed(*seven) == []


def test_two_of_seven_are_killed_at_once_and_the_others_go_on(seven, swarm):
    run = found(*seven, rounds=10, seconds=0.5, **QUICK)
    *others, one, two = seven
    run.until_step(others[0], 3, "train")
    for victim in (one, two):
        victim.signal(signal.SIGKILL)
    run.until_round(5, *others)
    assert not {one.peer, two.peer} & set(run.certified[others[0]][5].participants)
    swarm.start(one, two)
    run.follow(one, two)
    run.end(*seven)
    assert not any(event.void for event in run.certified[others[0]].values())
    assert run.blamed(*seven) == []


def test_a_full_disk_ends_its_node_with_a_clear_error_until_there_is_room(seven, swarm):
    *others, poor = seven
    if not os.path.ismount(poor.home):
        pytest.skip("mounting a small disk takes root on Linux")
    run = found(*seven, rounds=10, seconds=0.5, **QUICK)
    run.until_round(2, *seven)
    ballast = poor.home / "ballast"
    fill(ballast)
    run.until_round(5, *others)
    assert poor.wait(20) == EXIT_CODES[StoreError]
    with pytest.raises(StoreError) as refused:
        swarm.start(poor)
    assert str(poor.home) in refused.value.sentence
    assert refused.value.hint == "make room on that disk"
    ballast.unlink()
    swarm.start(poor)
    run.follow(poor)
    run.end(*seven)
    assert run.blamed(*seven) == []


def test_without_a_quorum_a_run_names_whom_it_waits_for_and_a_home_from_a_backup_contradicts_nothing(
    seven, swarm, tmp_path
):
    *living, restored, one, two, three = seven
    run = found(*seven, rounds=0, seconds=0.5, **QUICK)
    run.until_round(2, *seven)
    backup = tmp_path / "backup"
    swarm.stop(restored)
    shutil.copytree(restored.home, backup, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    swarm.start(restored)
    run.follow(restored)
    _, back = takes_part(run, restored, living[0])
    run.until_round(back + 3, *seven)

    run.hear()
    run.until_step(restored, run.newest(*seven) + 1, "train")
    began_at = time.time()
    gone = {daemon.peer for daemon in (one, two, three)}
    for daemon in (one, two, three):
        daemon.kill()
    for daemon in (*living, restored):  # all have voted in the round, which four of seven cannot end
        eventually(lambda daemon=daemon: step(daemon, run) in VOTES and awaited(daemon, run) == gone)
        assert began_at < daemon.call(RunShow(run=run.run)).waiting_since < time.time()
    eventually(lambda: "\nwaits for " in shown(living[0], run))  # once it has waited for some seconds
    (line,) = [line for line in shown(living[0], run).splitlines() if line.startswith("waits for ")]
    assert gone <= set(line.replace(",", "").split())
    assert " since 2" in line

    restored.kill()
    shutil.rmtree(restored.home)
    shutil.copytree(backup, restored.home)
    swarm.start(restored)
    run.follow(restored)
    eventually(lambda: "others hold votes of this node" in step(restored, run))
    stuck = restored.call(RunShow(run=run.run)).round
    swarm.start(one, two, three)
    run.follow(one, two, three)
    run.first_part(restored.peer, stuck, living[0])
    run.until_round(stuck + 2, *seven)
    assert run.blamed(*seven) == []
    for daemon in seven:  # a run without an end goes on in no other test
        daemon.kill()


def test_a_minute_with_a_sleeping_laptop_a_stopped_process_an_absent_node_and_no_creator(seven, swarm):
    creator, laptop, absent, stopped, *others = seven
    run = found(*seven, rounds=0, seconds=0.6, min_members=4, drop_after=2, **QUICK)
    run.until_round(1, *seven)
    laptop.pause()
    asleep_since = time.monotonic()
    swarm.stop(absent)
    run.until(lambda: not {laptop.peer, absent.peer} & roster(run, others[0]))
    creator.kill()
    run.until(lambda: creator.peer not in roster(run, others[0]))
    away_since = run.newest(others[0])

    stopped.pause()
    time.sleep(STOP_S)  # what is tested is the time itself
    stopped.resume()
    takes_part(run, stopped, others[0])

    time.sleep(max(0.0, asleep_since + SLEEP_S - time.monotonic()))
    laptop.resume()
    takes_part(run, laptop, others[0])

    run.until_round(away_since + 50, others[0], within_s=120)
    swarm.start(absent)
    run.follow(absent)
    began, part = takes_part(run, absent, others[0])
    # In the round under way it is let in, or in the next if that has been listed already; in the one after, it trains.
    # On a machine with other things to do its start takes longer, and rounds, which mostly wait, do not.
    assert part <= began + 2 + BUSY_ROUNDS
    everybody = [laptop, absent, stopped, *others]
    run.until_round(part + 1, *everybody)  # with one header in each round, which `run` itself holds
    assert run.blamed(*everybody) == []
    for daemon in everybody:  # a run without an end goes on in no other test
        daemon.kill()


def takes_part(run: Watched, daemon: Daemon, teller: Daemon) -> tuple[int, int]:
    """The round that is under way now, and the first one from then on with its update."""
    run.hear()
    under_way = run.newest(teller) + 1
    return under_way, run.first_part(daemon.peer, under_way - 1, teller)


def shown(daemon: Daemon, run: Watched) -> str:
    """What its owner reads."""
    command = [sys.executable, "-m", "primep2p.cli.main", "run", "show", run.run, "--home", str(daemon.home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def roster(run: Watched, teller: Daemon) -> set[str]:
    return set(run.certified[teller][run.newest(teller)].roster)


def step(daemon: Daemon, run: Watched) -> str:
    return daemon.call(RunShow(run=run.run)).step


def awaited(daemon: Daemon, run: Watched) -> set[str]:
    return {member.peer for member in daemon.call(RunShow(run=run.run)).members if member.awaited}


def fill(path: Path) -> None:
    """Until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
