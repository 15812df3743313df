"""Coordinator: a run as one who is used to a coordinator sees it.

There is none: members agree on each model by votes. A Coordinator asks the daemon on this machine, and can no more than
its owner: whoever runs another daemon can do the same with the same run, and the run goes on without either.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import msgspec
from msgspec import Struct

from primep2p.config import load
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.runs import RunCreate, RunShow
from primep2p.control.calls.standings import RunPause, RunResume
from primep2p.model.errors import CallError, Unavailable
from primep2p.model.records import Admission
from primep2p.model.views.events import RunFinished, StepChanged
from primep2p.model.views.runs import RunDetail
from primep2p.run_config import RunConfig, load_run
from primep2p.sdk.client import Client

__all__ = ["Coordinator", "CoordinatorConfig", "CoordinatorStatus", "Progress", "RegisteredNode"]


class CoordinatorConfig(Struct, frozen=True, kw_only=True):
    """What a run begins with, in the words of those who know a coordinator."""

    min_nodes_for_round: int = 3
    """Members that a run waits for before it begins, and updates without which a round ends without a model."""
    heartbeat_timeout_ms: int = 10_000
    """A member counts as active so long after it was last seen connected."""
    task_timeout_ms: int = 120_000
    """The longest that a round waits for updates."""
    consensus_threshold: float = 0.66
    """The share of the members whose votes certify a model, from 0.5 to 1."""


class RegisteredNode(Struct, frozen=True, kw_only=True):
    """A node that may take part, and what its record is."""

    node_id: str
    node_type: Literal["trainer", "voter", "idle"] = "trainer"
    last_heartbeat: float = 0.0
    """Unix time at which this coordinator last saw it connected; 0: never."""
    reliability_score: float = 1.0
    """The share of the rounds in which it was due and seen, as certified; 1 before the first."""


class Progress(Struct, frozen=True):
    """Of the round under way: of so many who train in it, so many have delivered, as far as this node knows."""

    completed_nodes: int
    total_nodes: int


class CoordinatorStatus(Struct, frozen=True):
    """The run at a glance."""

    active_nodes: int
    pending_tasks: int
    """Members that the round waits for."""
    current_round: int
    model_version: int
    """The round of the newest certified model; -1 before the first."""


class Coordinator:
    """`run` is the run to start, as a RunConfig or the path of its file; or the id of one that this node is in.

    Where it is a RunConfig or a file, `config` beats what that says of members, time-outs and votes. `home` is the
    daemon's; without it that of the configuration, as for commands. Nothing is kept open between calls.
    """

    def __init__(
        self,
        run: RunConfig | Path | str,
        config: CoordinatorConfig | None = None,
        *,
        home: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.node_id = ""
        """This node's peer id, from `init` on."""
        self.current_round = 0
        self.model_version = -1
        """Both as of the last answer."""
        self._run = run if isinstance(run, str) else ""
        self._to_create = run if isinstance(run, RunConfig) else load_run(run) if isinstance(run, Path) else None
        self._config = config or CoordinatorConfig()
        self._home = home or load().home
        self._clock = clock
        self._registered: dict[str, RegisteredNode] = {}
        self._seen_at: dict[str, float] = {}
        self._paused = False

    @property
    def run(self) -> str:
        """The run's id; empty before `start_training` has created it."""
        return self._run

    async def init(self) -> None:
        """Finds the daemon. Raises Unavailable where none runs, CallError where this node is not in the run."""
        async with Client.open(self._home) as client:
            self.node_id = (await client.call(DaemonStatus())).peer_id
            if self._run:
                self._see(await client.call(RunShow(run=self._run)))

    async def register_node(self, node: RegisteredNode | str) -> None:
        """Let a peer take part in the run that `start_training` creates: then only those who are registered may, beside
        this node. Raises CallError for a run that has members already, who decide by its admission."""
        if self._run:
            hint = "where its admission is by invite: primep2p run invite"
            raise CallError("the run exists already: who may join it is part of it", hint=hint)
        found = node if isinstance(node, RegisteredNode) else RegisteredNode(node_id=node)
        self._registered[found.node_id] = found

    async def start_training(self, within_s: float = 600.0) -> int:
        """The number of the round under way, once there is one: creates the run, or ends this node's pause in it.

        Raises Unavailable where too few members have come `within_s`; then it can be called again, and waits on."""
        async with Client.open(self._home) as client:
            if not self._run:
                self._run = (await client.call(RunCreate(config=self._settings()))).run
            elif self._paused:
                await client.call(RunResume(run=self._run))
            self._paused = False
            with anyio.move_on_after(within_s):
                await self._begun(client)
            self._see(detail := await client.call(RunShow(run=self._run)))
        if detail.phase == "gathering":
            here = f"{len(detail.members)} of {detail.first_members} members are here"
            raise Unavailable(f"the run has not begun: {here}", hint=f"others join with: primep2p run join {self._run}")
        return self.current_round

    async def get_progress(self) -> Progress:
        """How far the round under way is."""
        detail = await self._detail()
        due = [member for member in detail.members if member.trains]
        return Progress(sum(not member.awaited for member in due), len(due))

    async def get_status(self) -> CoordinatorStatus:
        """The run at a glance."""
        detail = await self._detail()
        heard_since = self._clock() - self._config.heartbeat_timeout_ms / 1000
        active = sum(self._seen_at.get(member.peer, 0.0) >= heard_since for member in detail.members)
        waiting = sum(member.awaited for member in detail.members)
        return CoordinatorStatus(active, waiting, self.current_round, self.model_version)

    async def get_nodes(self) -> list[RegisteredNode]:
        """The members with their records; before the run exists those who are registered."""
        if not self._run:
            return list(self._registered.values())
        return [
            RegisteredNode(
                node_id=member.peer,
                node_type="trainer" if member.trains else "voter" if member.votes else "idle",
                last_heartbeat=self._seen_at.get(member.peer, 0.0),
                reliability_score=_share(member.rounds_done, member.rounds_done + member.rounds_missed),
            )
            for member in (await self._detail()).members
        ]

    async def stop(self) -> None:
        """This node rests: it trains no more until `start_training`, and goes on voting. The others go on as before:
        nobody can stop a run for them."""
        if self._run and not self._paused:
            async with Client.open(self._home) as client:
                await client.call(RunPause(run=self._run))
            self._paused = True

    # ---- what it is made of

    def _settings(self) -> RunConfig:
        if self._to_create is None:
            raise CallError("there is no run to start: give a RunConfig, the path of its file, or a run's id")
        mine, config = self._config, self._to_create
        policy = msgspec.structs.replace(
            config.policy,
            first_members=mine.min_nodes_for_round,
            min_updates=mine.min_nodes_for_round,
            collect_s=mine.task_timeout_ms / 1000,
            consensus_threshold=f"{mine.consensus_threshold:.6f}".rstrip("0").rstrip("."),
        )
        others = tuple(sorted(set(self._registered) - {self.node_id}))
        admission = Admission(mode="allowlist", peers=others) if others else config.admission
        return msgspec.structs.replace(config, policy=policy, admission=admission)

    async def _begun(self, client: Client) -> None:
        """Returns when a round is under way, or the run is over."""
        async with client.stream(EventsWatch(run=self._run)) as events:  # subscribed first, so that nothing is missed
            if (await client.call(RunShow(run=self._run))).phase != "gathering":
                return
            async for event in events:
                if isinstance(event, RunFinished) or (isinstance(event, StepChanged) and event.round > 0):
                    return

    async def _detail(self) -> RunDetail:
        if not self._run:
            raise CallError("the run does not exist yet", hint="await coordinator.start_training() creates it")
        async with Client.open(self._home) as client:
            detail = await client.call(RunShow(run=self._run))
        self._see(detail)
        return detail

    def _see(self, detail: RunDetail) -> None:
        self._run = detail.run
        self.current_round = detail.round
        self.model_version = detail.head_round if detail.head else -1
        now = self._clock()
        self._seen_at |= {each.peer: now for each in detail.members if each.connected or each.peer == self.node_id}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
