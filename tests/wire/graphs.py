"""Graphs and plans in bytes, made without MLX: for tests that damage them."""

import struct
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from primep2p.model.plans import GraphRef, Plan, PlanArray, PlanSetting
from primep2p.wire.codec import encode
from primep2p.wire.envelope import Envelopes
from primep2p.wire.mlxfn import DTYPES
from primep2p.wire.plans import PlanFile
from tests.wire.samples import envelopes

FLOAT32, UINT32 = 10, 3


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str) -> bytes:
    return number(len(value)) + value.encode()


def typed(dtype: int, *shape: int) -> bytes:
    return number(len(shape)) + struct.pack(f"<{len(shape)}i", *shape) + struct.pack("<iB", dtype, DTYPES[dtype][1])


def node(id_: int, name: str, inputs: Iterable[int], settings: bytes, type_: bytes, device: int = 0) -> bytes:
    """An array that a primitive makes."""
    ids = list(inputs)
    begin = number(id_) + b"\1" + number(len(ids)) + b"".join(map(number, ids))
    return begin + struct.pack("<iii", 0, device, 0) + text(name) + settings + number(0) + type_


def graph(
    inputs: Iterable[bytes], outputs: Iterable[int], nodes: Iterable[bytes], *, functions: int = 1, shapeless: int = 1
) -> bytes:
    """A file as MLX writes it; inputs are numbered from 0."""
    types, given, tape = list(inputs), list(outputs), list(nodes)
    begin = text("0.32.4") + struct.pack("<iB", functions, shapeless) + text("") + number(0)
    begin += number(len(types)) + b"".join(map(number, range(len(types)))) + number(len(types)) + b"".join(types)
    return begin + number(len(given)) + b"".join(map(number, given)) + number(len(tape)) + b"".join(tape)


SCALAR = typed(FLOAT32)
WEIGHT = typed(FLOAT32, 3)
BATCH = typed(FLOAT32, 5, 3)
KEY = typed(UINT32, 2)
INIT = graph([KEY], [2], [node(2, "RandomBits", [0], number(1) + struct.pack("<ii", 3, 4), WEIGHT)])
SUM = node(4, "Reduce", [1], struct.pack("<i", 2) + number(1) + struct.pack("<i", 0), SCALAR)
TRAIN = graph([WEIGHT, BATCH, SCALAR], [3, 4], [node(3, "Add", [0, 0], b"", WEIGHT), SUM])
EVALUATE = graph([WEIGHT, BATCH], [4], [SUM])
GRAPHS = {"init": INIT, "train": TRAIN, "evaluate": EVALUATE}
OWNER = envelopes()


def plan(graphs: dict[str, bytes], *, owner: str = OWNER.peer_id, **changed: object) -> Plan:
    made = Plan(
        owner=owner,
        name="sum",
        mlx="0.32.4",
        rows=0,
        params=(PlanArray("weight", "float32", (3,)),),
        state=(),
        batch=(PlanArray("x", "float32", (3,)),),
        settings=(PlanSetting("rate", 0.1),),
        metrics=("loss",),
        is_random=False,
        graphs=tuple(GraphRef(kind, len(raw), sha256(raw).digest()) for kind, raw in graphs.items()),
    )
    return msgspec.structs.replace(made, **changed)


def sealed(graphs: dict[str, bytes] = GRAPHS, sealer: Envelopes = OWNER, **changed: object) -> bytes:
    """A plan's file, whatever is in it."""
    made = plan(graphs, **{"owner": sealer.peer_id, **changed})
    return encode(PlanFile(sealer.seal(made).raw, tuple(graphs.values())))
