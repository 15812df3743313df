import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from primep2p.cli.main import main
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.client import BlockingClient

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture
def env(tmp_path):
    (tmp_path / "rt").mkdir(mode=0o700)
    return {**os.environ, "PYTHONPATH": str(STAND_IN), "XDG_RUNTIME_DIR": str(tmp_path / "rt")}


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "primep2p.cli.main", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


def foreground(env: dict[str, str], home: Path) -> "subprocess.Popen[bytes]":
    """A daemon that answers."""
    command = [sys.executable, "-m", "primep2p.cli.main", "daemon", "start", "--home", str(home)]
    daemon = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert daemon.stderr is not None
    assert select.select([daemon.stderr], [], [], 20)[0]
    assert b"ready" in daemon.stderr.readline()
    return daemon


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_daemon_cleanly(tmp_path, env, number):
    daemon = foreground(env, tmp_path / "home")
    daemon.send_signal(number)
    out, err = daemon.communicate(timeout=10)
    assert daemon.returncode == 0
    assert out.startswith(b"peer      12D3KooW")
    assert out.endswith(f"in another terminal: primep2p status --home {tmp_path / 'home'}\n".encode())
    assert b"Traceback" not in err
    assert not (tmp_path / "home" / "control.sock").is_symlink()
    events = [json.loads(line)["event"] for line in (tmp_path / "home" / "daemon.log").read_text().splitlines()]
    assert events == ["ready", "stopping", "stopped"]


def test_stop_returns_when_the_process_is_gone(tmp_path, env):
    daemon = foreground(env, tmp_path / "home")
    stopped = run(env, "daemon", "stop", "--home", str(tmp_path / "home"))
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert daemon.wait(timeout=1) == 0
    daemon.communicate()


def test_a_detached_daemon_answers_when_start_returns(tmp_path, env):
    home = tmp_path / "home"
    started = run(env, "daemon", "start", "--detach", "--home", str(home))
    assert (started.returncode, started.stderr) == (0, "")
    try:
        with BlockingClient(home) as client:
            status = client.call(DaemonStatus())
        assert started.stdout == f"peer {status.peer_id}, pid {status.pid}\n"
        logged = run(env, "daemon", "logs", "-n", "1", "--home", str(home))
        assert " info    ready peer=" in logged.stdout
    finally:
        assert run(env, "daemon", "stop", "--home", str(home)).returncode == 0


@pytest.mark.parametrize("how", [[], ["--detach"]])
def test_a_daemon_that_cannot_start_says_why_and_exits_with_that_code(tmp_path, env, how):
    refused = run(env, "daemon", "start", *how, "--home", str(tmp_path / "refuses"))
    assert refused.returncode == 2
    assert refused.stderr == "primep2p: another daemon has this home\n  stop it\n"


def test_a_detached_daemon_that_dies_at_its_start_leaves_its_last_words(tmp_path, env):
    died = run(env, "daemon", "start", "--detach", "--home", str(tmp_path / "dies"))
    assert died.returncode == 1
    assert "the daemon died at its start with exit code 1" in died.stderr
    assert "ZeroDivisionError" in (tmp_path / "dies" / "daemon.err").read_text()


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["daemon", "status"], ["daemon", "stop"], ["peers"], ["run", "list"], ["run", "show", "ab"]],
)
def test_a_missing_daemon_is_one_sentence(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--home", str(tmp_path)])
    assert exit_.value.code == 3
    expected = f"primep2p: no daemon runs for {tmp_path}\n  start it with: primep2p daemon start --home {tmp_path}\n"
    assert capsys.readouterr().err == expected


def test_who_is_missing_is_started_by_the_configuration_that_named_it(tmp_path, capsys):
    (tmp_path / "my node.toml").write_text(f'[node]\nhome = "{tmp_path / "home"}"')
    with pytest.raises(SystemExit):
        main(["status", "-c", str(tmp_path / "my node.toml")])
    assert capsys.readouterr().err.endswith(f"primep2p daemon start -c '{tmp_path}/my node.toml'\n")


def test_a_mistake_in_the_configuration_is_one_sentence(tmp_path, capsys):
    (tmp_path / "node.toml").write_text('[p2p]\nlisten = ["x"]')
    with pytest.raises(SystemExit) as exit_:
        main(["daemon", "start", "--detach", "-c", str(tmp_path / "node.toml")])
    assert exit_.value.code == 2
    expected = f"primep2p: {tmp_path / 'node.toml'}: p2p.listen[0] must be a multiaddr such as /ip4/0.0.0.0/tcp/4650\n"
    expected += "  what that means: primep2p help exit 2\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["status", "--home", "/no/home"]])
def test_plain_commands_import_nothing_heavy(arguments):
    code = "import sys\nfrom primep2p.cli.main import main\ntry:\n main()\nexcept SystemExit:\n pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30)
    loaded = set(ran.stderr.splitlines()[-1].split())
    assert "primep2p.cli.main" in loaded
    heavy = {"trio", "libp2p", "multiaddr", "numpy", "safetensors", "structlog", "psutil", "primep2p.node", "sqlite3"}
    assert not loaded & heavy
