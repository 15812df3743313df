"""`primep2p model`: what is asked for it, what is shown, and the files that it writes."""

import json
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

from primep2p.cli.offline.model_files import write_npz
from primep2p.cli.render.pulling import PULL_KINDS, show_pull
from primep2p.control.calls import decode_call
from primep2p.control.calls.models import ModelPublish
from primep2p.core.references import RunRef
from primep2p.model.errors import CallError, ConfigError
from primep2p.model.views.events import (
    KINDS,
    ModelNotPulled,
    ModelPulled,
    ModelPulling,
    TransferBegun,
    TransferMoved,
)
from tests.cli.test_commands import Daemon, command, daemon  # noqa: F401  fixtures
from tests.control.fake_shelf import MODEL, OTHER, PEER, RUN

TENSORS = {"file": np.arange(6, dtype=np.float32).reshape(2, 3), "layer.bias": np.float32([0.5])}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def params(daemon: Daemon, tmp_path: Path) -> Path:  # noqa: F811
    """Those of the daemon's model."""
    path = tmp_path / "params.safetensors"
    save_file(TENSORS, path)
    daemon.node.shelf.file = str(path)
    return path


@pytest.mark.parametrize("source", [RUN[:8], f"{RUN[:8]}@12"])
def test_a_run_is_published_by_its_id(command: Command, daemon: Daemon, source: str) -> None:  # noqa: F811
    code, out, _ = command("model", "publish", source, "--as", "digits")
    assert code == 0
    assert daemon.node.shelf.asked == [(RunRef(RUN[:8], 12 if "@" in source else None), "digits", "")]
    assert "digits offers 12" in out
    assert f"primep2p model pull {PEER}/digits" in out


def test_a_file_is_published_with_what_asking_it_takes(
    command: Command,  # noqa: F811
    daemon: Daemon,  # noqa: F811
    params: Path,
) -> None:
    settings = ["--setting", "hidden=[64, 32]", "--setting", "optimiser=adam", "--metric", "accuracy=0.97"]
    code, _, err = command("model", "publish", str(params), "--as", "digits", "--trainer", "mlp", *settings)
    assert (code, err) == (0, "")
    about = {
        "trainer": "mlp",
        "trainer_config": {"hidden": [64, 32], "optimiser": "adam"},
        "metrics": {"accuracy": 0.97},
    }
    assert daemon.node.shelf.asked == [(params, "digits", "", about)]


def test_a_publication_that_makes_no_sense_is_refused_with_what_is_wrong(command: Command, params: Path) -> None:  # noqa: F811
    code, _, err = command("model", "publish", str(params), "--as", "digits")
    assert code == 4
    assert "add --trainer NAME" in err
    code, _, err = command("model", "publish", "x.safetensors", "--as", "digits", "--trainer", "mlp")
    assert code == 4
    assert "there is no file x.safetensors" in err
    with pytest.raises(CallError, match="a run says its own"):
        decode_call(ModelPublish.name, b'{"source": "ab", "to": "digits", "trainer": "mlp"}')
    with pytest.raises(CallError, match=r"params.trainer must be there for a file"):
        decode_call(ModelPublish.name, b'{"source": "/x.safetensors", "to": "digits"}')
    assert command("model", "publish", str(params), "--as", "d", "--trainer", "mlp", "--setting", "x")[0] == 2


def test_what_was_told_to_nobody_is_said(command: Command, daemon: Daemon) -> None:  # noqa: F811
    daemon.node.shelf.detail = msgspec.structs.replace(MODEL, announced=False)
    assert "nobody could be told yet" in command("model", "rollback", "digits", "--to", "11")[1]
    assert daemon.node.shelf.asked == [("digits", "11")]
    assert "as of" in command("model", "show", "digits")[1]


def test_own_models_are_listed_by_name_and_others_with_their_owner(command: Command) -> None:  # noqa: F811
    out = command("model", "list")[1]
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["digits", f"{OTHER}/letters"]
    assert out.splitlines()[2].split()[1:3] == ["-", "-"]  # what is offered there has not been looked up
    assert "primep2p model show OWNER/NAME" in out
    assert f"nothing is found on the shelf of {OTHER}" in command("model", "list", OTHER)[1]


def test_a_model_is_shown_with_where_each_version_comes_from(command: Command, daemon: Daemon) -> None:  # noqa: F811
    out = command("model", "show", "digits")[1]
    assert f"{RUN[:12]}@12, certified" in out
    assert "12 *" in out
    lie = msgspec.structs.replace(MODEL.versions[0], certified="contradicted")
    daemon.node.shelf.detail = msgspec.structs.replace(MODEL, versions=[lie])
    assert "NOT what its run certified" in command("model", "show", "digits")[1]


def test_removing_says_what_it_was_good_for(command: Command) -> None:  # noqa: F811
    assert "its params stay" in command("model", "remove", "digits")[1]


@pytest.mark.parametrize("call", ["pull", "path"])
def test_the_file_is_printed_alone(command: Command, params: Path, call: str) -> None:  # noqa: F811
    assert command("model", call, f"{OTHER}/letters")[1] == f"{params}\n"


def test_an_npz_of_any_names_is_what_numpy_loads_without_pickle(
    command: Command,  # noqa: F811
    params: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "model.npz"
    assert command("model", "export", "digits", "-o", str(out))[0] == 0
    with np.load(out, allow_pickle=False) as arrays:
        assert set(arrays.files) == TENSORS.keys()
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(arrays[name], array)
            assert arrays[name].dtype == np.float32


def test_an_export_has_a_name_of_its_own_where_none_is_given(
    command: Command,  # noqa: F811
    params: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = json.loads(command("model", "export", RUN, "--json")[1])
    assert answer["file"] == f"{RUN[:12]}-3.safetensors"
    assert load_file(tmp_path / answer["file"]).keys() == TENSORS.keys()
    assert command("model", "export", f"{OTHER}/letters@v1", "--format", "npz")[0] == 0
    assert (tmp_path / "letters-v1.npz").exists()


def test_an_export_that_fails_leaves_nothing_and_what_was_there(
    command: Command,  # noqa: F811
    daemon: Daemon,  # noqa: F811
    params: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "before.npz"
    out.write_bytes(b"before")
    save_file({"../../x": np.zeros(1, np.float32)}, params)
    code, _, err = command("model", "export", "digits", "-o", str(out))
    assert code == 2
    assert "could be unpacked elsewhere" in err
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if "npz" in path.name] == ["before.npz"]


@pytest.mark.parametrize("name", ["/x", "a/../b", "..\\x"])
def test_no_npz_has_a_name_that_leads_out_of_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="unpacked elsewhere"):
        write_npz(tmp_path / "x.npz", {name: np.zeros(1)})


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "headed.csv", "safetensors"])
def test_a_question_comes_from_a_file_of_any_kind(
    command: Command,  # noqa: F811
    daemon: Daemon,  # noqa: F811
    tmp_path: Path,
    kind: str,
) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / f"question.{kind}"
    match kind:
        case "npy":
            np.save(path, x)
        case "npz":
            np.savez(path, x=x)
        case "safetensors":
            save_file({"x": x}, path)
        case _:
            np.savetxt(path, x, delimiter=",", header="a,b,c" if "headed" in kind else "", comments="")
    daemon.node.shelf.answers = str(tmp_path / "answers")
    save_file({"classes": np.array([3, 4]), "probabilities": np.float32([[0.25, 0.75]])}, tmp_path / "answers")
    code, out, err = command("model", "predict", "digits", "--input", str(path))
    assert (code, err) == (0, "")
    ((model, asked),) = daemon.node.shelf.asked
    assert model == "digits"
    np.testing.assert_array_equal(asked["x"], x)
    assert "3  4" in out
    assert "0.25  0.75" in out


def test_answers_go_to_a_file_where_one_is_named(
    command: Command,  # noqa: F811
    daemon: Daemon,  # noqa: F811
    tmp_path: Path,
) -> None:
    answers = np.zeros((100, 100), np.float32)
    daemon.node.shelf.answers = str(tmp_path / "answers")
    save_file({"y": answers}, tmp_path / "answers")
    np.save(tmp_path / "x.npy", answers)
    asked = ["model", "predict", "digits", "--input", str(tmp_path / "x.npy")]
    code, _, err = command(*asked)
    assert code == 2
    assert "--out FILE" in err
    for out in ("y.npz", "y.safetensors"):
        assert command(*asked, "-o", str(tmp_path / out))[0] == 0
    with np.load(tmp_path / "y.npz") as arrays:
        np.testing.assert_array_equal(arrays["y"], answers)
    np.testing.assert_array_equal(load_file(tmp_path / "y.safetensors")["y"], answers)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.txt", b"1", "must end in"),
        ("x.npy", b"no array", "cannot be given to a model"),
        ("x.npz", b"no archive", "cannot be given to a model"),
        ("x.csv", b"a,b\n1,word\n", "cannot be given to a model"),
        ("x.safetensors", b"x", "cannot be given to a model"),
    ],
)
def test_a_question_that_cannot_be_read_is_one_sentence(
    command: Command,  # noqa: F811
    tmp_path: Path,
    name: str,
    content: bytes,
    told: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    code, _, err = command("model", "predict", "digits", "--input", str(tmp_path / name))
    assert code == 2
    assert told in err
    assert "Traceback" not in err


def test_no_question_is_unpickled(command: Command, tmp_path: Path) -> None:  # noqa: F811
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, _, err = command("model", "predict", "digits", "--input", str(tmp_path / "x.npy"))
    assert code == 2
    assert "cannot be given to a model" in err


def test_an_archive_of_ours_is_whole(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", TENSORS)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None


def test_a_bar_shows_the_params_on_their_way_and_ends_with_the_pull() -> None:
    model, size_bytes = f"{OTHER}/letters", 8 * 2**20
    here = {"bytes": size_bytes, "provider": PEER}
    events = [
        ModelPulling(asked="another", model="another@1", params="other", bytes=7),
        TransferMoved(cid="other", bytes_here=7, **here),
        ModelNotPulled(asked="another", reason="no"),
        ModelPulling(asked=model, model=f"{model}@1", params="bafkrei", bytes=size_bytes),
        TransferBegun(cid="bafkrei", bytes_here=0, **here),
        TransferMoved(cid="bafkrei", bytes_here=3 * 2**20, **here),
        ModelPulled(asked=model, model=f"{model}@1", params="bafkrei", bytes=size_bytes, seconds=1.0),
    ]
    told = iter([*events, ModelNotPulled(asked=model, reason="nobody listens any more")])
    screen = StringIO()
    show_pull(told, model, Console(file=screen, force_terminal=True, width=100))
    assert "3.0/8.0 MiB" in screen.getvalue()
    assert len(list(told)) == 1
    assert {KINDS[type(event)] for event in events} == set(PULL_KINDS)


def test_a_pull_on_a_terminal_has_a_bar_and_then_the_file(
    command: Command,  # noqa: F811
    daemon: Daemon,  # noqa: F811
    params: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    model = f"{OTHER}/letters"
    daemon.node.shelf.tell = daemon.node.events.tell
    assert command("model", "pull", model)[1] == f"{params}\n"
    daemon.node.shelf.file = None
    assert command("model", "pull", model)[0] == 3


class Terminal(StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True
