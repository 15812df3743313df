"""A node for tests: keeps what it was asked and answers at once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import trio

from primep2p.model.errors import CallError, PluginError
from primep2p.model.views.events import AnyEvent
from primep2p.model.views.node import NodeStatus, PeerView, SpeedView
from primep2p.model.views.previews import Preview, RunCost
from primep2p.model.views.runs import EndView, InviteView, MemberView, RunDetail, RunLeft, RunPhase, RunSummary
from primep2p.run_config import RunConfig
from primep2p.services.runs.origins import Start
from primep2p.services.watching.hub import Hub
from primep2p.strict import plain
from primep2p.wire.token import Token, write_token
from tests.control.fake_jobs import FakeJobs
from tests.control.fake_plans import FakePlans
from tests.control.fake_plugins import FakePlugins
from tests.control.fake_shelf import FakeShelf

RUN = "ab" * 32
PEER = "12D3KooW" + "A" * 44
TOKEN = Token(bytes.fromhex(RUN), b"invite", bytes(32), ("/ip4/127.0.0.1/tcp/4650",), "main")


def member(peer: str = PEER, **more: object) -> MemberView:
    """One that is here and awaited, and does everything, but for what is said."""
    usual = {
        "peer": peer,
        "since": 0,
        "missed": 0,
        "connected": True,
        "awaited": True,
        "votes": True,
        "trains": True,
        "rounds_done": 2,
        "rounds_missed": 1,
        "rounds_blamed": 0,
        "same_kernels": True,
    }
    return MemberView(**{**usual, **more})


def summary(name: str = "digits", run: str = RUN) -> RunSummary:
    return RunSummary(
        run=run,
        name=name,
        phase="running",
        round=3,
        head="cd" * 32,
        params="bafkrei",
        members=4,
        connected=3,
        rests="",
        note="",
    )


def detail(**more: object) -> RunDetail:
    """Of a run under way, but for what is said."""
    usual = {
        "run": RUN,
        "name": "digits",
        "phase": "running",
        "pipeline": plain(RunConfig(name="digits", trainer="mlp"))["pipeline"],  # type: ignore[index]
        "trainer": "mlp",
        "trainer_config": {},
        "creator": PEER,
        "round": 3,
        "view": 0,
        "step": "collect",
        "head": "cd" * 32,
        "head_round": 2,
        "params": "bafkrei",
        "pin": f"{RUN}@2:{'cd' * 32}",
        "origin": "",
        "committee": [PEER],
        "cohort": 1,
        "mode": "sync",
        "least_updates": 2,
        "wanted_updates": 2,
        "max_staleness": 0,
        "quorum": 3,
        "survives_silent": 1,
        "survives_liars": 1,
        "risks": [],
        "first_members": 4,
        "admission": "open",
        "inviters": [],
        "invites": [],
        "obstacle": "",
        "members": [member()],
        "waiting_s": 2.5,
        "waiting_since": 1.5,
        "rounds": [],
        "accusations": [],
        "evidence": [],
        "expelled": [],
        "rests": "",
        "ends": EndView(rounds=0, metric="", at_least=None, at_most=None, newest=None, until=0.0, ended=""),
        "plugin_error": "",
        "cursor": "",
    }
    return RunDetail(**{**usual, **more})


class FakeEvents(Hub):
    """A hub that knows whether somebody watches."""

    def __init__(self) -> None:
        super().__init__("fake")
        self.watching = trio.Event()
        self.unwatched = trio.Event()

    def watch(self, **chosen: Any) -> AsyncIterator[AnyEvent]:
        watch = super().watch(**chosen)
        self.watching.set()
        return self._heard(watch)

    async def _heard(self, watch: AsyncIterator[AnyEvent]) -> AsyncIterator[AnyEvent]:
        try:
            async for event in watch:
                yield event
        finally:
            self.unwatched.set()


def ask_trainer(config: RunConfig) -> None:
    if config.trainer == "broken":
        raise PluginError("the trainer raised", stderr="Traceback: no", hint="look at it")
    if config.trainer == "bug":
        raise ZeroDivisionError("of the handler")


class FakePreviews:
    """Says the same of every run."""

    async def found(self, config: RunConfig) -> Preview:
        ask_trainer(config)
        return preview(name=config.name, params="" if config.params else "/made")

    async def continued(self, start: Start, config: RunConfig | None) -> Preview:
        return preview()

    async def joined(self, run: bytes, token: Token | None) -> Preview:
        return preview(run=run.hex(), members=3, round=7)


def preview(**more: object) -> Preview:
    """Of a run that this node would create, but for what is said."""
    cost = RunCost(
        members=4,
        cohort=4,
        committee=4,
        params_bytes=76_840,
        delta_bytes=76_840,
        state_bytes=0,
        down_bytes=250_000,
        up_bytes=250_000,
        memory_bytes=28 * 2**20,
        disk_bytes=1_229_440,
        growth_bytes=3_000,
    )
    usual = {
        "run": "",
        "name": "digits",
        "trainer": "mlp",
        "creator": PEER,
        "admission": "open",
        "obstacle": "",
        "members": 0,
        "first_members": 4,
        "round": 0,
        "rounds": 20,
        "votes": True,
        "cost": cost,
        "params": "",
    }
    return Preview(**{**usual, **more})


class FakeSpeed:
    """Always the same."""

    async def measure(self, peer: str) -> SpeedView:
        return SpeedView(peer=peer or PEER, up_mbps=12.3456, down_mbps=50.0)


class FakeStandings:
    """A run that this node is still in, whose others are not connected."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def leave(self, prefix: str, *, now: bool) -> RunLeft:
        self.asked.append(("leave", prefix, *(["now"] if now else [])))
        usual = {name: getattr(summary(), name) for name in RunSummary.__struct_fields__}
        usual |= {"phase": "left" if now else "leaving", "rests": "it is leaving the run"}
        return RunLeft(**usual, remaining=1, least_updates=2, waits_for=[] if now else [PEER], begins=True)

    async def pause(self, prefix: str) -> RunSummary:
        self.asked.append(("pause", prefix))
        return msgspec.structs.replace(summary(), rests="its owner has paused it")

    async def resume(self, prefix: str) -> RunSummary:
        self.asked.append(("resume", prefix))
        return summary()


class FakeNode:
    """Events for watchers come from `emit`; a watch of a run ends when it is told to be finished."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stopped = trio.Event()
        self.created: list[RunConfig] = []
        self.continued: list[tuple[Start, RunConfig | None]] = []
        self.joined: list[tuple[str, tuple[int, bytes] | None, Token | None]] = []
        self.own_loops: list[str] = []
        self.banned: list[tuple[str, str]] = []
        self.jobs = FakeJobs()
        self.plans = FakePlans()
        self.plugins = FakePlugins()
        self.standings = FakeStandings()
        self.speed = FakeSpeed()
        self.phase: RunPhase = "running"
        self.known = [RUN]
        self.note = ""
        self.shelf = FakeShelf()
        self.same_kernels = True
        self.members: tuple[str, ...] = (PEER,)
        self.more: dict[str, object] = {}
        self.also: list[MemberView] = []
        """What else differs in the detail of its run, and who else is a member."""
        self.events = FakeEvents()
        self.gate = trio.Event()
        """`create_run` of a run named "slow" waits for it."""

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
            same_kernels=self.same_kernels,
            cursor=self.events.cursor,
            backend="numpy",
            threads=2,
            runs=self.runs(),
        )

    def stop(self) -> None:
        self.stopped.set()

    async def create_run(self, config: RunConfig, *, own_loop: bool = False) -> RunSummary:
        if config.name == "slow":
            await self.gate.wait()
        ask_trainer(config)
        self.created.append(config)
        return msgspec.structs.replace(summary(config.name), note=self.note)

    async def continue_run(self, start: Start, config: RunConfig | None, *, own_loop: bool = False) -> RunSummary:
        self.continued.append((start, config))
        return summary()

    async def join_run(
        self, run_hex: str, pin: tuple[int, bytes] | None, token: Token | None, *, own_loop: bool = False
    ) -> RunSummary:
        self.own_loops += [run_hex] * own_loop
        self.joined.append((run_hex, pin, token))
        return msgspec.structs.replace(summary(run=run_hex), phase=self.phase, note=self.note)

    def invite(self, prefix: str, uses: int, rounds: int) -> InviteView:
        return InviteView(run=RUN, token=write_token(TOKEN), uses=uses, until=2 + rounds)

    async def ban(self, prefix: str, peer: str) -> RunSummary:
        self.banned.append((prefix, peer))
        return summary()

    def runs(self) -> list[RunSummary]:
        return [summary(run=run) for run in self.known]

    def run_detail(self, prefix: str) -> RunDetail:
        if not RUN.startswith(prefix):
            raise CallError(f"there is no run {prefix}", hint="see: primep2p run list")
        members = [*(member(each) for each in self.members), *self.also]
        return detail(
            cursor=self.events.cursor, phase=self.phase, members=members, committee=list(self.members), **self.more
        )

    def run_named(self, prefix: str) -> str:
        if not RUN.startswith(prefix):
            raise CallError(f"there is no run {prefix}")
        return RUN

    def emit(self, *events: AnyEvent) -> None:
        for event in events:
            self.events.tell(event)

    @property
    def history(self) -> "Refuses":
        return Refuses()

    @property
    def previews(self) -> "FakePreviews":
        return FakePreviews()

    @property
    def pointers(self) -> "Refuses":
        return Refuses()

    def peers(self) -> list[PeerView]:
        return [PeerView(peer=PEER, connected=True, runs=[RUN], faults=[])]


class Refuses:
    """Verbs that this stand-in has no answer to."""

    def __getattr__(self, verb: str) -> Any:
        async def refuse(*arguments: object) -> None:
            raise CallError(f"the stand-in does not {verb}")

        return refuse
