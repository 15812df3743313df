"""Answers about models."""

from collections.abc import Mapping
from typing import Literal

from primep2p.model.records import Scalar
from primep2p.model.views.view import View

__all__ = ["Certified", "ModelDetail", "ModelGone", "ModelPath", "ModelSummary", "Prediction", "VersionView"]

Certified = Literal["certified", "contradicted", "unknown", "no run"]
"""Whether the params are those that a checkpoint of the run certifies: its chain is here and says so, or says another
thing, or is not here; or the version comes from no run."""


class ModelPath(View, frozen=True):
    """Where params lie on this node, as a safetensors file: read it, never write to it."""

    model: str
    """RUN@ROUND, or OWNER/NAME@VERSION."""
    run: str
    """The run that certified them; empty where none is named."""
    round: int
    cid: str
    path: str
    trainer: str


class VersionView(View, frozen=True):
    """One version of a model."""

    version: str
    latest: bool
    """It is the one that the owner offers."""
    here: bool
    """Its params are on this node."""
    params: str
    size_bytes: int
    schema: str
    trainer: str
    trainer_config: Mapping[str, Scalar | list[Scalar]]
    metrics: Mapping[str, float]
    published_at: float
    """By the owner's clock."""
    run: str
    """The run that it comes from; empty, as `header`, where it comes from none."""
    round: int
    header: str
    certified: Certified


class ModelSummary(View, frozen=True):
    """A model in one line."""

    owner: str
    name: str
    own: bool
    latest: str
    """The version that is offered; empty where the catalog is not here."""
    versions: int
    here: list[str]
    """The versions whose params this node keeps."""


class ModelDetail(View, frozen=True):
    """A model in full, the newest version last."""

    owner: str
    name: str
    own: bool
    sequence: int
    """Of its owner's record; a newer one has a higher number."""
    announced: bool
    """Whether the directory has, or had to say, just this; else it is what this node knew already."""
    catalog: str
    latest: str
    versions: list[VersionView]


class ModelGone(View, frozen=True):
    """What is not kept any more."""

    owner: str
    name: str
    versions: list[str]
    freed_bytes: int
    """0 where something else on this node needs the params."""


class Prediction(View, frozen=True):
    """What a model said."""

    model: str
    trainer: str
    path: str
    """A safetensors file with the answers' arrays. It is this node's, and goes when a few more were asked for."""
    seconds: float
