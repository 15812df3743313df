"""Every call of the control socket, declared once: server, clients, commands and docs derive from these types."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Protocol, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from primep2p.model.errors import CallError
from primep2p.model.records import MAX_MEMBERS
from primep2p.model.views import AnyEvent, InviteView, ModelPath, NodeStatus, PeerView, RunDetail, RunSummary, Stopped
from primep2p.run_config import RunConfig, check
from primep2p.strict import Fault, build

if TYPE_CHECKING:
    import trio

__all__ = [
    "CALLS",
    "Call",
    "DaemonStatus",
    "DaemonStop",
    "Handlers",
    "ModelPathOf",
    "PeersList",
    "RunBan",
    "RunCreate",
    "RunInvite",
    "RunJoin",
    "RunList",
    "RunShow",
    "RunWatch",
    "answer_type",
    "decode_call",
]

A = TypeVar("A")


class Call(Struct, Generic[A], frozen=True, kw_only=True):
    """A request; `A` is its answer, or what a stream consists of."""

    name: ClassVar[str]
    stream: ClassVar[bool] = False
    """Answered by null once the subscription is in place; then events come until `end`."""
    deadline_s: ClassVar[float] = 10.0
    """After this a client stops waiting for the answer."""


class DaemonStatus(Call[NodeStatus], frozen=True):
    """The daemon at a glance."""

    name: ClassVar[str] = "daemon.status"


class DaemonStop(Call[Stopped], frozen=True):
    """Stop the daemon; answered before it goes."""

    name: ClassVar[str] = "daemon.stop"


class RunCreate(Call[RunSummary], frozen=True):
    """Start a run, with this node as its first member: its trainer makes the first params, or with `origin` they are
    those of a certified checkpoint of another run here, ID or ID@round or ID@round:hash, the newest where no round is
    said. With `origin` the config may be left out: then it is that run's."""

    name: ClassVar[str] = "run.create"
    deadline_s: ClassVar[float] = 600.0  # the trainer imports its framework and makes a model

    config: RunConfig | None = None
    origin: str = ""


class RunJoin(Call[RunSummary], frozen=True):
    """Become a member of a run. `run` is ID or ID@round:hash; `pin` is round:hash where `run` has none. `invite` is
    what run.invite answered as token, for a run that asks for one; it may stand in place of the ID too."""

    name: ClassVar[str] = "run.join"
    deadline_s: ClassVar[float] = 120.0  # members are looked up and asked for the head

    run: str
    pin: str = ""
    invite: str = ""


class RunInvite(Call[InviteView], frozen=True):
    """Make an invite to a run whose admission is "invite", signed by its creator or an inviter. So many peers may join
    by it, in checkpoints up to so many rounds from now. Its token is a secret: whoever has it can join."""

    name: ClassVar[str] = "run.invite"

    run: str
    uses: Annotated[int, Meta(ge=1, le=MAX_MEMBERS)] = 1
    rounds: Annotated[int, Meta(ge=1, le=2**31)] = 100


class RunBan(Call[RunSummary], frozen=True):
    """Have a peer expelled from a run, for ever; only its creator may. Answered when the ban is on its way to the other
    members: a coming checkpoint carries it out."""

    name: ClassVar[str] = "run.ban"

    run: str
    peer: str


class RunList(Call[list[RunSummary]], frozen=True):
    """The runs that this node takes part in."""

    name: ClassVar[str] = "run.list"


class RunShow(Call[RunDetail], frozen=True):
    """A run in full. `run` is its id or the beginning of it."""

    name: ClassVar[str] = "run.show"

    run: str


class RunWatch(Call[AnyEvent], frozen=True):
    """Events as they happen: of one run until it is finished, or of the whole node where `run` is empty."""

    name: ClassVar[str] = "run.watch"
    stream: ClassVar[bool] = True

    run: str = ""


class ModelPathOf(Call[ModelPath], frozen=True):
    """The file with a round's certified params; `round` -1 is the newest."""

    name: ClassVar[str] = "model.path"

    run: str
    round: int = -1


class PeersList(Call[list[PeerView]], frozen=True):
    """Peers that this node is connected to, or has something against."""

    name: ClassVar[str] = "peers.list"


CALLS: dict[str, type[Call[Any]]] = {call.name: call for call in Call.__subclasses__()}
"""By name."""


class Handlers(Protocol):
    """Whoever answers the calls."""

    async def answer(self, call: Call[Any]) -> object:
        """The answer to a call that is no stream. Raises PrimeError."""
        ...

    def watch(self, call: Call[Any]) -> "AbstractAsyncContextManager[trio.MemoryReceiveChannel[AnyEvent]]":
        """The events of a stream, from when the context is entered; it ends with the channel. Raises PrimeError."""
        ...


def answer_type(call: type[Call[A]]) -> Any:
    """The type of a call's answer, or of the events of a stream."""
    (base,) = call.__orig_bases__  # type: ignore[attr-defined]  # set by Generic
    return get_args(base)[0]


def decode_call(method: str, params: bytes) -> Call[Any]:
    """The call in a request. Raises CallError that names the path of what is wrong."""
    call = CALLS.get(method)
    if call is None:
        raise CallError(f"there is no call {method!r}", hint=f"the calls are {', '.join(CALLS)}")
    try:
        decoded = build(call, msgspec.json.decode(params), "params")
        if isinstance(decoded, RunCreate) and decoded.config is not None:
            check(decoded.config)
    except Fault as fault:
        raise CallError(f"{method}: {fault}") from fault
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CallError(f"{method}: params cannot be read: {error}") from error
    return decoded
