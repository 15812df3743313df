"""A plan as one file: its owner's signed record, and the graphs that the record names by their hashes.

Reading checks in this order, each step bounded before the next begins: size, shape of the file, signature, hashes of
the graphs, all of each graph (wire/mlxfn.py), and that they take and give what the record says [X1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from msgspec import Meta

from primep2p.model.errors import PeerError, PluginError
from primep2p.model.plans import MAX_PLAN_BYTES, GraphKind, Plan, PlanArray
from primep2p.model.record import Record
from primep2p.model.records import Envelope
from primep2p.wire.codec import decode, encode
from primep2p.wire.envelope import Envelopes, Opened
from primep2p.wire.mlxfn import ArrayType, Graph, read_graph

__all__ = ["OpenedPlan", "PlanFile", "open_plan", "read_plan", "seal_plan", "types_of"]

EXPORT_AGAIN = "fetch or export it again"

KEY = ArrayType("uint32", (2,))
"""What MLX's generators take."""

SCALAR = ArrayType("float32", ())


class PlanFile(Record, frozen=True):
    """All bytes of a plan. `plan` is the envelope of its record."""

    plan: Annotated[bytes, Meta(max_length=MAX_PLAN_BYTES)]
    graphs: Annotated[tuple[Annotated[bytes, Meta(max_length=MAX_PLAN_BYTES)], ...], Meta(max_length=4)]


@dataclass(frozen=True)
class OpenedPlan:
    """A plan whose graphs were read and fit its record; nothing of them has run."""

    record: Plan
    raw: Mapping[GraphKind, bytes]
    graphs: Mapping[GraphKind, Graph]


def seal_plan(plan: Plan, graphs: tuple[bytes, ...], envelopes: Envelopes) -> bytes:
    """The file of a plan whose graphs are `graphs`, in the order of the record. Raises PluginError."""
    raw = encode(PlanFile(envelopes.seal(plan).raw, graphs))
    open_plan(raw, envelopes)
    return raw


def open_plan(raw: bytes, envelopes: Envelopes) -> OpenedPlan:
    """The plan in `raw`, which its owner signed on this network. Raises PluginError."""
    file = _file(raw)
    try:
        opened: Opened[Plan] = envelopes.open(Plan, file.plan)
    except PeerError as error:
        raise PluginError(
            f"the plan is not signed by its owner: {error.sentence}",
            hint=f"it must be exported for this network, {envelopes.network!r}",
        ) from error
    if opened.signer != opened.record.owner:
        raise PluginError("the plan is not signed by its owner", hint=EXPORT_AGAIN)
    return _checked(opened.record, file.graphs)


def read_plan(raw: bytes) -> OpenedPlan:
    """The plan in `raw` without a look at its signature: for a process that is given only plans that were opened."""
    file = _file(raw)
    try:
        envelope = decode(Envelope, file.plan)
        record = decode(Plan, envelope.payload)
    except PeerError as error:
        raise PluginError(f"the plan cannot be read: {error.sentence}", hint=EXPORT_AGAIN) from error
    if (envelope.kind, envelope.signer) != ("plan", record.owner):
        raise PluginError("the plan is not signed by its owner", hint=EXPORT_AGAIN)
    return _checked(record, file.graphs)


def types_of(plan: Plan, kind: GraphKind, rows: int) -> tuple[list[ArrayType], list[ArrayType] | None]:
    """What a graph of the plan takes and gives for a batch of so many rows; None where it may give any one array."""
    params, state = _fixed(plan.params), _fixed(plan.state)
    batch = [ArrayType(array.dtype, (rows, *array.shape)) for array in plan.batch]
    match kind:
        case "init":
            return [KEY], params
        case "train":
            takes = [*params, *state, *batch, *(SCALAR for _ in plan.settings)]
            return takes + [KEY] * plan.is_random, [*params, *state, SCALAR]
        case "evaluate":
            return [*params, *batch], [SCALAR for _ in plan.metrics]
        case "predict":
            return [*params, batch[0]], None


def _file(raw: bytes) -> PlanFile:
    try:
        return decode(PlanFile, raw, limit=MAX_PLAN_BYTES)
    except PeerError as error:
        raise PluginError(f"this is no plan, or a damaged one: {error.sentence}", hint=EXPORT_AGAIN) from error


def _checked(plan: Plan, raws: tuple[bytes, ...]) -> OpenedPlan:
    _check_record(plan)
    if [(len(raw), sha256(raw).digest()) for raw in raws] != [(ref.size_bytes, ref.sha256) for ref in plan.graphs]:
        raise PluginError("the plan's graphs have other bytes than its owner signed", hint=EXPORT_AGAIN)
    raw = {ref.kind: each for ref, each in zip(plan.graphs, raws, strict=True)}
    graphs = {kind: read_graph(each) for kind, each in raw.items()}
    for kind, graph in graphs.items():
        _check_graph(plan, kind, graph)
    return OpenedPlan(plan, raw, graphs)


def _check_record(plan: Plan) -> None:
    kinds = [ref.kind for ref in plan.graphs]
    if len(set(kinds)) != len(kinds) or not {"init", "train", "evaluate"} <= set(kinds):
        raise PluginError("a plan has one graph each to init, train and evaluate, and may have one to predict")
    for arrays in (plan.params, plan.state):
        names = [array.name for array in arrays]
        if names != sorted(set(names)):
            raise PluginError("the plan's params and state must be sorted by name, each name once")
    if any(array.dtype != "float32" for array in plan.params):
        raise PluginError("the plan's params must be float32")
    names = [array.name for array in plan.batch] + [setting.name for setting in plan.settings]
    if len(set(names)) != len(names) or len(set(plan.metrics)) != len(plan.metrics):
        raise PluginError("the plan gives a name twice")


def _check_graph(plan: Plan, kind: GraphKind, graph: Graph) -> None:
    """Raises PluginError unless it takes and gives what the record says. One for any number of rows was traced with a
    number of its own, which the first array of its batch has."""
    if kind != "init" and plan.rows == 0 and not graph.shapeless:
        raise PluginError(f"the plan's graph to {kind} is for batches of one size, and its record says any")
    rows, first = plan.rows, len(plan.params) + (len(plan.state) if kind == "train" else 0)
    if rows == 0 and kind != "init" and len(graph.inputs) > first and graph.inputs[first].shape:
        rows = graph.inputs[first].shape[0]
    takes, gives = types_of(plan, kind, rows)
    for what, wanted, found in (("takes", takes, graph.inputs), ("gives", gives, graph.outputs)):
        if wanted is not None and tuple(wanted) != found:
            said = next(
                (f"{one} where {two} is due" for one, two in zip(found, wanted, strict=False) if one != two),
                f"{len(found)} arrays where {len(wanted)} are due",
            )
            raise PluginError(f"the plan's graph to {kind} {what} {said}")
    if gives is None and (len(graph.outputs) != 1 or graph.outputs[0].shape[:1] != (rows,)):
        raise PluginError("the plan's graph to predict gives something else than one array with a row for each of x")


def _fixed(arrays: tuple[PlanArray, ...]) -> list[ArrayType]:
    return [ArrayType(array.dtype, array.shape) for array in arrays]
