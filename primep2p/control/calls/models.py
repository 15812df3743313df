"""Calls about models."""

from typing import Annotated, ClassVar

from msgspec import Meta, field

from primep2p.control.calls.call import Access, Call
from primep2p.model.records import Name, Scalar
from primep2p.model.views.models import ModelDetail, ModelGone, ModelPath, ModelSummary, Prediction
from primep2p.run_config import misfits_of
from primep2p.strict import Fault

__all__ = [
    "ModelList",
    "ModelPathOf",
    "ModelPredict",
    "ModelPublish",
    "ModelPull",
    "ModelRemove",
    "ModelRollback",
    "ModelShow",
]

PULL_S = 24 * 3600.0
"""A large model over a slow line; a caller that waits no longer may ask again, and what is here counts."""

Model = Annotated[
    str,
    Meta(
        description="NAME for a model of yours, OWNER/NAME for somebody's, with @VERSION or @latest; or a run's id, or "
        "the beginning of it, with @ROUND."
    ),
]
OnShelf = Annotated[
    str, Meta(description="NAME for a model of yours, OWNER/NAME for somebody's, with @VERSION or @latest.")
]


class ModelPublish(Call[ModelDetail], frozen=True):
    """Put a model on this node's shelf: others find it by this node's peer id and the name."""

    name: ClassVar[str] = "model.publish"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "model publish"
    deadline_s: ClassVar[float] = 600.0  # the file is copied and hashed

    source: Annotated[
        str,
        Meta(
            description="A run of this node, by its id or the beginning of it, with @ROUND or its newest; or the whole "
            "path of a safetensors file of float32 tensors."
        ),
    ]
    to: Annotated[str, Meta(description="The name. What it offers so far stays as an older version.")]
    version: Annotated[
        str, Meta(description="The version's label; empty: the round, or for a file the next number.")
    ] = ""
    trainer: Annotated[str, Meta(max_length=64, description="Of a file: whose `predict` is for it.")] = ""
    trainer_config: Annotated[
        dict[str, Scalar | list[Scalar]], Meta(description="Of a file: the trainer's settings.")
    ] = field(default_factory=dict)
    metrics: Annotated[dict[Name, float], Meta(max_length=32, description="Of a file: what is known of its worth.")] = (
        field(default_factory=dict)
    )

    @property
    def is_file(self) -> bool:
        """Else it is a run."""
        return self.source.startswith("/")

    def check(self) -> None:
        if self.is_file and not self.trainer:
            raise Fault("params.trainer", "must be there for a file")
        if not self.is_file and (self.trainer or self.trainer_config or self.metrics):
            raise Fault("params", "has trainer, trainer_config or metrics, which are a file's: a run says its own")
        for path, problem in misfits_of(self.trainer_config, "params.trainer_config"):
            raise Fault(path, problem)


class ModelList(Call[list[ModelSummary]], frozen=True):
    """List the models of this node's shelf and those that it pulled; or what is on somebody's shelf."""

    name: ClassVar[str] = "model.list"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "model list"
    deadline_s: ClassVar[float] = 60.0  # the directory is asked

    owner: Annotated[str, Meta(description="A peer's whole id; empty: this node.")] = ""


class ModelShow(Call[ModelDetail], frozen=True):
    """Show a model's versions: where each comes from, and whether its run's chain, if that is here, says so too."""

    name: ClassVar[str] = "model.show"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "model show"
    deadline_s: ClassVar[float] = 120.0  # the directory is asked, and the catalog fetched

    model: OnShelf


class ModelPull(Call[ModelPath], frozen=True):
    """Fetch a model from whoever has it, checked against its owner's signature, and keep it until it is removed. What
    an earlier try brought is not fetched again."""

    name: ClassVar[str] = "model.pull"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "model pull"
    deadline_s: ClassVar[float] = PULL_S

    model: OnShelf


class ModelPathOf(Call[ModelPath], frozen=True):
    """Print the file with a model's params on this node: read it, never write to it."""

    name: ClassVar[str] = "model.path"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "model path"

    model: Model


class ModelRollback(Call[ModelDetail], frozen=True):
    """Offer another version of a model of yours, as a rule an older one. All versions stay."""

    name: ClassVar[str] = "model.rollback"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "model rollback"
    deadline_s: ClassVar[float] = 60.0

    model: Annotated[str, Meta(description="The NAME of a model of yours.")]
    to: Annotated[str, Meta(description="The version that it offers from now on.")]


class ModelPredict(Call[Prediction], frozen=True):
    """Ask a model that is on this node: its trainer's `predict`, in a process of its own. No run is needed."""

    name: ClassVar[str] = "model.predict"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "model predict"
    deadline_s: ClassVar[float] = 900.0  # the trainer imports its framework, and may take 600 s

    model: Model
    inputs: Annotated[str, Meta(description="The whole path of a safetensors file with the arrays to ask about.")]


class ModelRemove(Call[ModelGone], frozen=True):
    """Take a model of yours, or one version of it, off the shelf; or keep one that was pulled no longer."""

    name: ClassVar[str] = "model.remove"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "model remove"
    deadline_s: ClassVar[float] = 60.0

    model: OnShelf
