"""Calls about plans."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.plans import MAX_PLAN_BYTES
from primep2p.model.views.plans import PlanView

__all__ = ["PlanAdd"]


class PlanAdd(Call[PlanView], frozen=True):
    """Keep a plan on this node, to start a run with it: the trainer of such a run is `plan:` and the answer's `cid`."""

    name: ClassVar[str] = "plan.add"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "plan add"

    content: Annotated[bytes, Meta(max_length=MAX_PLAN_BYTES, description="The bytes of its file, in base64.")]
