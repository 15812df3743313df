"""A daemon's beginning and end, and what stands in its way."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import found

from primep2p.cli.swarm import Settings, Swarm
from primep2p.control.calls.daemon import DaemonStatus


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "primep2p.cli.main", "daemon", "start", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_signals_end_a_daemon_in_the_middle_of_a_round(four):
    run = found(*four, rounds=0, seconds=0.3)
    run.until_round(1, *four)
    for daemon, number in [(four[0], signal.SIGTERM), (four[1], signal.SIGINT)]:
        began_at = time.monotonic()
        daemon.signal(number)
        assert daemon.wait(5) == 0
        assert time.monotonic() - began_at < 2
        assert (daemon.home / "daemon.err").read_text() == ""
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


def test_a_home_with_another_identity_than_its_runs_is_refused(tmp_path):
    with Swarm(tmp_path / "homes", [Settings(), Settings()]) as swarm:
        swarm.start()
        one = swarm.daemons[0]
        found(*swarm.daemons, rounds=1, trainer="noop", settings={}).end(*swarm.daemons)
        swarm.stop(one)
        key = one.home / "identity.key"
        key.write_bytes(bytes(32))
        refused = start("--home", str(one.home))
        assert refused.returncode == 2
        assert f"{one.home} belongs to the peer {one.peer}" in refused.stderr


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
