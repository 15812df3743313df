"""Which record of a name counts, what a catalog may say, and how an owner's catalog grows.

Records come from a directory that anybody may answer: they count by their owner's signature and their sequence number,
and by nothing that depends on who told them, or when.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import convert
from msgspec.structs import replace

from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.records import TensorSpec
from primep2p.model.shelf import (
    LATEST,
    MAX_CATALOG_BYTES,
    MAX_VERSIONS,
    Catalog,
    Label,
    ModelName,
    ModelRecord,
    ModelVersion,
    ShelfRecord,
)
from primep2p.wire.codec import decode, digest, encode
from primep2p.wire.envelope import Opened
from primep2p.wire.safetensors import header_bytes

__all__ = [
    "INDEX_KEY",
    "Choice",
    "check_label",
    "check_name",
    "choose",
    "model_key",
    "next_label",
    "next_sequence",
    "open_catalog",
    "open_model",
    "open_shelf",
    "published",
    "rolled_back",
    "schema_of",
    "version_of",
    "without",
]

INDEX_KEY = "models"
"""Where the directory has an owner's ShelfRecord [L2]."""

R = TypeVar("R", ModelRecord, ShelfRecord)


def model_key(name: str) -> str:
    """Where the directory has an owner's record of a name [L1]."""
    return f"model:{name}"


# ---- what is heard


def open_model(opened: Opened[ModelRecord], owner: PeerId, name: str) -> Opened[ModelRecord]:
    """`opened`, if it is what `owner` says of `name`. Raises PeerError [L1]."""
    if opened.record.name != name:
        raise PeerError(f"a record of the model {opened.record.name!r} under the name {name!r}")
    return _of_owner(opened, owner)


def open_shelf(opened: Opened[ShelfRecord], owner: PeerId) -> Opened[ShelfRecord]:
    """`opened`, if it is what `owner` says of its shelf. Raises PeerError [L2]."""
    if sorted(set(opened.record.names)) != list(opened.record.names):
        raise PeerError("the names on a shelf are sorted, each there once")
    return _of_owner(opened, owner)


def _of_owner(opened: Opened[R], owner: PeerId) -> Opened[R]:
    if opened.signer != owner:
        raise PeerError(f"a record signed by {opened.signer} on the shelf of {owner}")
    return opened


@dataclass(frozen=True, slots=True)
class Choice(Generic[R]):
    """Which of two records counts."""

    opened: Opened[R]
    is_news: bool
    """It is the one that was heard, and another one than was known."""
    contradicts: bool
    """Both have one sequence number, and differ: the owner's identity is used in two places."""


def choose(known: Opened[R] | None, heard: Opened[R]) -> Choice[R]:
    """The higher sequence number, and of equal ones the greater hash, for everybody and whatever came first [L1]."""
    if known is None:
        return Choice(heard, is_news=True, contradicts=False)
    is_news = (heard.record.sequence, heard.hash) > (known.record.sequence, known.hash)
    contradicts = heard.record.sequence == known.record.sequence and heard.hash != known.hash
    return Choice(heard if is_news else known, is_news, contradicts)


def next_sequence(known: int, now_s: float) -> int:
    """Above `known`, and above all that this owner signed before it lost its disk: milliseconds of its clock."""
    return max(known + 1, int(now_s * 1000))


def open_catalog(raw: bytes, owner: PeerId, name: str) -> Catalog:
    """The catalog in `raw`, which `owner` named for `name`. Raises PeerError where it is none [L3]."""
    catalog = decode(Catalog, raw, limit=MAX_CATALOG_BYTES)
    if (catalog.owner, catalog.name) != (owner, name):
        raise PeerError(f"the catalog of {catalog.owner}/{catalog.name} where that of {owner}/{name} was due")
    labels = [version.label for version in catalog.versions]
    if len(set(labels)) != len(labels) or catalog.latest not in labels:
        raise PeerError(f"the catalog of {owner}/{name} has a version twice, or not the one that it offers")
    if any((not version.run) != (not version.header) for version in catalog.versions):
        raise PeerError(f"the catalog of {owner}/{name} has a version of a run without a header, or the reverse")
    return catalog


def schema_of(tensors: Sequence[TensorSpec]) -> Hash:
    """What stands for the tensors' names, shapes and order [L4]. Raises ValueError for names that no file has."""
    return digest("schema", header_bytes(tensors))


# ---- what is asked for and written


def check_name(name: str) -> ModelName:
    """Raises CallError where no model can have this name."""
    try:
        return convert(name, ModelName)
    except ValueError:
        raise CallError(
            f"{name!r} is no name of a model",
            hint="up to 40 lower-case letters, digits, '.', '_' and '-', and not hex digits alone",
        ) from None


def check_label(label: str) -> Label:
    """Raises CallError where no version can have this label."""
    try:
        return convert(label, Label)
    except ValueError:
        raise CallError(
            f"{label!r} is no label of a version",
            hint="up to 32 lower-case letters, digits, '.', '_' and '-', and not 'latest'",
        ) from None


def version_of(catalog: Catalog, label: str) -> ModelVersion:
    """The version of that label; "" or "latest": the one that its owner offers. Raises CallError."""
    wanted = catalog.latest if label in ("", LATEST) else label
    for version in catalog.versions:
        if version.label == wanted:
            return version
    raise CallError(
        f"{catalog.name} has no version {label!r}", hint=f"see: primep2p model show {catalog.owner}/{catalog.name}"
    )


def next_label(catalog: Catalog | None) -> Label:
    """For a version that comes from no round: one more than the highest number."""
    numbers = [int(version.label) for version in catalog.versions if version.label.isdecimal()] if catalog else []
    return str(max(numbers, default=0) + 1)


def published(catalog: Catalog | None, owner: PeerId, name: str, version: ModelVersion) -> Catalog:
    """`version` as the one that is offered. One that is there already is only offered again. Raises CallError."""
    if catalog is None:
        return _checked(Catalog(owner, check_name(name), check_label(version.label), (version,)))
    for present in catalog.versions:
        if present.label == version.label:
            if replace(present, at_s=version.at_s) != version:
                raise CallError(
                    f"{name} has a version {version.label} already, which is another one",
                    hint="publish this one with --version and a label of its own",
                )
            return replace(catalog, latest=version.label)
    if len(catalog.versions) == MAX_VERSIONS:
        oldest = catalog.versions[0].label
        raise CallError(
            f"{name} has {MAX_VERSIONS} versions, which is all that a model may have",
            hint=f"make room: primep2p model remove {name}@{oldest}",
        )
    label = check_label(version.label)
    return _checked(replace(catalog, latest=label, versions=(*catalog.versions, version)))


def rolled_back(catalog: Catalog, label: str) -> Catalog:
    """An older version as the one that is offered; all stay. Raises CallError."""
    return replace(catalog, latest=version_of(catalog, label).label)


def without(catalog: Catalog, label: str) -> Catalog | None:
    """All but one version, None where that was the last one. Raises CallError for the one that is offered."""
    dropped = version_of(catalog, label)
    versions = tuple(version for version in catalog.versions if version.label != dropped.label)
    if versions and dropped.label == catalog.latest:
        raise CallError(
            f"{catalog.name}@{dropped.label} is the version that is offered",
            hint=f"offer another one first: primep2p model rollback {catalog.name} --to {versions[-1].label}",
        )
    return replace(catalog, versions=versions) if versions else None


def _checked(catalog: Catalog) -> Catalog:
    """Raises CallError where nobody would read it."""
    if (size_bytes := len(encode(catalog))) > MAX_CATALOG_BYTES:
        raise CallError(
            f"what {catalog.name} says of its versions takes {size_bytes} bytes, more than {MAX_CATALOG_BYTES}",
            hint=f"make room: primep2p model remove {catalog.name}@{catalog.versions[0].label}",
        )
    return catalog
