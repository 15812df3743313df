"""A daemon's beginning and end, and what stands in its way."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import found

from primep2p.cli.swarm.daemons import Settings, Swarm
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.calls.runs import RunList
from primep2p.keys import load_identity


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "primep2p.cli.main", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return command("daemon", "start", *arguments)


def test_signals_end_a_daemon_in_the_middle_of_a_round(four):
    run = found(*four, rounds=0, seconds=0.3)
    run.until_round(1, *four)
    for daemon, number in [(four[0], signal.SIGTERM), (four[1], signal.SIGINT)]:
        began_at = time.monotonic()
        daemon.signal(number)
        code, took_s = daemon.wait(5), time.monotonic() - began_at
        assert (code, (daemon.home / "daemon.err").read_text()) == (0, "")
        assert took_s < 2
        assert daemon.end_family() == []
    for daemon in four[2:]:  # a run without an end goes on in no other test
        daemon.kill()
        assert daemon.end_family() == []


def test_two_daemons_do_not_share_a_home(four):
    daemon = four[0]
    second = start("--home", str(daemon.home))
    assert second.returncode == 2
    assert f"already in use by process {daemon.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.call(DaemonStatus()).pid == daemon.pid


def test_what_lies_in_the_working_directory_is_not_run(tmp_path):
    (tmp_path / "primep2p").mkdir()
    (tmp_path / "random.py").write_text("raise SystemExit('not yours')")
    with Swarm(tmp_path / "homes", [Settings()]) as swarm:
        home = str(swarm.daemons[0].home)
        command = [Path(sys.executable).with_name("primep2p"), "daemon", "start", "--detach", "--home", home]
        started = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (started.returncode, started.stderr) == (0, "")
        subprocess.run([command[0], "daemon", "stop", "--home", home], check=True, timeout=60)


def test_a_home_is_reset_or_rotated_and_one_with_another_identity_than_its_runs_is_refused(tmp_path):
    with Swarm(tmp_path / "homes", [Settings(), Settings()]) as swarm:
        swarm.start()
        one, other = swarm.daemons
        run = found(*swarm.daemons, rounds=1, trainer="noop", settings={})
        run.end(*swarm.daemons)
        swarm.stop(*swarm.daemons)
        removed = command("reset", "--yes", "--home", str(other.home))
        assert (removed.returncode, removed.stderr) == (0, "")
        stays = {"control.sock", "daemon.err", "daemon.log", "identity.key", "lock", "node.toml"}
        assert {path.name for path in other.home.iterdir()} <= stays
        rotated = command("keys", "rotate", "--home", str(one.home))
        assert (rotated.returncode, rotated.stderr) == (0, "")
        swarm.start(one)
        assert one.call(DaemonStatus()).peer_id != one.peer
        assert [(each.run, each.phase) for each in one.call(RunList())] == [(run.run, "finished")]
        swarm.stop(one)
        now = load_identity(one.home / "identity.key").peer_id
        shutil.rmtree(one.home / "former")
        key = one.home / "identity.key"
        key.write_bytes(bytes(32))
        refused = start("--home", str(one.home))
        assert refused.returncode == 2
        assert f"{one.home} belongs to the peer {now}" in refused.stderr


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_port_that_is_taken_is_a_mistake_in_the_configuration(four, tmp_path, how):
    home = tmp_path / "home"
    home.mkdir()
    (home / "node.toml").write_text(f'[p2p]\nlisten = ["{four[0].address}"]\n')
    second = start("--home", str(home), *how)
    assert second.returncode == 2
    port = four[0].address.rpartition("/")[2]
    assert second.stderr.startswith(f"primep2p: p2p.listen: cannot listen on port {port} of 127.0.0.1: ")
    assert "Traceback" not in second.stderr
