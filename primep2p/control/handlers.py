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
    RunCreate,
    RunJoin,
    RunList,
    RunShow,
    RunWatch,
)
from primep2p.model.errors import CallError
from primep2p.model.views import AnyEvent, ModelPath, NodeStatus, PeerView, RunDetail, RunSummary, Stopped
from primep2p.run_config import RunConfig

__all__ = ["NodeHandlers", "NodeVerbs", "parse_pin"]

HASH_DIGITS = 64


class NodeVerbs(Protocol):
    """What a node does for its owner. Raises PrimeError. Runs are named by their id in hex or the beginning of it,
    `join_run` by the whole id."""

    def status(self) -> NodeStatus: ...
    def stop(self) -> None:
        """Asks the node to end; returns at once."""
        ...

    async def create_run(self, config: RunConfig) -> RunSummary: ...
    async def join_run(self, run_hex: str, pin: tuple[int, bytes] | None) -> RunSummary: ...
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
            case RunCreate(config=config):
                return await node.create_run(config)
            case RunJoin(run=run, pin=pin):
                return await node.join_run(*parse_pin(run, pin))
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


def parse_pin(run: str, pin: str = "") -> tuple[str, tuple[int, bytes] | None]:
    """The id and the pinned header of ID or ID@round:hash; a `pin` of its own is round:hash. Raises CallError."""
    id_, _, inline = run.partition("@")
    if inline and pin and inline != pin:
        raise CallError("two different pins are given")
    if len(id_) != HASH_DIGITS or _bytes(id_) is None:
        raise CallError(f"{id_!r} is not the id of a run: that has {HASH_DIGITS} hexadecimal digits")
    pin = inline or pin
    if not pin and not run.endswith("@"):
        return id_.lower(), None
    round_, _, digits = pin.partition(":")
    header = _bytes(digits)
    if not (round_.isascii() and round_.isdigit()) or len(round_) > 15 or header is None or len(header) != 32:
        raise CallError(f"{pin!r} is not a pin", hint="run show prints one: ID@round:hash, with the whole hash")
    return id_.lower(), (int(round_), header)


def _bytes(digits: str) -> bytes | None:
    try:
        return bytes.fromhex(digits) if digits.isalnum() else None
    except ValueError:
        return None
