"""Checkpoints that a new run may start from, from a real store."""

import msgspec
import numpy as np
import pytest

from primep2p.core.chain import header_hash
from primep2p.core.genesis import certified_start
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.records import Checkpoint, TensorSpec
from primep2p.services.runs.origins import Start, certified, find
from primep2p.store.db import open_store
from primep2p.store.seam import StoredCheckpoint
from primep2p.store.tensors import write_tensors
from primep2p.wire.codec import encode
from tests.core.kit import Group, certificate, first_proposed, member, run_spec


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def group(store) -> Group:
    """Three rounds of a run, in the store."""
    group = Group(3)
    for _ in range(3):
        _keep(store, group)
        group.go_on()
    _keep(store, group)
    return group


def _keep(store, group: Group) -> None:
    head = group.head
    store.runs.commit(group.run, head.round, StoredCheckpoint(head.checkpoint, encode(head.state)))


def refusal(store, group: Group, start: Start) -> CallError | Unavailable:
    with pytest.raises((CallError, Unavailable)) as refused:
        certified(start, group.spec, store.runs, store.blobs, member(0))
    return refused.value


def test_a_checkpoint_that_is_not_here_is_named_with_the_newest_that_is(store, group):
    error = refusal(store, group, Start("ab", 9))
    assert error.sentence == f"this node has no checkpoint 9 of run {group.run.hex()[:12]}"
    assert error.hint == "its newest is 3"


def test_a_checkpoint_with_another_hash_than_was_said_is_refused(store, group):
    assert "has not that hash here" in refusal(store, group, Start("ab", 3, bytes(32))).sentence


def test_a_run_that_has_not_begun_has_nothing_to_start_from(store):
    assert "has not begun" in refusal(store, Group(2), Start("ab")).sentence


def test_params_that_are_not_here_make_it_unavailable_with_a_hint(store, group):
    error = refusal(store, group, Start("ab"))
    assert isinstance(error, Unavailable)
    assert "the params of round 3" in error.sentence
    assert "another round" in error.hint


def test_an_origin_is_found_among_runs_with_the_same_tensors_and_nowhere_else(store, group):
    tensors = group.spec.record.tensors
    last = header_hash(group.head.checkpoint.header)
    first = header_hash(store.runs.checkpoint(group.run, 0).checkpoint.header)
    assert find(last, tensors, [run_spec(creator=5), group.spec], store.runs) == f"{group.run.hex()}@3"
    assert find(first, tensors, [group.spec], store.runs) == f"{group.run.hex()}@0"
    assert find(bytes(32), tensors, [group.spec], store.runs) == ""
    assert find(last, (TensorSpec("other", "float32", ()),), [group.spec], store.runs) == ""


@pytest.mark.parametrize(("shape", "is_model"), [((2,), True), ((3,), False)])
def test_params_that_are_no_model_of_the_run_are_refused_and_right_ones_are_not(store, tmp_path, shape, is_model):
    path = tmp_path / "new.safetensors"
    write_tensors(path, (TensorSpec("w", "float32", shape),), [np.zeros(shape, np.float32)])
    params = store.blobs.add(path, durable=True)
    spec = member(0).seal(msgspec.structs.replace(run_spec().record, params=params))
    message, _ = first_proposed(spec, range(1))
    checkpoint = Checkpoint(message.header, certificate([member(0)], message.header, run=spec.hash, round=0))
    head = certified_start(spec, checkpoint, member(0))
    store.runs.commit(spec.hash, 0, StoredCheckpoint(checkpoint, encode(head.state)))
    if is_model:
        assert certified(Start("ab"), spec, store.runs, store.blobs, member(0)) == head
        return
    with pytest.raises(CallError, match="are no model"):
        certified(Start("ab"), spec, store.runs, store.blobs, member(0))
