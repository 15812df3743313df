"""Answers about runs."""

from typing import Protocol

from primep2p.control.calls.runs import RunBan, RunCreate, RunInvite, RunJoin, RunList, RunShow
from primep2p.control.handlers.references import parse_join, parse_start
from primep2p.control.handlers.table import answers
from primep2p.model.errors import CallError
from primep2p.model.views.runs import InviteView, RunDetail, RunSummary
from primep2p.run_config import RunConfig
from primep2p.services.origins import Start
from primep2p.wire.token import Token

__all__ = ["RunVerbs"]


class RunVerbs(Protocol):
    """What a node does with runs. Raises PrimeError. Runs are named by their id in hex or the beginning of it,
    `join_run` by the whole id."""

    async def create_run(self, config: RunConfig, *, own_loop: bool) -> RunSummary: ...
    async def continue_run(self, start: Start, config: RunConfig | None, *, own_loop: bool) -> RunSummary: ...
    async def join_run(
        self, run_hex: str, pin: tuple[int, bytes] | None, token: Token | None, *, own_loop: bool
    ) -> RunSummary: ...
    def invite(self, prefix: str, uses: int, rounds: int) -> InviteView: ...
    async def ban(self, prefix: str, peer: str) -> RunSummary: ...
    def runs(self) -> list[RunSummary]: ...
    def run_detail(self, prefix: str) -> RunDetail: ...


@answers(RunCreate)
async def create(node: RunVerbs, call: RunCreate) -> RunSummary:
    if call.origin:
        return await node.continue_run(parse_start(call.origin), call.config, own_loop=call.own_loop)
    if call.config is None:
        raise CallError("a run needs a config, or an origin to start from")
    return await node.create_run(call.config, own_loop=call.own_loop)


@answers(RunJoin)
async def join(node: RunVerbs, call: RunJoin) -> RunSummary:
    return await node.join_run(*parse_join(call.run, call.pin, call.invite), own_loop=call.own_loop)


@answers(RunInvite)
async def invite(node: RunVerbs, call: RunInvite) -> InviteView:
    return node.invite(call.run, call.uses, call.rounds)


@answers(RunBan)
async def ban(node: RunVerbs, call: RunBan) -> RunSummary:
    return await node.ban(call.run, call.peer)


@answers(RunList)
async def list_(node: RunVerbs, call: RunList) -> list[RunSummary]:
    return node.runs()


@answers(RunShow)
async def show(node: RunVerbs, call: RunShow) -> RunDetail:
    return node.run_detail(call.run)
