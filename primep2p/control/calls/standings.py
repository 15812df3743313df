"""Calls about what this node does in a run: it trains, it rests, it leaves."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.control.calls.runs import RunName
from primep2p.model.views.runs import RunLeft, RunSummary

__all__ = ["RunLeave", "RunPause", "RunResume"]


class RunLeave(Call[RunLeft], frozen=True):
    """Leave a run: this node asks to be left out of a coming checkpoint, and votes until there is one. It trains there
    no more, keeps the model, and may join again."""

    name: ClassVar[str] = "run.leave"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run leave"

    run: RunName
    now: Annotated[
        bool,
        Meta(
            description="Go at once, without a checkpoint that says so: the others drop this node for its silence. For "
            "a run whose members are gone or cannot be reached."
        ),
    ] = False


class RunPause(Call[RunSummary], frozen=True):
    """Let this node rest in a run: it does not train, and the others do not wait for it; it votes and serves as before.
    A training under way stops where it is. It stays so after a restart."""

    name: ClassVar[str] = "run.pause"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run pause"

    run: RunName


class RunResume(Call[RunSummary], frozen=True):
    """Let this node train again after a pause; a training that was stopped goes on."""

    name: ClassVar[str] = "run.resume"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run resume"

    run: RunName
