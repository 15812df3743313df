import fcntl
import json
import os
import resource
import shutil
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from primep2p import __version__
from primep2p.cli.doctor import CHECKS, Finding, Scene
from primep2p.cli.doctor.clock import clock
from primep2p.cli.doctor.home import disk, files, home
from primep2p.cli.doctor.machine import backends, libraries, limits, python
from primep2p.cli.doctor.network import bootstrap, ports, reachability
from primep2p.cli.main import main
from primep2p.config import ComputeSection, NodeConfig, NodeSection, P2PSection
from primep2p.keys import load_identity
from primep2p.model.views.node import NodeStatus
from primep2p.services.aggregating.backends import Checked, OneThread, check


def lines(config: NodeConfig, **others: Checked) -> dict[str, str]:
    """What is found where backends are as said; the others as they are without their libraries."""

    def said(name: str, thread: OneThread) -> Checked:
        missing = Checked(
            name, None, f"{name} is not installed", f"pip install '.[{name}]' where primep2p was cloned", missing=True
        )
        return others.get(name) or (check(name, thread) if name == "numpy" else missing)

    return {found.what: " ".join((found.state, found.said, found.fix)) for found in backends(Scene(config), said)}


@pytest.fixture(autouse=True)
def a_free_port(monkeypatch):
    """Whatever else runs on this machine."""
    monkeypatch.setenv("PRIMEP2P__P2P__LISTEN", '["/ip4/127.0.0.1/tcp/0"]')


def test_a_healthy_machine_passes_without_a_daemon(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--home", str(tmp_path)])
    found = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert ended.value.code == 0
    assert found["primep2p"]["state"] == found["numpy"]["state"] == found["daemon"]["state"] == "ok"
    assert {found[what]["state"] for what in ("libp2p", "files", "port", "clock")} == {"ok"}
    assert found["backend numpy"]["said"].startswith("gives the protocol's results")


def test_people_read_a_line_for_each_finding(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--home", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    daemon            aggregates with ") for line in lines)
    assert any(line.startswith("note  bootstrap         no peer to meet first is named") for line in lines)


def test_what_is_missing_is_a_note_with_the_command_that_brings_it():
    found = lines(NodeConfig(compute=ComputeSection(backend="mlx", threads=3)))
    assert found["backend mlx"] == "note mlx is not installed pip install '.[mlx]' where primep2p was cloned"
    assert found["daemon"].startswith("ok aggregates with numpy, 3 threads; not with mlx: mlx is not installed;")


def test_a_backend_with_other_results_is_named_with_what_is_used_instead():
    wrong = Checked("compiled", None, "its results differ from the protocol's", "update it", digest=bytes(32))
    found = lines(NodeConfig(compute=ComputeSection(backend="numpy")), compiled=wrong)
    assert found["backend compiled"] == "note its results differ from the protocol's update it"
    assert "aggregates with numpy" in found["daemon"]
    assert "not with compiled: its results differ from the protocol's" in found["daemon"]


def test_a_machine_that_no_backend_is_right_on_cannot_certify():
    odd = replace(check("numpy", OneThread()), digest=bytes(32))
    found = lines(NodeConfig(), numpy=odd)
    assert found["backend numpy"].startswith("note its results differ")
    assert found["daemon"].startswith("fault ")
    assert "trains, and has no vote" in found["daemon"]


def test_a_backend_that_is_right_and_not_asked_for_says_how_to_ask():
    right = replace(check("numpy", OneThread()), name="mlx")
    found = lines(NodeConfig(compute=ComputeSection(backend="numpy", compiled=False)), mlx=right)
    assert found["daemon"].endswith("not with mlx: compute.backend does not ask for it ")


def test_an_unreadable_configuration_is_said_as_by_every_command(tmp_path, capsys):
    (tmp_path / "node.toml").write_text("[compute]\nbackend = 'torch'\n")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--home", str(tmp_path)])
    assert ended.value.code == 2
    assert "compute.backend" in capsys.readouterr().err


PEER = "12D3KooW" + "A" * 44


def of(check, config: NodeConfig, daemon: NodeStatus | None = None, *more: object) -> list[Finding]:
    return list(check(Scene(config, daemon), *more))


def at(home: Path, **sections: object) -> NodeConfig:
    return NodeConfig(node=NodeSection(home=str(home)), **sections)


def status(*addresses: str, connected: tuple[str, ...] = (), **more: object) -> NodeStatus:
    usual = {
        "peer_id": PEER, "version": __version__, "pid": 2**22 + 7, "network": "main", "home": "/h", "uptime_s": 1.0,
        "rss_bytes": 2**27, "same_kernels": True, "runs": [], "addresses": list(addresses),
        "connected": list(connected),
    }  # fmt: skip
    return NodeStatus(**{**usual, **more})


@pytest.fixture
def somebody():
    """The port of a socket that others can dial."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_every_fault_and_every_note_says_what_to_do(tmp_path):
    config = at(tmp_path, p2p=P2PSection(listen=("/ip4/127.0.0.1/tcp/0",)))
    for check_ in CHECKS:
        if check_ is not backends:
            assert all(found.state == "ok" or found.fix for found in of(check_, config))


def test_a_python_that_was_not_tried_is_a_note():
    [found] = of(python, NodeConfig(), None, (3, 99))
    assert (found.state, "tried with Python 3.11 to 3.13" in found.said) == ("note", True)


def test_a_daemon_of_another_version_is_a_note():
    _, running = of(python, NodeConfig(), status(version="0.0.1"))
    assert (running.state, running.fix) == ("note", "it is of another version: primep2p daemon stop, then start")
    _, running = of(python, NodeConfig(), status(pid=7))
    assert (running.state, running.said) == ("ok", f"version {__version__} runs, pid 7, 128 MiB")


def test_a_libp2p_that_cannot_be_imported_is_a_fault_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "libp2p", None)
    [found] = of(libraries, NodeConfig())
    assert (found.state, "pip install 'libp2p==" in found.fix) == ("fault", True)


def test_few_open_files_are_a_note_and_very_few_a_fault(monkeypatch):
    for soft, state in ((64, "fault"), (256, "note"), (4096, "ok")):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, 4096))
        found = of(limits, NodeConfig())[0]
        assert (found.state, bool(found.fix)) == (state, state != "ok")


def test_a_home_that_others_can_read_is_a_note_and_such_a_key_a_fault(tmp_path):
    tmp_path.chmod(0o755)
    load_identity(tmp_path / "identity.key")
    opened, key = of(home, at(tmp_path))
    assert (opened.state, opened.fix, key.state) == ("note", f"chmod 700 {tmp_path}", "ok")
    tmp_path.chmod(0o700)
    (tmp_path / "identity.key").chmod(0o644)
    closed, key = of(home, at(tmp_path))
    assert (closed.state, key.state) == ("ok", "fault")
    assert key.fix.startswith(f"chmod 600 {tmp_path}/identity.key")


def test_looking_makes_no_home(tmp_path):
    missing = tmp_path / "a" / "b"
    for check_ in (home, disk, files):
        assert all(found.state != "fault" for found in of(check_, at(missing)))
    assert list(tmp_path.iterdir()) == []


def test_room_is_judged_by_the_models_that_are_here(tmp_path, monkeypatch):
    (tmp_path / "blobs" / "ab").mkdir(parents=True)
    (tmp_path / "blobs" / "ab" / "model").write_bytes(bytes(10_000_000))
    usage = shutil.disk_usage(tmp_path)
    for free, state in ((10**9, "ok"), (150_000_000, "note"), (10_000_000, "fault")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        found = of(disk, at(tmp_path))[0]
        assert found.state == state
        assert "the largest model here takes 9.54 MiB" in found.said


def test_a_file_system_of_another_machine_is_a_fault(tmp_path, monkeypatch):
    part = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [SimpleNamespace(mountpoint="/", fstype="ext4"), part])
    _, found = of(disk, at(tmp_path / "home"))
    assert (found.state, "is on nfs4" in found.said) == ("fault", True)


def test_a_disk_without_locks_is_a_fault(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    [found] = of(files, at(tmp_path))
    assert (found.state, "Operation not supported" in found.said) == ("fault", True)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_another_program_has_is_a_fault_and_the_daemons_own_is_fine(tmp_path, somebody):
    config = at(tmp_path, p2p=P2PSection(listen=(f"/ip4/127.0.0.1/tcp/{somebody}",)))
    [found] = of(ports, config)
    assert (found.state, found.fix.startswith("stop the program that has it, ")) == ("fault", True)
    [found] = of(ports, config, status(f"/ip4/127.0.0.1/tcp/{somebody}/p2p/{PEER}"))
    assert (found.state, "its daemon runs, pid " in found.said) == ("ok", True)
    [found] = of(ports, config, status("/ip4/192.0.2.7/tcp/1", pid=os.getpid()))  # it announces another one
    assert found.state == "ok"
    [found] = of(ports, config, status("/ip4/192.0.2.7/tcp/1"))
    assert found.state == "fault"


def test_peers_to_meet_first_are_dialled_and_those_that_are_connected_are_not(tmp_path, somebody):
    here = f"/ip4/127.0.0.1/tcp/{somebody}/p2p/{PEER}"
    with socket.create_server(("127.0.0.1", 0)) as closing_:
        gone = f"/ip4/127.0.0.1/tcp/{closing_.getsockname()[1]}/p2p/12D3KooW{'B' * 44}"
    config = at(tmp_path, p2p=P2PSection(bootstrap=(here, gone)))
    answers, silent = of(bootstrap, config)
    assert (answers.state, "a daemon finds out" in answers.said) == ("ok", True)
    assert (silent.state, "does not answer: " in silent.said) == ("note", True)  # one is enough
    [alone] = of(bootstrap, at(tmp_path, p2p=P2PSection(bootstrap=(gone,))))
    assert alone.state == "fault"
    met = of(bootstrap, at(tmp_path, p2p=P2PSection(bootstrap=(gone,))), status(connected=(gone[-52:],)))
    assert [(found.state, found.said) for found in met] == [("ok", f"{gone} is connected")]


def test_what_speaks_against_being_reached_is_said(tmp_path, somebody):
    loopback = at(tmp_path, p2p=P2PSection(listen=("/ip4/127.0.0.1/tcp/4650",)))
    assert of(reachability, loopback)[0].said.startswith("only from this machine")
    [found] = of(reachability, NodeConfig(), status("/ip4/10.0.0.3/tcp/4650", connected=(PEER,)))
    assert (found.state, "addresses are private, and 1 peer is connected" in found.said) == ("note", True)
    assert of(reachability, NodeConfig(), status("/ip4/8.8.8.8/tcp/4650"))[0].state == "ok"
    announced = at(tmp_path, p2p=P2PSection(announce=(f"/dns4/localhost/tcp/{somebody}", "/ip4/127.0.0.1/tcp/1")))
    answers, silent = of(reachability, announced, status())
    assert (answers.state, silent.state) == ("ok", "note")
    assert "have a peer try" in silent.fix
    assert all("when a daemon runs" in found.said for found in of(reachability, announced))


def test_a_clock_that_cannot_be_right_is_a_fault_and_one_that_was_set_back_a_note(tmp_path):
    (tmp_path / "store.db").touch()
    now_s = time.time()
    cases = ((now_s, "ok"), (0.0, "fault"), (5e9, "fault"))
    assert [of(clock, at(tmp_path), None, at_s)[0].state for at_s, _ in cases] == [state for _, state in cases]
    os.utime(tmp_path / "store.db", (now_s, now_s + 3600))
    [found] = of(clock, at(tmp_path), None, now_s)
    assert (found.state, "are 1 h 0 min younger" in found.said) == ("note", True)
