"""A plan: a training step that travels as graphs of arithmetic, in place of a trainer's code.

Its record says what the graphs take and give, and who answers for them; the graphs are MLX's (`.mlxfn`).
"""

from typing import Annotated, Literal

from msgspec import Meta

from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.record import Record

__all__ = [
    "MAX_PLAN_BYTES",
    "PLAN_PREFIX",
    "Dtype",
    "GraphKind",
    "GraphRef",
    "Plan",
    "PlanArray",
    "PlanSetting",
    "cid_of_plan",
    "trainer_of_plan",
]

MAX_PLAN_BYTES = 700 * 2**10
"""All graphs of a plan, and its record: in base64 it fits into one request of the control socket. A step of a network
takes about 5 kB a layer; what takes far more carries constants, which belong into the params or the data."""

PLAN_PREFIX = "plan:"
"""Before a CID where a run names its trainer. Together they are as long as a name may be."""

ArrayName = Annotated[str, Meta(min_length=1, max_length=256)]
Argument = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]
Dtype = Literal["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32"]
"""What numpy has as well, so that the data may lie in its files."""

Shape = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=8)]
GraphKind = Literal["init", "train", "evaluate", "predict"]


class PlanArray(Record, frozen=True):
    """An array that a graph takes. Of a batch the shape is that of one row."""

    name: ArrayName
    dtype: Dtype
    shape: Shape


class PlanSetting(Record, frozen=True):
    """A number that a run may set in `trainer_config`, and what it is where the run does not."""

    name: Argument
    default: float


class GraphRef(Record, frozen=True):
    """One graph, by the bytes that it must have."""

    kind: GraphKind
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_PLAN_BYTES)]
    sha256: Hash


class Plan(Record, frozen=True):
    """What a plan's graphs take and give, signed by its owner. Their inputs are in this order:

    init: a key (uint32, 2). train: params, state, batch, settings (float32, no dimension), a key where `is_random`.
    evaluate: params, batch. predict: params, the first array of the batch.
    init gives the params; train the new params, the new state, the loss; evaluate the metrics; predict one array.
    """

    owner: PeerId
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    mlx: Annotated[str, Meta(max_length=32)]
    """The version of MLX that wrote the graphs: their format comes with no promise to others."""
    rows: Annotated[int, Meta(ge=0, le=2**20)]
    """Of each batch; 0: any number."""
    params: Annotated[tuple[PlanArray, ...], Meta(min_length=1, max_length=10_000)]
    """float32, sorted by name."""
    state: Annotated[tuple[PlanArray, ...], Meta(max_length=20_000)]
    """What a step hands to the next one of the same round, such as momentum: zeros at first. Sorted by name."""
    batch: Annotated[tuple[PlanArray, ...], Meta(min_length=1, max_length=16)]
    settings: Annotated[tuple[PlanSetting, ...], Meta(max_length=16)]
    metrics: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(min_length=1, max_length=32)]
    """What `evaluate` gives, each a mean over the rows."""
    is_random: bool
    graphs: Annotated[tuple[GraphRef, ...], Meta(min_length=1, max_length=4)]


def trainer_of_plan(cid: Cid) -> str:
    """What a run names as its trainer that is to train with the plan in blob `cid`."""
    return PLAN_PREFIX + cid


def cid_of_plan(trainer: str) -> str:
    """The CID in the name of a trainer that is a plan; empty where it is no plan."""
    return trainer.removeprefix(PLAN_PREFIX) if trainer.startswith(PLAN_PREFIX) else ""
