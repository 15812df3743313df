"""A node for tests: keeps what it was asked and answers at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from primep2p.model.errors import CallError, PluginError, Unavailable
from primep2p.model.views import AnyEvent, MemberView, ModelPath, NodeStatus, PeerView, RunDetail, RunPhase, RunSummary
from primep2p.run_config import RunConfig

RUN = "ab" * 32
PEER = "12D3KooW" + "A" * 44


def summary(name: str = "digits", run: str = RUN) -> RunSummary:
    return RunSummary(
        run=run, name=name, phase="running", round=3, head="cd" * 32, params="bafkrei", members=4, connected=3
    )


class FakeNode:
    """Events for watchers come from `emit`; a watch of a run ends with `finish`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stopped = trio.Event()
        self.created: list[RunConfig] = []
        self.joined: list[tuple[str, tuple[int, bytes] | None]] = []
        self.phase: RunPhase = "running"
        self.known = [RUN]
        self.have_model = True
        self.members: tuple[str, ...] = (PEER,)
        self.watching = trio.Event()
        self.unwatched = trio.Event()
        self.gate = trio.Event()
        """`create_run` of a run named "slow" waits for it."""
        self._watchers: set[trio.MemorySendChannel[AnyEvent]] = set()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self.stopped.wait()

    def status(self) -> NodeStatus:
        return NodeStatus(
            peer_id=PEER,
            version="0.1.0",
            pid=1,
            network="main",
            home=str(self.home),
            addresses=["/ip4/127.0.0.1/tcp/4650"],
            connected=[PEER],
            uptime_s=61.0,
            rss_bytes=50 * 2**20,
            runs=self.runs(),
        )

    def stop(self) -> None:
        self.stopped.set()

    async def create_run(self, config: RunConfig) -> RunSummary:
        if config.name == "slow":
            await self.gate.wait()
        if config.trainer == "broken":
            raise PluginError("the trainer raised", stderr="Traceback: no", hint="look at it")
        if config.trainer == "bug":
            raise ZeroDivisionError("of the handler")
        self.created.append(config)
        return summary(config.name)

    async def join_run(self, run_hex: str, pin: tuple[int, bytes] | None) -> RunSummary:
        self.joined.append((run_hex, pin))
        return msgspec.structs.replace(summary(run=run_hex), phase=self.phase)

    def runs(self) -> list[RunSummary]:
        return [summary(run=run) for run in self.known]

    def run_detail(self, prefix: str) -> RunDetail:
        if not RUN.startswith(prefix):
            raise CallError(f"there is no run {prefix}", hint="see: primep2p run list")
        return RunDetail(
            run=RUN,
            name="digits",
            phase=self.phase,
            trainer="mlp",
            creator=PEER,
            round=3,
            view=0,
            step="collect",
            head="cd" * 32,
            head_round=2,
            params="bafkrei",
            pin=f"{RUN}@2:{'cd' * 32}",
            committee=[],
            quorum=3,
            survives_silent=1,
            survives_liars=1,
            first_members=4,
            members=[MemberView(peer=p, since=0, missed=0, connected=True, awaited=True) for p in self.members],
            waiting_s=0.5,
            waiting_since=1.5,
            rounds=[],
            accusations=[],
            evidence=0,
            plugin_error="",
        )

    @asynccontextmanager
    async def watch(self, run: str) -> AsyncIterator[trio.MemoryReceiveChannel[AnyEvent]]:
        if not RUN.startswith(run):
            raise CallError(f"there is no run {run}")
        send, receive = trio.open_memory_channel[AnyEvent](100_000)
        self._watchers.add(send)
        self.watching.set()
        try:
            yield receive
        finally:
            self._watchers.discard(send)
            self.unwatched.set()

    def emit(self, event: AnyEvent) -> None:
        for watcher in self._watchers:
            watcher.send_nowait(event)

    def finish(self) -> None:
        for watcher in self._watchers:
            watcher.close()

    async def params_path(self, run: str, round: int) -> ModelPath:
        if not self.have_model:
            raise Unavailable("the params are not here yet")
        return ModelPath(run=run, round=round, cid="bafkrei", path="/x.safetensors")

    def peers(self) -> list[PeerView]:
        return [PeerView(peer=PEER, connected=True, runs=[RUN], faults=[])]
