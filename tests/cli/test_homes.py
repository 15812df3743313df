import json
import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from primep2p.cli.main import main
from primep2p.core.admission import UNINVITED, join_of
from primep2p.keys import Identity, former_peers, load_identity
from primep2p.model.pipeline import Pipeline
from primep2p.model.records import (
    Admission,
    Certificate,
    Checkpoint,
    Header,
    Member,
    RoundPolicy,
    RunSpec,
    RunState,
    TensorSpec,
)
from primep2p.store.db import lock_home, open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Envelopes


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One with an identity."""
    load_identity(tmp_path / "home" / "identity.key")
    return tmp_path / "home"


@pytest.fixture
def command(capsys, monkeypatch, home):
    """Runs a command on `home`; gives its exit code, stdout and stderr."""
    monkeypatch.delenv("PRIMEP2P_CONFIG", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(home)])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def enter(home: Path, name: str, *, rounds: int, head: int | None) -> None:
    """The home's identity is a member of a run, in which a model was trained."""
    identity = load_identity(home / "identity.key")
    envelopes = Envelopes("main", identity)
    spec = envelopes.seal(
        RunSpec(
            creator=identity.peer_id,
            name=name,
            nonce=bytes(16),
            tensors=(TensorSpec("w", "float32", (2,)),),
            trainer="noop",
            trainer_config={},
            params="bafkrei" + "a" * 52,
            pipeline=Pipeline(),
            policy=RoundPolicy(rounds=rounds, first_members=2),
            admission=Admission(),
        )
    )
    join = join_of(envelopes, spec, round=0, addresses=(), kernels=bytes(32), invitation=UNINVITED)
    with closing(open_store(home)) as store:
        store.runs.save_run(RunRow(spec.hash, spec.raw, join.raw, None, 0))
        if head is not None:
            member = Member(identity.peer_id, 0, 0, bytes(32), bytes(32), 0)
            header = Header(
                run=spec.hash, round=head, parent=bytes(32), bundle=bytes(32), inclusions=(), optimiser=None, seen=(),
                params=spec.record.params, joined=(), left=(), blamed=(), state=bytes(32), reveal=b"", beacon=bytes(32),
                ended="rounds" if head == rounds else "",
            )  # fmt: skip
            state = encode(RunState(spec.hash, head, (member,), 1))
            checkpoint = Checkpoint(encode(header), Certificate(spec.hash, head, bytes(32), ()))
            store.runs.commit(spec.hash, head, StoredCheckpoint(checkpoint, state))
        params = home / "params"
        params.write_bytes(bytes(3 << 20))
        store.blobs.add(params, durable=True)


def test_show_says_who_this_is_and_never_the_secret(command, home):
    identity = load_identity(home / "identity.key")
    code, out, _ = command("keys", "show")
    assert code == 0
    assert out.splitlines()[0] == f"peer      {identity.peer_id}"
    assert f"key       {home}/identity.key, mode 0600, " in out
    view = json.loads(command("keys", "show", "--json")[1])
    assert (view["peer"], view["mode"], view["former"]) == (identity.peer_id, "0600", [])
    assert len(bytes.fromhex(view["public_key"])) == 32
    assert identity.seed.hex() not in out


def test_a_home_without_an_identity_gets_none_by_looking(command, home):
    (home / "identity.key").unlink()
    code, _, err = command("keys", "show")
    assert (code, err.splitlines()[0]) == (3, f"primep2p: {home} has no identity yet")
    assert command("keys", "rotate")[0] == 3
    assert not (home / "identity.key").exists()


def test_rotate_makes_another_peer_and_keeps_the_old_key(command, home):
    old = load_identity(home / "identity.key")
    done = json.loads(command("keys", "rotate", "--json")[1])
    new = load_identity(home / "identity.key")
    assert (done["was"], done["peer"]) == (old.peer_id, new.peer_id)
    assert old.peer_id != new.peer_id
    kept = Path(done["kept"])
    assert Identity(kept.read_bytes()).peer_id == old.peer_id
    assert stat.S_IMODE(kept.stat().st_mode) == stat.S_IMODE((home / "identity.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert "asks to be let into its runs anew" in command("keys", "rotate")[1]
    assert former_peers(home) == {old.peer_id, new.peer_id}
    assert f"was       {old.peer_id}\n" in command("keys", "show")[1]
    assert sorted(path.name for path in home.iterdir()) == ["former", "identity.key", "lock"]


def test_rotate_after_one_that_a_crash_cut_short_works(command, home):
    (home / "identity.key.new").write_bytes(b"half")
    assert command("keys", "rotate")[0] == 0
    assert not (home / "identity.key.new").exists()


@pytest.mark.parametrize(("rounds", "head", "waits"), [(5, 2, True), (0, 2, True), (5, None, True), (5, 5, False)])
def test_rotate_wants_to_be_forced_while_a_run_would_wait_for_this_node(command, home, rounds, head, waits):
    enter(home, "digits", rounds=rounds, head=head)
    old = load_identity(home / "identity.key").peer_id
    code, _, err = command("keys", "rotate")
    assert code == (4 if waits else 0)
    if waits:
        assert "a member of digits, which would wait for it in vain" in err
        assert load_identity(home / "identity.key").peer_id == old
        assert command("keys", "rotate", "--force")[0] == 0
    assert load_identity(home / "identity.key").peer_id != old


@pytest.mark.parametrize("words", [["keys", "rotate", "--force"], ["reset", "--yes"], ["reset"]])
def test_nothing_is_done_to_a_home_that_a_daemon_has(command, home, words):
    enter(home, "digits", rounds=5, head=2)
    before = sorted(home.rglob("*"))
    with lock_home(home):
        code, _, err = command(*words)
    assert code == 4
    assert (
        f"already in use by process {os.getpid()}, which has to end first\n  see: primep2p daemon stop --home {home}\n"
        in err
    )
    assert sorted(home.rglob("*")) == sorted({*before, home / "lock"})


def test_reset_tells_before_it_removes_and_keeps_who_this_is(command, home):
    enter(home, "digits", rounds=5, head=2)
    (home / "node.toml").write_text("")
    (home / "mine.npz").write_bytes(b"data")
    code, out, err = command("reset")
    assert (code, out) == (4, "")
    assert "reset would remove 1 run (digits) and 3 MiB from " in err
    assert f"do it with: primep2p reset --yes --home {home}\n" in err
    assert (home / "blobs").exists()
    identity = load_identity(home / "identity.key").peer_id
    removed = json.loads(command("reset", "--yes", "--json")[1])
    assert (removed["runs"], removed["identity"]) == (["digits"], "")
    assert sorted(path.name for path in home.iterdir()) == ["identity.key", "lock", "mine.npz", "node.toml"]
    assert load_identity(home / "identity.key").peer_id == identity
    with closing(open_store(home)) as store:
        assert store.runs.runs() == []


def test_reset_of_the_identity_removes_its_former_ones_too(command, home):
    assert command("keys", "rotate")[0] == 0
    identity = load_identity(home / "identity.key").peer_id
    assert f"and the identity {identity}\n" in command("reset", "--yes", "--identity")[1]
    assert [path.name for path in home.iterdir()] == ["lock"]


def test_reset_removes_a_store_that_cannot_be_opened(command, home):
    enter(home, "digits", rounds=5, head=2)
    (home / "store.db").write_bytes(b"not sqlite")
    assert command("reset", "--yes")[0] == 0
    open_store(home).close()
