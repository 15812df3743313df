"""A home as a crash or a bad disk leaves it: copied between any two writes, its files cut, filled with garbage, bits
turned. What was durable is there, whole and in order; or the store says that it is damaged, and what to do."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from primep2p.model.errors import StoreError
from primep2p.model.records import Certificate, Checkpoint
from primep2p.store.db import Store, open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.wire.cid import cid_of

RUN = b"r" * 32
PEER = "12D3KooW" + "A" * 44
ROUNDS = 3
FILES = ("store.db", "store.db-wal")
WAL_HEADER_BYTES, FRAME_HEADER_BYTES, PAGE_BYTES = 32, 24, 4096
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES

State = tuple[tuple[bytes, ...], tuple[int, ...], bool]
"""Journal entries in order, rounds of the chain, whether the run is known."""


@dataclass(frozen=True)
class Instant:
    """The files as they are after a write, how long the WAL is, and what is durable."""

    files: dict[str, bytes]
    state: State


def stored(round: int) -> StoredCheckpoint:
    return StoredCheckpoint(Checkpoint(b"header %d" % round, Certificate(RUN, round, bytes(32), ())), b"state")


def state_of(store: Store) -> State:
    entries = [entry for round in range(ROUNDS + 1) for entry in store.runs.entries(RUN, round)]
    chain = [entry.checkpoint.certificate.round for entry in store.runs.chain(RUN, 0, 100)]
    head = store.runs.head(RUN)
    assert (head[0] if head else -1) == len(chain) - 1
    return tuple(entries), tuple(chain), bool(store.runs.runs())


def writes(store: Store) -> Iterator[Callable[[], None]]:
    """What a node writes, and what it writes without waiting for it in between."""
    yield lambda: store.runs.save_run(RunRow(RUN, b"spec" * 700, b"join", None, 0))
    for round in range(ROUNDS):
        for letter in (b"a", b"b"):
            entries = [letter * 900, b"%d%s" % (round, letter), letter * 5000]
            yield lambda r=round, e=entries: store.runs.append(RUN, r, e)
        store.runs.remember(PEER, (f"/ip4/127.0.0.1/tcp/{round}",))
        store.runs.accuse(PEER, f"late in round {round}", None, run=RUN)
        yield lambda r=round: store.runs.commit(RUN, r, stored(r))


@pytest.fixture(scope="module")
def instants(tmp_path_factory: pytest.TempPathFactory) -> list[Instant]:
    """A home as it was created, and after each of its durable writes, none of which the database file has seen yet."""
    home = tmp_path_factory.mktemp("torn") / "home"
    store = open_store(home)
    found = []
    for write in (lambda: None, *writes(store)):
        write()
        found.append(Instant({name: (home / name).read_bytes() for name in FILES}, state_of(store)))
    store.close()
    assert len({instant.state for instant in found}) == len(found) == 2 + 3 * ROUNDS
    return found


class Homes:
    """Fresh homes with given files, that were used before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._serial = itertools.count()

    def opened(self, files: dict[str, bytes]) -> State | None:
        """What a store finds there; None where it says that it is damaged."""
        home = self._directory / str(next(self._serial))
        (home / "blobs").mkdir(parents=True)
        for name, content in files.items():
            (home / name).write_bytes(content)
        found, refused = None, None
        try:
            with closing(open_store(home)) as store:
                found = state_of(store)
        except StoreError as error:
            refused = error
        finally:
            shutil.rmtree(home)
        if refused is not None:
            assert str(home / "store.db") in refused.sentence
            assert "restore the home from a backup" in refused.hint
        return found


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path / "homes")


def is_prefix(state: State, instants: list[Instant]) -> bool:
    return state in [instant.state for instant in instants]


# ---- what a crash leaves


def test_a_home_copied_after_any_write_has_what_was_durable(instants: list[Instant], homes: Homes) -> None:
    for instant in instants:
        assert homes.opened(instant.files) == instant.state


def test_a_log_that_is_cut_anywhere_has_every_write_before_the_cut_and_no_half_one(
    instants: list[Instant], homes: Homes
) -> None:
    files = instants[-1].files
    log = files["store.db-wal"]
    ends = range(WAL_HEADER_BYTES, len(log) + 1, FRAME_BYTES)
    for cut in sorted({place for end in ends for place in (end - 1, end, end + FRAME_BYTES // 2)}):
        found = homes.opened({**files, "store.db-wal": log[:cut]})
        durable = [instant for instant in instants if len(instant.files["store.db-wal"]) <= cut]
        if durable:
            assert found is not None
            assert found == durable[-1].state
        else:
            assert found in (None, instants[0].state)


@pytest.mark.parametrize("what", ["zeros", "ones", "noise", "old frames", "turned bits"])
def test_a_tail_that_is_garbage_takes_nothing_durable_with_it(instants: list[Instant], homes: Homes, what: str) -> None:
    for earlier, later in itertools.pairwise(instants):
        log, next_log = earlier.files["store.db-wal"], later.files["store.db-wal"]
        torn = next_log[len(log) :]
        tail = {
            "zeros": bytes(len(torn)),
            "ones": b"\xff" * len(torn),
            "noise": bytes((17 * place * place + 31) % 251 for place in range(len(torn))),
            "old frames": log[WAL_HEADER_BYTES : WAL_HEADER_BYTES + len(torn)],
            "turned bits": torn[:100] + bytes(byte ^ 4 for byte in torn[100:200]) + torn[200:],
        }[what]
        assert homes.opened({**earlier.files, "store.db-wal": log + tail}) == earlier.state


# ---- what a bad disk leaves


def test_bits_that_turned_in_the_log_never_give_half_a_write(instants: list[Instant], homes: Homes) -> None:
    files = instants[-1].files
    log = files["store.db-wal"]
    for place in [*range(0, WAL_HEADER_BYTES, 5), *range(WAL_HEADER_BYTES + 7, len(log), 2801)]:
        turned = log[:place] + bytes([log[place] ^ 16]) + log[place + 1 :]
        found = homes.opened({**files, "store.db-wal": turned})
        assert found is None or is_prefix(found, instants)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, State]:
    """A database file with everything in it, and what that is."""
    home = tmp_path_factory.mktemp("whole") / "home"
    store = open_store(home)
    for write in writes(store):
        write()
    state = state_of(store)
    store.close()
    assert not (home / "store.db-wal").exists()
    return (home / "store.db").read_bytes(), state


def test_a_database_that_is_cut_anywhere_is_called_damaged(whole: tuple[bytes, State], homes: Homes) -> None:
    content, state = whole
    assert homes.opened({"store.db": content}) == state
    pages = range(0, len(content), PAGE_BYTES)
    for cut in sorted({place for page in pages for place in (page, page + 1, page + PAGE_BYTES // 2)}):
        assert homes.opened({"store.db": content[:cut]}) is None


def test_a_page_of_zeros_is_called_damaged_or_spoils_the_bytes_of_one_entry(
    whole: tuple[bytes, State], homes: Homes
) -> None:
    content, state = whole
    called = 0
    for page in range(0, len(content), PAGE_BYTES):
        found = homes.opened({"store.db": content[:page] + bytes(PAGE_BYTES) + content[page + PAGE_BYTES :]})
        called += found is None
        assert found is None or (len(found[0]), found[1:]) == (len(state[0]), state[1:])
    assert called > 10


def test_bits_that_turned_in_the_database_end_in_no_traceback(whole: tuple[bytes, State], homes: Homes) -> None:
    content, state = whole
    for place in range(3, len(content), 613):
        found = homes.opened({"store.db": content[:place] + bytes([content[place] ^ 32]) + content[place + 1 :]})
        assert found is None or len(found[0]) <= len(state[0])


@pytest.mark.parametrize("log", [True, False], ids=["with its log", "without its log"])
@pytest.mark.parametrize("content", [None, b""], ids=["gone", "empty"])
def test_a_used_home_without_its_database_is_not_begun_anew(
    instants: list[Instant], homes: Homes, content: bytes | None, log: bool
) -> None:
    files = {} if content is None else {"store.db": content}
    if log:
        files["store.db-wal"] = instants[-1].files["store.db-wal"]
    assert homes.opened(files) is None


def test_a_home_that_a_crash_interrupted_at_its_very_beginning_is_begun(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"")
    open_store(tmp_path).close()
    open_store(tmp_path).close()


def test_the_daemon_says_so_in_two_lines_and_leaves_with_the_stores_code(tmp_path: Path) -> None:
    home = tmp_path / "home"
    open_store(home).close()
    os.truncate(home / "store.db", 5000)
    command = [sys.executable, "-m", "primep2p.cli.main", "daemon", "start", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 6
    assert f"{home / 'store.db'} is damaged" in done.stderr or "malformed" in done.stderr
    assert "restore the home from a backup" in done.stderr
    assert "Traceback" not in done.stderr


# ---- what is durable is synced


def test_what_signatures_depend_on_is_synced_in_full_and_what_nobody_waits_for_is_not(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    said: list[str] = []
    writer = store._database._writer
    level = {2: "full", 1: "normal"}

    def note(statement: str) -> None:
        if statement.startswith("INSERT"):
            said.append(statement.split()[2 + statement.startswith("INSERT OR") * 2])

    writer.set_trace_callback(note)
    for write, expected in (
        (lambda: store.runs.append(RUN, 1, [b"entry"]), "full"),
        (lambda: store.runs.remember(PEER, ("address",)), "normal"),
        (lambda: store.runs.commit(RUN, 1, stored(1)), "full"),
        (lambda: store.runs.accuse(PEER, "late", None, run=RUN), "normal"),
        (lambda: store.runs.save_run(RunRow(RUN, b"spec", b"join", None, 0)), "full"),
        (lambda: store.runs.accuse(PEER, "equivocation", b"proof", run=RUN), "full"),
    ):
        write()
        assert level[writer.execute("PRAGMA synchronous").fetchone()[0]] == expected, said[-1]
    assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert len(said) == 7
    store.close()


def test_a_durable_blob_is_synced_with_every_name_that_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_dev, status.st_ino))
        real(descriptor)

    def position(path: Path) -> int:
        status = path.stat()
        return synced.index((status.st_dev, status.st_ino))

    monkeypatch.setattr(os, "fsync", fsync)
    home = tmp_path / "home"
    store = open_store(home)
    assert position(tmp_path) > position(home)
    synced.clear()
    given = tmp_path / "given"
    given.write_bytes(b"params" * 1000)
    path = store.blobs.path(store.blobs.add(given, durable=True))
    assert position(path) < position(path.parent) < position(home / "blobs")
    store.close()


# ---- params


@pytest.mark.parametrize(
    "tear",
    [lambda raw: raw[:-1], lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: raw + b"more",
     lambda raw: raw[:700] + bytes([raw[700] ^ 1]) + raw[701:], lambda raw: bytes(len(raw))],
    ids=["a byte short", "half", "empty", "longer", "a bit turned", "zeros"],
)  # fmt: skip
def test_torn_params_are_found_set_aside_and_fetched_again(tmp_path: Path, tear: Callable[[bytes], bytes]) -> None:
    content = bytes(range(256)) * 8
    given = tmp_path / "given"
    given.write_bytes(content)
    store = open_store(tmp_path / "home")
    params = store.blobs.add(given, durable=True)
    manifest, path = store.blobs.manifest(params), store.blobs.path(params)
    store.close()
    assert manifest is not None
    assert cid_of(manifest) == params
    path.chmod(0o600)
    path.write_bytes(tear(content))
    store = open_store(tmp_path / "home")
    assert not store.blobs.verify(params)
    assert not store.blobs.has(params)
    partial = store.blobs.begin(params, manifest)
    for index in partial.missing:
        partial.write(index, content)
    partial.finish(durable=True)
    assert store.blobs.verify(params)
    assert store.blobs.path(params).read_bytes() == content
    store.close()
