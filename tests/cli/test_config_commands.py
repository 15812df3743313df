import json
import tomllib

import pytest

from primep2p.cli.main import main
from primep2p.config import NodeConfig
from primep2p.strict import plain


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command; gives its exit code, stdout and stderr."""
    monkeypatch.delenv("PRIMEP2P_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_check_says_every_mistake_with_its_path(command, tmp_path):
    file = tmp_path / "node.toml"
    file.write_text('[p2p]\nlisten = ["x"]\n[stor]\n[log]\nlevl = "debug"\n')
    told = [
        f"{file}: stor is not known: did you mean store?",
        f"{file}: log.levl is not known: did you mean level?",
    ]
    code, out, err = command("config", "check", str(file))
    assert (code, out.splitlines(), err) == (2, told, "")
    assert command("config", "check", "-c", str(file))[1] == out
    assert json.loads(command("config", "check", "--json", "--home", str(tmp_path))[1])["mistakes"] == told


def test_check_of_a_good_file_says_so_and_of_none_too(command, tmp_path):
    file = tmp_path / "node.toml"
    file.write_text("[log]\nlevel = 'debug'\n")
    assert command("config", "check", str(file)) == (0, f"{file}: no mistake\n", "")
    assert command("config", "check", "--home", str(tmp_path / "other")) == (
        0,
        "no file, all defaults: no mistake\n",
        "",
    )
    assert json.loads(command("config", "check", str(file), "--json")[1]) == {"file": str(file), "mistakes": []}


def test_check_of_a_file_that_is_not_there_or_no_toml_is_a_mistake(command, tmp_path):
    assert command("config", "check", "no.toml") == (2, "there is no file no.toml\n", "")
    (tmp_path / "bad.toml").write_text("[node\n")
    assert command("config", "check", "bad.toml")[1].startswith("bad.toml: not TOML: ")


def test_what_show_prints_is_a_configuration_that_says_where_it_is_from(command, tmp_path, monkeypatch):
    file = tmp_path / "node.toml"
    file.write_text('[node]\nnetwork = "lab"\n\n[trainer]\nplugins = { "my own" = "p.py:C", b = "m:D" }\n')
    monkeypatch.setenv("PRIMEP2P__LOG__LEVEL", "debug")
    code, out, _ = command("config", "show", "--home", str(tmp_path))
    assert code == 0
    expected = plain(NodeConfig())
    expected["node"] = {"home": str(tmp_path), "network": "lab"}
    expected["log"]["level"] = "debug"
    expected["trainer"]["plugins"] = {"my own": f"{tmp_path}/p.py:C", "b": "m:D"}
    assert tomllib.loads(out) == expected
    assert "\n\n[p2p]\n" in out
    lines = {line.split(" = ")[0]: line.rpartition("  # ")[2] for line in out.splitlines() if "  # " in line}
    assert lines == {
        "home": "--home",
        "network": f"{file}:2",
        "level": "PRIMEP2P__LOG__LEVEL",
        "plugins": f"{file}:5",
    }


def test_show_as_json_has_every_key_with_its_origin(command, tmp_path):
    view = json.loads(command("config", "show", "--json", "--home", str(tmp_path))[1])
    by_key = {value["key"]: value for value in view["values"]}
    assert by_key["node.home"] == {"key": "node.home", "value": str(tmp_path), "origin": "option", "place": "--home"}
    assert by_key["p2p.bootstrap"] == {"key": "p2p.bootstrap", "value": [], "origin": "default", "place": ""}
    assert {key.partition(".")[0] for key in by_key} == set(plain(NodeConfig()))


def test_show_of_a_wrong_configuration_names_the_command_that_tells_all(command, tmp_path):
    (tmp_path / "node.toml").write_text("[node]\na = 1\nb = 2\n")
    code, out, err = command("config", "show", "--home", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.endswith("(and 1 more)\n  see: primep2p config check\n")
    err = command("config", "show", "-c", str(tmp_path / "node.toml"))[2]
    assert err.endswith(f"(and 1 more)\n  see: primep2p config check -c {tmp_path}/node.toml\n")


def test_a_run_is_checked_without_a_daemon(command, tmp_path):
    (tmp_path / "run.toml").write_text('name = "a"\ntrainer = "mlp"\n[policy]\nfirst_members = 1\nvote_s = 31.0\n')
    code, out, err = command("run", "check", "run.toml")
    assert (code, err) == (2, "")
    assert [line.split()[1] for line in out.splitlines()] == ["policy.min_updates", "policy.vote_s"]
    (tmp_path / "run.toml").write_text('name = "a"\ntrainer = "mlp"\n')
    assert command("run", "check", "run.toml") == (0, "run.toml: no mistake\n", "")
    assert json.loads(command("run", "check", "run.toml", "--json")[1])["mistakes"] == []
