import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from primep2p.cli.daemon.service import service, systemd_unit
from primep2p.cli.main import main
from tests.cli.test_commands import daemon  # noqa: F401  a fixture

ON_LINUX = pytest.mark.skipif(sys.platform == "darwin", reason="launchd looks elsewhere")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A systemctl that keeps what it was asked, and fails where a file says so."""
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "systemctl"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nif [ -e {tmp_path}/broken ]; then echo no bus >&2; exit 1; fi\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PRIMEP2P_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def command(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def words_of(unit: str) -> list[str]:
    """The command of a unit, as systemd takes it apart where nothing is special."""
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


@ON_LINUX
def test_install_writes_a_unit_that_starts_this_python_with_this_configuration(system, command, monkeypatch):
    file = system / "node.toml"
    file.write_text(f'[node]\nhome = "{system / "home"}"\n')
    monkeypatch.setenv("PRIMEP2P__LOG__LEVEL", "debug")
    code, out, err = command("daemon", "install", "--name", "lab", "-c", str(file))
    assert (code, err) == (0, "")
    unit = system / "config" / "systemd" / "user" / "lab.service"
    assert words_of(unit.read_text()) == [
        *(sys.executable, "-P", "-m", "primep2p.cli.main", "daemon", "start"),
        *("--home", str(system / "home"), "--config", str(file)),
    ]
    assert (system / "asked").read_text().splitlines() == ["--user daemon-reload", "--user enable --now lab.service"]
    assert "not in it PRIMEP2P__LOG__LEVEL" in out
    code, out, _ = command("daemon", "uninstall", "--name", "lab", "-c", str(file))
    assert (code, out) == (0, f"removed   {unit}\n")
    assert (system / "asked").read_text().splitlines()[2:] == ["--user disable --now lab.service"]
    assert not unit.exists()


@ON_LINUX
def test_install_with_print_only_prints(system, command):
    code, out, _ = command("daemon", "install", "--print", "--home", str(system / "home"))
    assert code == 0
    assert words_of(out)[-2:] == ["--home", str(system / "home")]
    assert not (system / "asked").exists()
    assert not (system / "config").exists()


@ON_LINUX
def test_a_system_that_does_not_answer_leaves_the_file_and_says_what_to_do_by_hand(system, command):
    (system / "broken").touch()
    code, _, err = command("daemon", "install", "--home", str(system / "home"))
    assert code == 3
    assert "primep2p: `systemctl --user daemon-reload` failed: no bus\n" in err
    assert "by hand: systemctl --user daemon-reload && systemctl --user enable --now primep2p.service" in err
    assert (system / "config" / "systemd" / "user" / "primep2p.service").exists()


@ON_LINUX
def test_what_is_not_installed_cannot_be_uninstalled_and_names_are_plain(system, command):
    code, _, err = command("daemon", "uninstall", "--home", str(system / "home"))
    assert (code, "there is no " in err, "see: primep2p daemon install" in err) == (4, True, True)
    assert command("daemon", "install", "--name", "../x")[0] == 4


@ON_LINUX
def test_install_beside_a_daemon_that_runs_is_refused(system, command, daemon):  # noqa: F811
    code, _, err = command("daemon", "install", "--home", str(daemon.home))
    assert (code, f"a daemon runs for {daemon.home} already" in err) == (4, True)
    assert not (system / "config").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    odd = tmp_path / 'a "home" of 100% $HOME'
    unit = tmp_path / "primep2p.service"
    unit.write_text(systemd_unit(odd, [sys.executable, "-P", "-m", "primep2p.cli.main", "--home", str(odd)]))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")


def test_launchd_gets_the_same_command_and_starts_it_again_when_it_fails():
    made = service("lab", Path("/homes/lab & co"), ["--home", "/homes/lab & co"], platform="darwin")
    agent = plistlib.loads(made.text)
    assert made.path.name == "org.primep2p.lab.plist"
    assert agent["Label"] == "org.primep2p.lab"
    assert agent["ProgramArguments"][:4] == [sys.executable, "-P", "-m", "primep2p.cli.main"]
    assert agent["ProgramArguments"][-2:] == ["--home", "/homes/lab & co"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert made.start == (("launchctl", "bootstrap", f"gui/{os.getuid()}", str(made.path)),)
    assert made.stop == (("launchctl", "bootout", f"gui/{os.getuid()}/org.primep2p.lab"),)
    if shutil.which("plutil"):
        subprocess.run(["plutil", "-lint", "-"], input=made.text, check=True, timeout=60)
