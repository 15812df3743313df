"""Answers about plans."""

from typing import Protocol

from primep2p.control.calls.plans import PlanAdd
from primep2p.control.handlers.table import answers
from primep2p.model.views.plans import PlanView

__all__ = ["PlanKeeping", "PlanVerbs"]


class PlanKeeping(Protocol):
    """What a node does with plans. Raises PrimeError."""

    async def add(self, raw: bytes) -> PlanView: ...


class PlanVerbs(Protocol):
    """A node that has plans."""

    @property
    def plans(self) -> PlanKeeping: ...


@answers(PlanAdd)
async def add(node: PlanVerbs, call: PlanAdd) -> PlanView:
    return await node.plans.add(call.content)
