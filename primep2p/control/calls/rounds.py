"""Calls about certified rounds."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.control.calls.runs import RunName
from primep2p.model.views.rounds import RoundView

__all__ = ["RoundShow"]


class RoundShow(Call[RoundView], frozen=True):
    """Show a certified round: what entered the model and with what weight, what did not and why, and who signed."""

    name: ClassVar[str] = "round.show"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "round show"

    run: RunName
    round: Annotated[int, Meta(ge=-1, description="Which; -1: the newest.")] = -1
