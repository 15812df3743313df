import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from primep2p.model.errors import ConfigError, StoreError
from primep2p.store.db import lock_home, open_store


def test_a_second_daemon_on_the_same_home_refuses(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        lock_home(home),
        pytest.raises(ConfigError, match=f"already in use by process {os.getpid()}") as refused,
        lock_home(home),
    ):
        pass
    assert f"primep2p daemon stop --home {home};" in refused.value.hint
    with lock_home(home):
        pass


def test_the_lock_goes_with_its_process_however_it_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "import os, sys, pathlib; from primep2p.store.db import lock_home\n"
        f"with lock_home(pathlib.Path({str(home)!r})): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=f"process {child.pid}"), lock_home(home):
            pass
        child.kill()
    with lock_home(home):
        pass


def test_a_home_that_a_newer_version_wrote_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer") as caught:
        open_store(tmp_path)
    assert "install" in caught.value.hint


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"store\.db"):
        open_store(tmp_path)


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file"):
        open_store(tmp_path / "file" / "home")
    with pytest.raises(StoreError, match="file"), lock_home(tmp_path / "file" / "home"):
        pass


def test_a_disk_without_room_is_named_before_anything_is_begun(tmp_path: Path) -> None:
    program = (
        "import pathlib, resource; from primep2p.store.db import open_store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"open_store(pathlib.Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"StoreError: cannot write to {tmp_path}: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
