import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from primep2p.model.errors import StoreError
from primep2p.model.records import Certificate, Checkpoint
from primep2p.store.db import Store, open_store
from primep2p.store.journal import _MAX_ACCUSATIONS, _MAX_EVIDENCE
from primep2p.store.seam import RunRow, StoredCheckpoint

RUN, OTHER = b"r" * 32, b"o" * 32
PEER = "12D3KooW" + "A" * 44


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "home")
    yield store
    store.close()


def stored(round: int, *, header: bytes = b"header", votes: tuple[bytes, ...] = ()) -> StoredCheckpoint:
    return StoredCheckpoint(Checkpoint(header, Certificate(RUN, round, bytes(32), votes)), b"state %d" % round)


def test_runs_are_kept_and_replaced(store: Store) -> None:
    row = RunRow(RUN, b"spec", b"join", None, 0)
    store.runs.save_run(row)
    store.runs.save_run(RunRow(OTHER, b"spec", b"join", b"p" * 32, 7))
    newer = RunRow(RUN, b"spec", b"newer join", b"q" * 32, 3)
    store.runs.save_run(newer)
    assert store.runs.runs() == [RunRow(OTHER, b"spec", b"join", b"p" * 32, 7), newer]


def test_entries_come_back_in_order_whatever_their_bytes(store: Store) -> None:
    store.runs.append(RUN, 3, [b"first", b"", b"\xff\x00garbage"])
    store.runs.append(OTHER, 3, [b"of another run"])
    store.runs.append(RUN, 4, [b"of another round"])
    store.runs.append(RUN, 3, [])
    store.runs.append(RUN, 3, [b"first"])
    assert store.runs.entries(RUN, 3) == [b"first", b"", b"\xff\x00garbage", b"first"]
    assert store.runs.entries(RUN, 5) == []


def test_entries_are_kept_all_or_none(store: Store) -> None:
    with pytest.raises(StoreError):
        store.runs.append(RUN, 3, [b"good", object()])  # type: ignore[list-item]
    assert store.runs.entries(RUN, 3) == []
    store.runs.append(RUN, 3, [b"the next one works"])
    assert store.runs.entries(RUN, 3) == [b"the next one works"]


def test_who_takes_part_as_another_peer_forgets_what_it_signed_and_keeps_the_chain(store: Store) -> None:
    store.runs.save_run(RunRow(RUN, b"spec", b"join", b"p" * 32, 7))
    store.runs.commit(RUN, 0, stored(0))
    for run in (RUN, OTHER):
        store.runs.append(run, 1, [b"vote"])
    store.runs.renew_run(RunRow(RUN, b"spec", b"another join", b"p" * 32, 7))
    assert store.runs.runs() == [RunRow(RUN, b"spec", b"another join", b"p" * 32, 7)]
    assert (store.runs.entries(RUN, 1), store.runs.entries(OTHER, 1)) == ([], [b"vote"])
    assert store.runs.head(RUN) == (0, stored(0))


def test_of_a_forgotten_run_nothing_is_left(store: Store) -> None:
    for run in (RUN, OTHER):
        store.runs.save_run(RunRow(run, b"spec", b"join", None, 0))
        store.runs.commit(run, 0, stored(0))
        store.runs.append(run, 1, [b"vote"])
        store.runs.accuse(PEER, "lies", b"evidence", run=run)
    store.runs.forget_run(RUN)
    store.runs.forget_run(RUN)
    assert [row.run for row in store.runs.runs()] == [OTHER]
    assert (store.runs.head(RUN), store.runs.entries(RUN, 1), store.runs.evidence(RUN)) == (None, [], [])
    assert store.runs.accusations(RUN) == []
    assert store.runs.head(OTHER) is not None
    assert store.runs.entries(OTHER, 1)
    assert store.runs.evidence(OTHER)


def test_the_journal_survives_a_kill(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "import pathlib; from primep2p.store.db import open_store\n"
        f"store = open_store(pathlib.Path({str(home)!r}))\n"
        "for number in range(10_000):\n"
        "    store.runs.append(b'r' * 32, 1, [b'%d a' % number, b'%d b' % number]); print(number, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for _ in range(20):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    store = open_store(home)
    entries = store.runs.entries(RUN, 1)
    assert len(entries) % 2 == 0
    assert len(entries) >= 2 * (last + 1)
    assert entries == [b"%d %s" % (number, letter) for number in range(len(entries) // 2) for letter in (b"a", b"b")]
    store.close()


def test_checkpoints_are_a_chain(store: Store, tmp_path: Path) -> None:
    assert store.runs.head(RUN) is None
    for round in (0, 1, 2, 4):
        store.runs.commit(RUN, round, stored(round))
    assert store.runs.head(RUN) == (4, stored(4))
    assert store.runs.checkpoint(RUN, 1) == stored(1)
    assert store.runs.checkpoint(RUN, 3) is None
    assert store.runs.chain(RUN, 0, 2) == [stored(0), stored(1)]
    assert store.runs.chain(RUN, 1, 100) == [stored(1), stored(2)]  # a row ends at a gap
    assert store.runs.chain(RUN, 3, 100) == []
    assert store.runs.chain(RUN, 0, 0) == []
    assert store.runs.head(OTHER) is None


def test_what_is_certified_is_never_overwritten(store: Store) -> None:
    store.runs.commit(RUN, 1, stored(1, votes=(b"a",)))
    store.runs.commit(RUN, 1, stored(1, votes=(b"b",)))  # two certificates of one header may exist
    assert store.runs.checkpoint(RUN, 1) == stored(1, votes=(b"a",))
    with pytest.raises(StoreError, match="another header"):
        store.runs.commit(RUN, 1, stored(1, header=b"fork"))
    assert store.runs.checkpoint(RUN, 1) == stored(1, votes=(b"a",))


def test_the_journal_is_trimmed_two_rounds_below_the_head(store: Store) -> None:
    for round in range(6):
        store.runs.append(RUN, round, [b"entry"])
        store.runs.append(OTHER, round, [b"entry"])
    store.runs.commit(RUN, 4, stored(4))
    assert [bool(store.runs.entries(RUN, round)) for round in range(6)] == [False, False, True, True, True, True]
    assert all(store.runs.entries(OTHER, round) for round in range(6))
    store.runs.commit(RUN, 1, stored(1))
    assert store.runs.entries(RUN, 2)


def test_faults_are_counted_and_evidence_kept(store: Store) -> None:
    store.runs.accuse(PEER, "late", None, run=None)
    store.runs.accuse(PEER, "late", None, run=RUN)
    store.runs.accuse(PEER, "late", None, run=RUN)
    store.runs.accuse(PEER, "equivocation", b"proof", run=RUN)
    store.runs.accuse(PEER, "equivocation", b"proof", run=RUN)
    assert store.runs.accusations() == [(PEER, "equivocation", 2), (PEER, "late", 3)]
    assert store.runs.accusations(RUN) == [(PEER, "equivocation", 2), (PEER, "late", 2)]
    assert store.runs.evidence(RUN) == [(PEER, b"proof")]
    assert store.runs.evidence(OTHER) == []


def test_what_peers_can_make_us_keep_is_bounded(store: Store) -> None:
    for number in range(_MAX_EVIDENCE + 5):
        store.runs.accuse(PEER, "x" * 10_000, b"proof %d" % number, run=RUN)
    assert len(store.runs.evidence(RUN)) == _MAX_EVIDENCE
    for number in range(_MAX_ACCUSATIONS + 20):
        store.runs.accuse(PEER, f"reason {number}", None, run=RUN)
    kept = store.runs.accusations(RUN)
    assert len(kept) == _MAX_ACCUSATIONS
    assert all(len(reason) <= 200 for _, reason, _ in kept)


def test_threads_may_write_and_read_at_once(store: Store) -> None:
    def work(number: int) -> None:
        run = bytes([number]) * 32
        for round in range(10):
            store.runs.append(run, round, [b"a", b"b"])
            store.runs.commit(run, round, stored(round))
            assert store.runs.entries(run, round) == [b"a", b"b"]
            assert store.runs.head(run) == (round, stored(round))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_everything_is_there_after_closing_and_opening(tmp_path: Path) -> None:
    home = tmp_path / "home"
    store = open_store(home)
    store.runs.append(RUN, 1, [b"entry"])
    store.runs.commit(RUN, 1, stored(1))
    store.close()
    with pytest.raises(StoreError, match=r"store\.db"):
        store.runs.append(RUN, 1, [b"after closing"])
    store = open_store(home)
    assert store.runs.entries(RUN, 1) == [b"entry"]
    assert store.runs.head(RUN) == (1, stored(1))
    store.close()


def test_a_checkpoint_comes_back_with_the_time_at_which_this_node_had_it(store: Store) -> None:
    first, again = (StoredCheckpoint(stored(0).checkpoint, stored(0).state, at_s) for at_s in (12.5, 99.0))
    store.runs.commit(RUN, 0, first)
    store.runs.commit(RUN, 0, again)
    assert store.runs.checkpoint(RUN, 0) == first, "the first time counts"
    assert store.runs.head(RUN) == (0, first)
    assert store.runs.chain(RUN, 0, 9) == [first]


def test_headers_come_in_batches_across_gaps(store: Store) -> None:
    rounds = [*range(3), *range(10, 80)]
    for round_ in rounds:
        store.runs.commit(RUN, round_, stored(round_, header=b"header %d" % round_))
    store.runs.commit(OTHER, 5, stored(5))
    found, after = [], -1
    while batch := store.runs.headers(RUN, after, 78):
        assert len(batch) <= 64
        found += batch
        after = batch[-1][0]
    assert found == [(round_, b"header %d" % round_) for round_ in rounds[:-1]]
