"""Calls about models."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.views.models import ModelPath

__all__ = ["ModelPathOf"]


class ModelPathOf(Call[ModelPath], frozen=True):
    """Print the file with a round's certified params: read it, never write to it."""

    name: ClassVar[str] = "model.path"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "model path"

    run: Annotated[str, Meta(description="The run's id, or the beginning of it.")]
    round: Annotated[int, Meta(description="Which checkpoint; -1: the newest.")] = -1
