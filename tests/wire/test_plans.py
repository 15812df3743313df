"""Files of plans and the graphs in them, read without MLX: what is damaged, foreign or too much is refused."""

import struct
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primep2p.model.errors import PluginError
from primep2p.model.plans import MAX_PLAN_BYTES, PlanArray, PlanSetting, cid_of_plan, trainer_of_plan
from primep2p.model.records import RunSpec
from primep2p.wire.cid import cid_of
from primep2p.wire.codec import encode
from primep2p.wire.mlxfn import ALLOWED, read_graph, renumbered
from primep2p.wire.plans import PlanFile, open_plan, read_plan, seal_plan
from tests.wire.graphs import (
    BATCH,
    EVALUATE,
    FLOAT32,
    GRAPHS,
    INIT,
    OWNER,
    SCALAR,
    SUM,
    TRAIN,
    WEIGHT,
    graph,
    node,
    number,
    plan,
    sealed,
    typed,
)
from tests.wire.samples import envelopes


def refused(raw: bytes, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        open_plan(raw, OWNER)


def test_a_plan_is_read_as_it_was_sealed() -> None:
    raw = seal_plan(plan(GRAPHS), tuple(GRAPHS.values()), OWNER)
    opened = open_plan(raw, envelopes(number=2))
    assert opened.record == plan(GRAPHS) == read_plan(raw).record
    assert dict(opened.raw) == GRAPHS
    assert opened.graphs["train"].primitives == {"Add": 1, "Reduce": 1}
    assert opened.graphs["train"].shapeless


def test_a_run_names_a_plan_in_the_room_that_a_trainer_s_name_has() -> None:
    cid = cid_of(b"plan")
    assert cid_of_plan(trainer_of_plan(cid)) == cid
    assert cid_of_plan("mlp") == ""
    msgspec.convert(trainer_of_plan(cid), msgspec.structs.fields(RunSpec)[4].type)


def test_a_plan_is_its_owner_s_on_one_network() -> None:
    raw = sealed()
    with pytest.raises(PluginError, match="not signed by its owner"):
        open_plan(raw, envelopes(network="another"))
    refused(sealed(owner=envelopes(number=2).peer_id), "not signed by its owner")
    with pytest.raises(PluginError, match="not signed by its owner"):
        read_plan(sealed(owner=envelopes(number=2).peer_id))


def test_another_s_graph_in_a_signed_plan_is_refused() -> None:
    other = {**GRAPHS, "train": TRAIN.replace(b"Add", b"Tan")}
    raw = encode(PlanFile(OWNER.seal(plan(GRAPHS)).raw, tuple(other.values())))
    refused(raw, "other bytes than its owner signed")


def test_a_plan_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    refused(bytes(MAX_PLAN_BYTES + 1), "more than the")


@pytest.mark.parametrize("name", ["CustomKernel", "Load", "SVD", "View", "Compiled", "Lode", ""])
def test_only_what_is_allowed_may_be_in_a_graph(name: str) -> None:
    assert name not in ALLOWED
    bad = graph([WEIGHT, BATCH, SCALAR], [3, 4], [node(3, name, [0], b"", WEIGHT), SUM])
    refused(sealed({**GRAPHS, "train": bad}), f"uses '{name}', which no plan may")


BAD = {
    "two functions": (graph([WEIGHT], [0], [], functions=2), "holds 2 functions"),
    "an id that is not there": (graph([WEIGHT], [7], []), "an array that is not there"),
    "a circle": (graph([WEIGHT], [3], [node(3, "Abs", [3], b"", WEIGHT)]), "an array that is not there"),
    "an array twice": (graph([WEIGHT], [0], [node(0, "Abs", [0], b"", WEIGHT)]), "is there twice"),
    "another device": (graph([WEIGHT], [3], [node(3, "Abs", [0], b"", WEIGHT, device=1)]), "another device"),
    "a count without end": (graph([WEIGHT], [0], []) [:-8] + number(2**63), "a count of"),
    "a negative size": (graph([typed(FLOAT32, -1)], [0], []), "a shape"),
    "a huge array": (graph([WEIGHT], [3], [node(3, "Abs", [0], b"", typed(FLOAT32, 2**31 - 1, 9))]), "larger than"),
    "a dtype of another size": (graph([WEIGHT[:-1] + b"\2"], [0], []), "a dtype 10 of 2 bytes"),
    "no dtype": (graph([WEIGHT[:-5] + struct.pack("<iB", 99, 4)], [0], []), "a dtype 99"),
    "a flag that is none": (graph([WEIGHT], [0], [], shapeless=2), "a byte 2"),
    "bytes behind": (TRAIN + b"\0", "1 bytes follow"),
    "a constant cut off": (graph([WEIGHT], [3], [number(3) + b"\0\1" + WEIGHT + bytes(11)]), "ends early"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_graph_is_refused(case: str) -> None:
    raw, said = BAD[case]
    with pytest.raises(PluginError, match=said):
        read_graph(raw)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "fits"),
    [
        ((2, 2), (1, 1), 0, True),
        ((3,), (-1,), 2, True),
        ((0, 9), (9, 9), 2, True),
        ((2, 2), (1, 1), 1, False),
        ((3,), (-1,), 1, False),
        ((2**31 - 1,), (2**62,), 0, False),
        ((1,), (1,), 2**64 - 1, False),
        ((2, 2), (1,), 0, False),
        ((-1,), (1,), 0, False),
    ],
)
def test_a_view_stays_within_its_array(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, fits: bool
) -> None:
    settings = number(len(shape)) + struct.pack(f"<{len(shape)}i", *shape)
    settings += number(len(strides)) + struct.pack(f"<{len(strides)}q", *strides) + number(offset)
    raw = graph([WEIGHT], [3], [node(3, "AsStrided", [0], settings, WEIGHT)], shapeless=0)
    if fits:
        assert read_graph(raw).primitives == {"AsStrided": 1}
    else:
        with pytest.raises(PluginError, match="a view"):
            read_graph(raw)
    with pytest.raises(PluginError, match="a view"):
        read_graph(graph([WEIGHT], [3], [node(3, "AsStrided", [0], settings, WEIGHT)], shapeless=1))


def test_a_graph_that_is_cut_anywhere_is_refused() -> None:
    for end in range(len(TRAIN)):
        with pytest.raises(PluginError):
            read_graph(TRAIN[:end])


@given(st.integers(0, 8 * len(TRAIN) - 1))
def test_a_flipped_bit_is_refused_or_leaves_a_graph(bit: int) -> None:
    flipped = bytearray(TRAIN)
    flipped[bit // 8] ^= 1 << bit % 8
    with suppress(PluginError):
        assert read_graph(bytes(flipped)).primitives.keys() <= ALLOWED.keys()
    refused(sealed().replace(TRAIN, bytes(flipped)), "other bytes than its owner signed")


@given(st.binary(max_size=300))
def test_garbage_is_refused(raw: bytes) -> None:
    for read in (read_graph, read_plan):
        with pytest.raises(PluginError):
            read(raw)


@pytest.mark.parametrize(
    ("kind", "raw", "said"),
    [
        ("train", EVALUATE, "to train takes 2 arrays where 3 are due"),
        ("train", graph([WEIGHT, BATCH, SCALAR], [0, 1], []), r"gives float32\[5, 3\] where float32\[\] is due"),
        ("init", graph([SCALAR], [0], []), r"takes float32\[\] where uint32\[2\] is due"),
        ("evaluate", graph([WEIGHT, BATCH], [4], [SUM], shapeless=0), "for batches of one size"),
        ("predict", graph([WEIGHT, BATCH], [0], []), "one array with a row for each"),
    ],
)
def test_a_graph_takes_and_gives_what_the_record_says(kind: str, raw: bytes, said: str) -> None:
    refused(sealed({**GRAPHS, kind: raw}), said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"params": (PlanArray("b", "float32", ()), PlanArray("a", "float32", ()))}, "sorted by name"),
        ({"params": (PlanArray("weight", "float16", (3,)),)}, "must be float32"),
        ({"settings": (PlanSetting("x", 0.1),)}, "gives a name twice"),
        ({"metrics": ("loss", "loss")}, "gives a name twice"),
    ],
)
def test_a_record_that_cannot_be_is_refused(changed: dict[str, object], said: str) -> None:
    refused(sealed(**changed), said)


def test_a_plan_without_a_graph_to_train_is_refused() -> None:
    refused(sealed({"init": INIT, "evaluate": EVALUATE}), "one graph each")


def test_arrays_are_numbered_in_the_order_of_their_mention() -> None:
    moved = graph([WEIGHT], [9000], [node(9000, "Abs", [0], b"", WEIGHT)])
    again = graph([WEIGHT], [700], [node(700, "Abs", [0], b"", WEIGHT)])
    assert renumbered(moved) == renumbered(again) == graph([WEIGHT], [1], [node(1, "Abs", [0], b"", WEIGHT)])
