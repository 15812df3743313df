"""Calls about runs."""

from typing import Annotated, ClassVar

from msgspec import Meta

from primep2p.control.calls.call import Access, Call
from primep2p.model.records import MAX_MEMBERS
from primep2p.model.views.previews import Preview
from primep2p.model.views.runs import InviteView, RunDetail, RunSummary
from primep2p.run_config import RunConfig, check
from primep2p.strict import Fault

__all__ = ["RunBan", "RunCreate", "RunInvite", "RunJoin", "RunList", "RunName", "RunPreview", "RunShow"]

OwnLoop = Annotated[
    bool,
    Meta(description="Train in a loop of your own, by job next and job submit, whatever trainer the run names."),
]

RunName = Annotated[str, Meta(description="The run's id, or the beginning of it.")]


class RunCreate(Call[RunSummary], frozen=True):
    """Start a run: this node makes the first params, or takes those of another run, and is the first member."""

    name: ClassVar[str] = "run.create"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run create"
    deadline_s: ClassVar[float] = 600.0  # the trainer imports its framework and makes a model

    config: Annotated[RunConfig | None, Meta(description="What to train and how; null: as the run of `origin`.")] = None
    origin: Annotated[
        str,
        Meta(
            description="ID or ID@round or ID@round:hash: start from the certified params of a run of this node, the "
            "newest without a round. Else they are those of config.params, or its trainer makes them."
        ),
    ] = ""
    own_loop: OwnLoop = False

    def check(self) -> None:
        if self.config is not None:
            _check(self.config)


class RunJoin(Call[RunSummary], frozen=True):
    """Become a member of a run."""

    name: ClassVar[str] = "run.join"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run join"
    deadline_s: ClassVar[float] = 120.0  # members are looked up and asked for the head

    run: Annotated[
        str, Meta(description="ID, or ID@round:hash, which pins a header that you trust; or an invite in its place.")
    ]
    pin: Annotated[str, Meta(description="round:hash, where `run` has none.")] = ""
    invite: Annotated[str, Meta(description="The token of run.invite, where `run` is the ID.")] = ""
    own_loop: OwnLoop = False


class RunPreview(Call[Preview], frozen=True):
    """Say what a run would cost this node, and whether its members would let it in: one to join, where `run` is given,
    else one to create, of `config` and `origin`, whose trainer makes first params to see their size. Nothing is begun.
    """

    name: ClassVar[str] = "run.preview"
    access: ClassVar[Access] = "write"  # it may start a trainer
    command: ClassVar[str] = "run preview"
    deadline_s: ClassVar[float] = 600.0

    run: Annotated[str, Meta(description="As in run.join: an ID, or an invite in its place.")] = ""
    invite: Annotated[str, Meta(description="The token of run.invite, where `run` is the ID.")] = ""
    config: Annotated[RunConfig | None, Meta(description="As in run.create.")] = None
    origin: Annotated[str, Meta(description="As in run.create.")] = ""

    def check(self) -> None:
        if self.config is not None:
            _check(self.config)


class RunInvite(Call[InviteView], frozen=True):
    """Make an invite to a run whose admission is "invite", signed by its creator or an inviter. Whoever has its token
    can join: hand it over by a channel that both ends trust."""

    name: ClassVar[str] = "run.invite"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run invite"

    run: RunName
    uses: Annotated[int, Meta(ge=1, le=MAX_MEMBERS, description="How many may join by it.")] = 1
    rounds: Annotated[int, Meta(ge=1, le=2**31, description="How many rounds from now it is good for.")] = 100


class RunBan(Call[RunSummary], frozen=True):
    """Have a peer expelled from a run, for ever; only its creator may. Answered when the ban is on its way to the other
    members: a coming checkpoint carries it out."""

    name: ClassVar[str] = "run.ban"
    access: ClassVar[Access] = "write"
    command: ClassVar[str] = "run ban"

    run: RunName
    peer: Annotated[str, Meta(description="The peer's whole id: run show has it.")]


class RunList(Call[list[RunSummary]], frozen=True):
    """List the runs that this node takes part in."""

    name: ClassVar[str] = "run.list"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "run list"


class RunShow(Call[RunDetail], frozen=True):
    """Show a run: its members and who was expelled, whom it waits for, its newest rounds, and what it survives."""

    name: ClassVar[str] = "run.show"
    access: ClassVar[Access] = "read"
    command: ClassVar[str] = "run show"

    run: RunName


def _check(config: RunConfig) -> None:
    """A path is for the command that reads it: what it names is not this node's to open."""
    check(config)
    if config.plan:
        raise Fault("config.plan", "is for `run create`: send the file with plan.add, and name it as trainer")
