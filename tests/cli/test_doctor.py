import json
from dataclasses import replace

import pytest

from primep2p.cli.doctor import backends
from primep2p.cli.main import main
from primep2p.config import ComputeSection, NodeConfig
from primep2p.services.backends import Checked, OneThread, check


def lines(config: NodeConfig, **others: Checked) -> dict[str, str]:
    """What is found where backends are as said; the others as they are without their libraries."""

    def said(name: str, thread: OneThread) -> Checked:
        missing = Checked(
            name, None, f"{name} is not installed", f"pip install '.[{name}]' where primep2p was cloned", missing=True
        )
        return others.get(name) or (check(name, thread) if name == "numpy" else missing)

    return {found.what: " ".join((found.state, found.said, found.fix)) for found in backends(config, said)}


def test_a_healthy_machine_passes_without_a_daemon(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--home", str(tmp_path)])
    found = {line["what"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert ended.value.code == 0
    assert found["primep2p"]["state"] == found["numpy"]["state"] == found["daemon"]["state"] == "ok"
    assert found["backend numpy"]["said"].startswith("gives the protocol's results")


def test_people_read_a_line_for_each_finding(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--home", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1].startswith("ok    daemon            aggregates with ")


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
