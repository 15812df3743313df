"""Answers about models."""

from typing import Protocol

from primep2p.control.calls.models import ModelPathOf
from primep2p.control.handlers.table import answers
from primep2p.model.views.models import ModelPath

__all__ = ["ModelVerbs"]


class ModelVerbs(Protocol):
    """What a node does with models. Raises PrimeError."""

    async def params_path(self, run: str, round: int) -> ModelPath: ...


@answers(ModelPathOf)
async def path(node: ModelVerbs, call: ModelPathOf) -> ModelPath:
    return await node.params_path(call.run, call.round)
