"""Each call of the control socket as a verb of the node."""

import os
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import trio

from primep2p.control.calls import (
    Call,
    DaemonStatus,
    DaemonStop,
    ModelPathOf,
    PeersList,
    RunBan,
    RunCreate,
    RunInvite,
    RunJoin,
    RunList,
    RunShow,
    RunWatch,
)
from primep2p.model.errors import CallError
from primep2p.model.views import AnyEvent, InviteView, ModelPath, NodeStatus, PeerView, RunDetail, RunSummary, Stopped
from primep2p.run_config import RunConfig
from primep2p.services.origins import Start
from primep2p.wire.token import PREFIX, Token, read_token

__all__ = ["NodeHandlers", "NodeVerbs", "parse_join", "parse_pin", "parse_start"]

HASH_DIGITS = 64
ROUND_DIGITS = 15


class NodeVerbs(Protocol):
    """What a node does for its owner. Raises PrimeError. Runs are named by their id in hex or the beginning of it,
    `join_run` by the whole id."""

    def status(self) -> NodeStatus: ...
    def stop(self) -> None:
        """Asks the node to end; returns at once."""
        ...

    async def create_run(self, config: RunConfig) -> RunSummary: ...
    async def continue_run(self, start: Start, config: RunConfig | None) -> RunSummary: ...
    async def join_run(self, run_hex: str, pin: tuple[int, bytes] | None, token: Token | None) -> RunSummary: ...
    def invite(self, prefix: str, uses: int, rounds: int) -> InviteView: ...
    async def ban(self, prefix: str, peer: str) -> RunSummary: ...
    def runs(self) -> list[RunSummary]: ...
    def run_detail(self, prefix: str) -> RunDetail: ...
    def watch(self, run: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[AnyEvent]]:
        """Events from when the context is entered; the channel ends when the run is finished. "": the whole node."""
        ...

    async def params_path(self, run: str, round: int) -> ModelPath: ...
    def peers(self) -> list[PeerView]: ...


class NodeHandlers:
    """Answers calls with the verbs of a node."""

    def __init__(self, node: NodeVerbs) -> None:
        self._node = node

    async def answer(self, call: Call[Any]) -> object:
        """The answer to a call that is no stream. Raises PrimeError."""
        node = self._node
        match call:
            case DaemonStatus():
                return node.status()
            case DaemonStop():
                node.stop()
                return Stopped(pid=os.getpid())
            case RunCreate(config=config, origin=origin) if origin:
                return await node.continue_run(parse_start(origin), config)
            case RunCreate(config=config) if config is not None:
                return await node.create_run(config)
            case RunCreate():
                raise CallError("a run needs a config, or an origin to start from")
            case RunJoin(run=run, pin=pin, invite=invite):
                return await node.join_run(*parse_join(run, pin, invite))
            case RunInvite(run=run, uses=uses, rounds=rounds):
                return node.invite(run, uses, rounds)
            case RunBan(run=run, peer=peer):
                return await node.ban(run, peer)
            case RunList():
                return node.runs()
            case RunShow(run=run):
                return node.run_detail(run)
            case ModelPathOf(run=run, round=round_):
                return await node.params_path(run, round_)
            case PeersList():
                return node.peers()
            case _:
                raise NotImplementedError(call.name)

    def watch(self, call: Call[Any]) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[AnyEvent]]:
        """The events of a stream. Raises PrimeError."""
        match call:
            case RunWatch(run=run):
                return self._node.watch(run)
            case _:
                raise NotImplementedError(call.name)


def parse_join(run: str, pin: str = "", invite: str = "") -> tuple[str, tuple[int, bytes] | None, Token | None]:
    """What to join: the invite may stand in place of the id. Raises CallError."""
    token = None
    if run.startswith(PREFIX):
        text, at, inline = run.partition("@")
        if invite and invite != text:
            raise CallError("two different invites are given")
        token = read_token(text)
        run = token.run.hex() + at + inline
    elif invite:
        token = read_token(invite)
    id_, pinned = parse_pin(run, pin)
    if token is not None and token.run.hex() != id_:
        raise CallError(f"the invite is for run {token.run.hex()[:12]}, and not for {id_[:12]}")
    return id_, pinned, token


def parse_pin(run: str, pin: str = "") -> tuple[str, tuple[int, bytes] | None]:
    """The id and the pinned header of ID or ID@round:hash; a `pin` of its own is round:hash. Raises CallError."""
    id_, _, inline = run.partition("@")
    if inline and pin and inline != pin:
        raise CallError("two different pins are given")
    if len(id_) != HASH_DIGITS or _bytes(id_) is None:
        shown = id_ if len(id_) <= HASH_DIGITS else f"{id_[:12]}…"  # what is longer may be most of an invite
        raise CallError(f"{shown!r} is not the id of a run: that has {HASH_DIGITS} hexadecimal digits")
    pin = inline or pin
    if not pin and not run.endswith("@"):
        return id_.lower(), None
    round_, _, digits = pin.partition(":")
    header = _bytes(digits)
    if not _is_round(round_) or header is None or len(header) != 32:
        raise CallError(f"{pin!r} is not a pin", hint="run show prints one: ID@round:hash, with the whole hash")
    return id_.lower(), (int(round_), header)


def parse_start(origin: str) -> Start:
    """Where a new run starts: ID, ID@round, or a pin. Raises CallError."""
    run, at, rest = origin.partition("@")
    if not at:
        return Start(run)
    round_, colon, digits = rest.partition(":")
    header = _bytes(digits)
    if not _is_round(round_) or (colon and (header is None or len(header) != 32)):
        raise CallError(f"{origin!r} is not a checkpoint", hint="write ID, or ID@round, or what run show prints as pin")
    return Start(run, int(round_), header or None)


def _is_round(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= ROUND_DIGITS


def _bytes(digits: str) -> bytes | None:
    try:
        return bytes.fromhex(digits) if digits.isalnum() else None
    except ValueError:
        return None
