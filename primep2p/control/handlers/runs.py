"""Answers about runs."""

from typing import Protocol

from primep2p.control.calls.runs import RunBan, RunCreate, RunInvite, RunJoin, RunList, RunPreview, RunShow
from primep2p.control.handlers.references import parse_join, parse_start
from primep2p.control.handlers.table import answers
from primep2p.model.errors import CallError
from primep2p.model.ids import RunId
from primep2p.model.views.previews import Preview
from primep2p.model.views.runs import InviteView, RunDetail, RunSummary
from primep2p.run_config import RunConfig
from primep2p.services.runs.origins import Start
from primep2p.wire.token import Token

__all__ = ["PreviewVerbs", "RunVerbs"]


class PreviewVerbs(Protocol):
    """What a node can say of a run before it takes part. Raises PrimeError."""

    async def found(self, config: RunConfig) -> Preview: ...
    async def continued(self, start: Start, config: RunConfig | None) -> Preview: ...
    async def joined(self, run: RunId, token: Token | None) -> Preview: ...


class RunVerbs(Protocol):
    """What a node does with runs. Raises PrimeError. Runs are named by their id in hex or the beginning of it,
    `join_run` by the whole id."""

    async def create_run(self, config: RunConfig, *, own_loop: bool) -> RunSummary: ...
    async def continue_run(self, start: Start, config: RunConfig | None, *, own_loop: bool) -> RunSummary: ...
    async def join_run(
        self, run_hex: str, pin: tuple[int, bytes] | None, token: Token | None, *, own_loop: bool
    ) -> RunSummary: ...
    @property
    def previews(self) -> PreviewVerbs: ...
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


@answers(RunPreview)
async def preview(node: RunVerbs, call: RunPreview) -> Preview:
    if call.run:
        run, _, token = parse_join(call.run, invite=call.invite)
        return await node.previews.joined(bytes.fromhex(run), token)
    if call.origin:
        return await node.previews.continued(parse_start(call.origin), call.config)
    if call.config is None:
        raise CallError(
            "there is no run to preview", hint="name one to join, or a config or an origin to create one of"
        )
    return await node.previews.found(call.config)


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
