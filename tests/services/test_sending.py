"""What a node holds back is neither lost nor sent twice, whatever becomes of its rounds and of the node."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from primep2p.kernels.arrays import Array, Span
from primep2p.kernels.feedback import Difference, Sum
from primep2p.model.errors import StoreError
from primep2p.model.ids import Cid
from primep2p.model.pipeline import Bfloat16, Float32, Int8, Pipeline, TopK, Wire
from primep2p.model.records import Header, Inclusion, RoundPolicy, TensorSpec
from primep2p.services.training.sending import Sender
from primep2p.store.db import Store, open_store
from primep2p.store.deltas import map_delta
from primep2p.store.tensors import write_tensors
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import encode
from tests.wire.golden import unsigned
from tests.wire.samples import identity

TENSORS = (TensorSpec("w", "float32", (3, 2)), TensorSpec("b", "float32", (2,)))
COLUMNS = 8
RUN = bytes(range(32))
ME, OTHER = identity(1).peer_id, identity(2).peer_id
TWO = TopK("0.25")
"""Two values of eight."""

CURRENT = re.compile("current-[0-9]+")

FIRST = [8, -7, 6, 5, 4, 3, 2, 1]
SECOND = [1, 1, 1, 1, 1, 1, 1, 1]


class Chain:
    """What was certified: the delta of each trainer that a round includes."""

    def __init__(self) -> None:
        self.included: dict[int, dict[str, Cid]] = {}
        self.staleness: dict[int, int] = {}
        """Of this node's update in a round."""
        self.void: set[int] = set()

    def checkpoint(self, run: bytes, round: int) -> Any:
        if round not in self.included:
            return None
        header = unsigned()["header"]
        assert isinstance(header, Header)
        ages = {ME: self.staleness.get(round, 0)}
        inclusions = [
            Inclusion(peer, bytes(32), delta, 1, ages.get(peer, 0)) for peer, delta in self.included[round].items()
        ]
        void = "the params are not finite" if round in self.void else ""
        header = msgspec.structs.replace(header, round=round, inclusions=tuple(inclusions), void=void)
        return SimpleNamespace(checkpoint=SimpleNamespace(header=encode(header)))


class Node:
    """A node's part in one run, which may be started again."""

    def __init__(self, home: Path, wire: Wire = TWO, policy: RoundPolicy | None = None) -> None:
        self.home = home
        self.chain = Chain()
        self.said: list[str] = []
        self._wire = wire
        self._policy = policy or RoundPolicy()
        self._store: Store | None = None
        self.start()

    def start(self) -> None:
        self.close()
        self._store = open_store(self.home)
        seams: Any = SimpleNamespace(
            blobs=self._store.blobs,
            runs=self.chain,
            envelopes=SimpleNamespace(peer_id=ME),
            scratch=self.home,
            residuals=self.home / "residuals",
            offload=trio.to_thread.run_sync,
            tell=lambda event: self.said.append(event.sentence),
        )
        spec: Any = SimpleNamespace(tensors=TENSORS, pipeline=Pipeline(wire=self._wire), policy=self._policy)
        self.sender = Sender(RUN, spec, seams)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def train(self, round: int, values: list[float]) -> Cid:
        """The trainer made these."""
        trained, row = self.home / "trained", np.array(values, np.float32)
        write_tensors(trained, TENSORS, [row[:6].reshape(3, 2), row[6:]])
        delta = trio.run(self.sender.pack, round, trained)
        assert not trained.exists()
        assert not list(self.home.glob("*-delta-*")), "what was packed is a blob now"
        return delta

    def sent(self, delta: Cid) -> list[float]:
        """What others decode."""
        assert self._store is not None
        found: list[float] = map_delta(self._store.blobs.path(delta), self._wire, TENSORS).read(0, COLUMNS).tolist()
        return found

    def certify(self, round: int, *deltas: Cid, staleness: int = 0) -> None:
        """A checkpoint with these updates of this node, and one of somebody else."""
        self.chain.staleness[round] = staleness
        self.chain.included[round] = {OTHER: cid_of(b"theirs"), **dict.fromkeys([ME][: len(deltas)], *deltas)}

    @property
    def kept(self) -> dict[str, list[float]]:
        """The files with residuals, but for the round of what is current, and what is in them."""
        found = sorted((self.home / "residuals" / RUN.hex()).glob("*"))
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
        assert sum(path.name.startswith("current-") for path in found) <= 1
        return {
            CURRENT.sub("current", path.name): map_delta(path, Float32(), TENSORS).read(0, COLUMNS).tolist()
            for path in found
        }


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def test_what_was_left_out_is_in_the_next_delta(node: Node) -> None:
    delta = node.train(1, FIRST)
    assert node.sent(delta) == [8, -7, 0, 0, 0, 0, 0, 0]
    assert node.kept == {f"1-{delta}": [0, 0, 6, 5, 4, 3, 2, 1]}
    node.certify(1, delta)
    following = node.train(2, SECOND)
    assert node.sent(following) == [0, 0, 7, 6, 0, 0, 0, 0]
    assert node.kept == {
        "current": [0, 0, 6, 5, 4, 3, 2, 1],
        f"2-{following}": [1, 1, 0, 0, 5, 4, 3, 2],
    }


def test_a_delta_that_no_checkpoint_includes_leaves_nothing_behind(node: Node) -> None:
    """The next training starts from the same params and finds the same again."""
    node.certify(1, node.train(1, FIRST))
    late = node.train(2, FIRST)
    node.certify(2)  # void, or it came too late
    assert f"2-{late}" in node.kept
    delta = node.train(3, SECOND)
    assert node.sent(delta) == [0, 0, 7, 6, 0, 0, 0, 0]
    assert sorted(node.kept) == [f"3-{delta}", "current"]


def test_a_round_that_is_trained_again_replaces_what_it_made_before(node: Node) -> None:
    """A crash between the delta and its Update, which nobody has heard of then."""
    node.train(1, SECOND)
    node.start()
    delta = node.train(1, FIRST)
    assert node.kept == {f"1-{delta}": [0, 0, 6, 5, 4, 3, 2, 1]}


def test_what_was_left_out_survives_a_restart(node: Node) -> None:
    delta = node.train(1, FIRST)
    node.start()
    node.certify(1, delta)
    node.start()
    assert node.sent(node.train(2, SECOND)) == [0, 0, 7, 6, 0, 0, 0, 0]


def test_rounds_without_this_node_change_nothing(node: Node) -> None:
    node.certify(1, node.train(1, FIRST))
    for round in range(2, 9):
        node.certify(round)
    assert node.sent(node.train(9, SECOND)) == [0, 0, 7, 6, 0, 0, 0, 0]
    assert node.said == []


def test_what_a_crash_left_half_written_is_removed(node: Node) -> None:
    node.certify(1, node.train(1, FIRST))
    for name in ("new", "what-is-this", "0-x"):
        (node.home / "residuals" / RUN.hex() / name).write_bytes(b"half of a fi")
    delta = node.train(2, SECOND)
    assert node.sent(delta) == [0, 0, 7, 6, 0, 0, 0, 0]
    assert sorted(node.kept) == [f"2-{delta}", "current"]


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw[:-4] + b"\0\0\xc0\x7f"])
def test_a_damaged_residual_is_dropped_and_told_of(node: Node, spoil: Any) -> None:
    node.certify(1, node.train(1, FIRST))
    node.certify(2, node.train(2, SECOND))
    current = node.home / "residuals" / RUN.hex() / "current-1"
    current.write_bytes(spoil(current.read_bytes()))
    pending = next(current.parent.glob("2-*"))
    pending.unlink()
    assert node.sent(node.train(3, FIRST)) == [8, -7, 0, 0, 0, 0, 0, 0]
    assert "current" not in node.kept
    assert [said for said in node.said if "is damaged" in said] == node.said != []


@pytest.mark.parametrize("known", [False, True], ids=["no checkpoint", "another delta"])
def test_a_residual_that_may_be_wrong_is_dropped_and_told_of(node: Node, known: bool) -> None:
    """A home that is older or newer than its store, or a head that was pinned: nobody knows what was sent."""
    node.certify(1, node.train(1, FIRST))
    node.train(2, SECOND)
    if known:
        node.certify(2, cid_of(b"a delta of an earlier life"))
    assert node.sent(node.train(3, FIRST)) == [8, -7, 0, 0, 0, 0, 0, 0]
    assert len(node.kept) == 1
    assert len(node.said) == 1
    assert "round 2" in node.said[0]


def test_a_residual_from_the_future_is_dropped(node: Node) -> None:
    node.certify(1, node.train(1, FIRST))
    node.train(7, SECOND)
    assert node.sent(node.train(2, FIRST)) == [8, -7, 0, 0, 0, 0, 0, 0]
    assert len(node.said) == 1


def test_a_run_that_is_over_leaves_nothing(node: Node) -> None:
    node.certify(1, node.train(1, FIRST))
    node.train(2, SECOND)
    trio.run(node.sender.forget)
    assert not (node.home / "residuals" / RUN.hex()).exists()
    trio.run(node.sender.forget)
    assert node.sent(node.train(3, FIRST)) == [8, -7, 0, 0, 0, 0, 0, 0]


def test_a_disk_that_fails_stops_the_daemon(node: Node) -> None:
    (node.home / "residuals").write_text("no directory")
    with pytest.raises(StoreError, match="residuals"):
        node.train(1, FIRST)


@pytest.mark.parametrize("wire", [Float32(), Bfloat16(), Int8()], ids=lambda wire: type(wire).__name__)
def test_other_forms_keep_nothing_back(tmp_path: Path, wire: Wire) -> None:
    node = Node(tmp_path, wire)
    for round in (1, 2):
        delta = node.train(round, FIRST)
        np.testing.assert_allclose(node.sent(delta), FIRST, atol=8 / 250)
        node.certify(round, delta)
    assert not (tmp_path / "residuals").exists()
    node.close()


WHOLE = st.lists(st.integers(-1000, 1000).map(float), min_size=COLUMNS, max_size=COLUMNS)
"""Sums of whole numbers are exact, so that nothing may differ."""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(WHOLE, st.sampled_from(["included", "not included", "died", "restarted"])), max_size=12))
def test_all_that_was_trained_is_sent_or_held_back(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[list[float], str]]
) -> None:
    node, due = Node(tmp_path_factory.mktemp("node")), np.zeros(COLUMNS)
    for round, (values, fate) in enumerate(rounds, 1):
        delta = node.train(round, values)
        if fate == "died":
            node.start()
            delta = node.train(round, values)
        assert len(node.kept) <= 2
        if fate == "not included":
            node.certify(round)
        else:
            node.certify(round, delta)
            due += np.array(values) - node.sent(delta)
        if fate == "restarted":
            node.start()
    final = len(rounds) + 1
    delta = node.train(final, [0.0] * COLUMNS)
    assert np.array_equal(np.array(node.sent(delta)) + node.kept[f"{final}-{delta}"], due)
    assert node.said == []
    node.close()


# ---- buffered: deltas may enter later than in their round

BUFFERED = RoundPolicy(mode="buffered", max_staleness=2)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path, policy=BUFFERED)
    yield made
    made.close()


def test_what_a_delta_left_out_counts_once_it_enters_rounds_later(patient: Node) -> None:
    delta = patient.train(1, FIRST)
    patient.certify(1)
    patient.certify(2)
    patient.certify(3, delta, staleness=2)
    assert patient.sent(patient.train(4, SECOND)) == [0, 0, 7, 6, 0, 0, 0, 0]


def test_a_delta_that_grew_too_old_leaves_nothing_behind(patient: Node) -> None:
    patient.train(1, FIRST)
    for round in (1, 2, 3):
        patient.certify(round)
    assert patient.sent(patient.train(4, SECOND)) == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_delta_behind_which_a_later_one_entered_leaves_nothing_behind(patient: Node) -> None:
    patient.train(1, FIRST)
    patient.certify(1)
    later = patient.train(2, SECOND)
    patient.certify(2, later)
    assert patient.sent(patient.train(3, SECOND)) == [0, 0, 2, 2, 0, 0, 0, 0]


def test_a_delta_that_a_void_round_used_up_leaves_nothing_behind(patient: Node) -> None:
    patient.certify(1, patient.train(1, FIRST))
    patient.chain.void.add(1)
    assert patient.sent(patient.train(2, SECOND)) == [1, 1, 0, 0, 0, 0, 0, 0]


def test_two_deltas_under_way_do_not_both_take_what_was_left_before(patient: Node) -> None:
    patient.certify(1, patient.train(1, FIRST))
    second = patient.train(2, SECOND)  # it takes what the first left out
    patient.certify(2)
    third = patient.train(3, SECOND)
    assert patient.sent(third) == [1, 1, 0, 0, 0, 0, 0, 0]
    patient.certify(3, second, staleness=1)
    patient.certify(4, third, staleness=1)
    last = patient.train(5, [0] * 8)
    assert patient.sent(last) == [0, 0, 0, 0, 6, 5, 0, 0]
    assert patient.kept[f"5-{last}"] == [1, 1, 1, 1, 0, 0, 4, 3]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(WHOLE, st.sampled_from(["soon", "later", "much later", "never", "restarted"])), min_size=1, max_size=8
    )
)
def test_whatever_order_deltas_enter_in_all_that_was_trained_is_sent_or_held_back(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[list[float], str]]
) -> None:
    node, due = Node(tmp_path_factory.mktemp("node"), policy=BUFFERED), np.zeros(COLUMNS)
    waiting: list[tuple[int, int, Cid, list[float]]] = []
    for round, (values, fate) in enumerate([*rounds, *[([], "no training")] * 3], 1):
        if values:
            delay = {"soon": 0, "later": 1, "much later": 2, "restarted": 1}.get(fate, 99)
            waiting.append((round + delay, round, node.train(round, values), values))
        if fate == "restarted":
            node.start()
        ready = [entry for entry in waiting if entry[0] <= round and round - entry[1] <= 2]
        if not ready:
            node.certify(round)
            continue
        _, its_round, delta, values = min(ready, key=lambda entry: entry[1])
        node.certify(round, delta, staleness=round - its_round)
        due += np.array(values) - node.sent(delta)
        waiting = [entry for entry in waiting if entry[1] > its_round]
    final = len(rounds) + 4
    delta = node.train(final, [0.0] * COLUMNS)
    assert np.array_equal(np.array(node.sent(delta)) + node.kept[f"{final}-{delta}"], due)
    assert node.said == []
    node.close()


# ---- rows


def row(*values: float) -> Span:
    array: Array = np.array(values, np.float32)
    return Span(array)


def test_a_sum_stays_finite() -> None:
    most = float(np.finfo(np.float32).max)
    assert Sum(row(most, -most, 1), row(most, -most, 2)).read(0, 3).tolist() == [most, -most, 3]


def test_rows_of_one_length_are_combined_in_any_range() -> None:
    first, second = row(1, 2, 3, 4), row(5, 5, 5, 5)
    assert len(Sum(first, second)) == len(Difference(first, second)) == 4
    assert Sum(first, second).read(1, 3).tolist() == [7, 8]
    assert Difference(first, second).read(2, 4).tolist() == [-2, -1]
    for kind in (Sum, Difference):
        with pytest.raises(ValueError, match="4 and 1 values"):
            kind(first, row(1))
