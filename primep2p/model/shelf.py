"""Models under names: what an owner signs, and the catalog that it points to.

Arrays in msgpack as all records are (model/records.py). The numbers in brackets are rules of docs/protocol.md.
"""

from typing import Annotated

from msgspec import Meta

from primep2p.model.ids import Cid, Hash, PeerId
from primep2p.model.record import Record
from primep2p.model.records import Metric, Name, Round, Scalar

__all__ = [
    "LATEST",
    "MAX_CATALOG_BYTES",
    "MAX_NAMES",
    "MAX_VERSIONS",
    "Catalog",
    "Label",
    "ModelName",
    "ModelRecord",
    "ModelVersion",
    "Sequence",
    "ShelfRecord",
]

LATEST = "latest"
"""The version that the owner offers to who asks for none. No version has it for a label."""

MAX_NAMES = 64
"""On one shelf: all of them have room in one record of the directory, 4 KiB, so that who lists a shelf needs nobody
to be there."""

MAX_VERSIONS = 256
"""Of one model. The owner removes old ones to make room."""

MAX_CATALOG_BYTES = 2**20
"""One chunk: who shows a model fetches no more."""

ModelName = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=r"^(?=[a-z0-9._-]*[g-z._-])[a-z0-9][a-z0-9._-]*\Z",
        extra={"model": "lower-case letters, digits, '.', '_' and '-', and not hex digits alone"},
    ),
]
"""Hex digits alone would read as the beginning of a run's id."""

Label = Annotated[
    str,
    Meta(
        max_length=32,
        pattern=r"^(?!latest\Z)[a-z0-9][a-z0-9._-]*\Z",
        extra={"label": "up to 32 lower-case letters, digits, '.', '_' and '-', and not 'latest'"},
    ),
]

Sequence = Annotated[int, Meta(ge=1, le=2**53)]
"""The newest record has the highest."""


class ModelVersion(Record, frozen=True):
    """One version of a model: its params, and what asking it takes."""

    label: Label
    """The round, where it comes from a run."""
    params: Cid
    """A canonical safetensors file [B2]."""
    size_bytes: Annotated[int, Meta(ge=0, le=2**36)]
    schema: Hash
    """Of the tensors' names and shapes: H("schema", the file's header) [L4]."""
    trainer: Name
    """Whose `predict` knows what to do with it."""
    trainer_config: dict[str, Scalar | list[Scalar]]
    at_s: float
    """When it was published, by its owner's clock."""
    metrics: Annotated[tuple[Metric, ...], Meta(max_length=32)] = ()
    run: Annotated[bytes, Meta(max_length=32)] = b""
    """Where it comes from a run: its id, and below the round and the header that certifies the params. Else empty."""
    round: Round = 0
    header: Annotated[bytes, Meta(max_length=32)] = b""


class Catalog(Record, frozen=True):
    """All versions of a model, as a blob [L3]."""

    owner: PeerId
    name: ModelName
    latest: Label
    versions: Annotated[tuple[ModelVersion, ...], Meta(min_length=1, max_length=MAX_VERSIONS)]
    """In the order in which they were published."""


class ModelRecord(Record, frozen=True):
    """What a name means, from its signer's highest sequence number on [L1]."""

    name: ModelName
    sequence: Sequence
    catalog: Cid | None
    """None: the name means nothing any more."""


class ShelfRecord(Record, frozen=True):
    """The names on its signer's shelf [L2]."""

    sequence: Sequence
    names: Annotated[tuple[ModelName, ...], Meta(max_length=MAX_NAMES)]
    """Sorted."""
