"""A node: its identity, its place in the network, its store, and the runs that it takes part in."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from secrets import token_bytes

import psutil
import trio

from primep2p import __version__
from primep2p.config import NodeConfig
from primep2p.model.ids import PeerId, RunId
from primep2p.model.records import KERNELS_DIGEST
from primep2p.model.views.events import Accused, AnyEvent, PeerChanged
from primep2p.model.views.node import NodeStatus, PeerView
from primep2p.model.views.runs import InviteView, RunDetail, RunSummary
from primep2p.net.host import Host, PeerConnected
from primep2p.plugin.workers import Trainers
from primep2p.run_config import RunConfig
from primep2p.services.aggregating.backends import Check, check
from primep2p.services.aggregating.compute import Compute
from primep2p.services.blobs.sweeping import Sweeping
from primep2p.services.blobs.transfer import Transfer
from primep2p.services.models.shelf import Shelf
from primep2p.services.peers.answers import Answers
from primep2p.services.peers.book import Book
from primep2p.services.peers.members import Overlay
from primep2p.services.peers.pointers import Pointers
from primep2p.services.peers.speedtest import SpeedTest
from primep2p.services.peers.sync import Sync
from primep2p.services.runs.entering import Runs
from primep2p.services.runs.joining import Pin
from primep2p.services.runs.origins import Start
from primep2p.services.runs.previews import Previews
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training.desk import Desk
from primep2p.services.training.hiring import Own
from primep2p.services.training.jobs import Jobs
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.plans import PlanFiles, Plans
from primep2p.services.training.plugins import Plugins
from primep2p.services.training.resting import Machine, Resting
from primep2p.services.training.standing import Standings
from primep2p.services.watching.history import History
from primep2p.services.watching.hub import Hub
from primep2p.services.watching.logbook import write_down
from primep2p.services.watching.reporting import detail, peer_views, summary
from primep2p.store.seam import BlobStore, RunStore, ShelfStore
from primep2p.tasks import Offload, TaskStatus
from primep2p.wire.envelope import Envelopes
from primep2p.wire.token import Token, write_token

__all__ = ["Node"]

HERE = LocalMachine()


class Node:
    """Verbs are those of the control socket. `stopped` is set when somebody asked it to end.

    Its seams are arguments: `host`, the store in `blobs` and `runs`, `trainers`, `offload` for what blocks, `entropy`,
    `unix_time`, `machine`.
    Whoever opened the store closes it, after `run` has ended.
    """

    def __init__(
        self,
        config: NodeConfig,
        envelopes: Envelopes,
        *,
        host: Host,
        blobs: BlobStore,
        runs: RunStore,
        shelf: ShelfStore,
        trainers: Trainers,
        offload: Offload = trio.to_thread.run_sync,
        entropy: Callable[[int], bytes] = token_bytes,
        unix_time: Callable[[], float] = time.time,
        machine: Machine = HERE,
        check: Check = check,
    ) -> None:
        self.stopped = trio.Event()
        self._config = config
        self._host = host
        self.events = Hub(entropy(4).hex())
        self._started_at = 0.0
        self._book = Book(runs, offload)
        self._overlay = Overlay(host, self._blame, self._book.remember)
        self._transfer = Transfer(host, blobs, blame=self._blame, tell=self._tell, offload=offload)
        self._compute = Compute(config.compute, offload, self._tell, check)
        services: dict[RunId, RunService] = {}
        self.speed = SpeedTest(host, self._blame, Random(entropy(8)))
        self._resting = Resting(config.train_when, machine, offload, self.speed)
        answers = Answers(services, runs, self._overlay, offload)
        self._seams = Seams(
            envelopes=envelopes,
            host=host,
            blobs=blobs,
            runs=runs,
            overlay=self._overlay,
            book=self._book,
            sync=Sync(host, answers.answer, self._blame),
            transfer=self._transfer,
            tell=self._tell,
            offload=offload,
            compute=self._compute,
            gate=self._resting,
            unix_time=unix_time,
            scratch=config.home / "scratch",
            residuals=config.home / "residuals",
            keep_updates=config.store.keep_updates,
            addresses=self._addresses,
        )
        self.plans = Plans(
            PlanFiles(envelopes, blobs, config.plans.trust),
            self._transfer,
            scratch=self._seams.scratch,
            offload=offload,
            tell=self._tell,
        )
        desks: dict[RunId, Desk] = {}
        own = Own(config.home, trainers, self.plans, entropy, desks, config.trainer.silent_s, self._resting)
        self._runs = Runs(services, self._seams, own)
        self.plugins = Plugins(trainers, self._runs, offload)
        self.jobs = Jobs(self._runs, desks, envelopes.peer_id, offload)
        self.previews = Previews(self._runs, self._seams, config.store.keep_checkpoints)
        self.history = History(self._runs, self._seams)
        self.pointers = Pointers(envelopes.peer_id, host.directory, blobs, offload)
        self.shelf = Shelf(self._seams, self._runs, trainers, shelf)
        self.standings = Standings(self._runs, self._resting, self._seams)
        self._sweeping = Sweeping(self._seams, shelf, config.store.keep_checkpoints)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises ConfigError, StoreError."""
        self._started_at = trio.current_time()
        await self._seams.offload(_tidy, self._seams.scratch)
        with closing(self._compute):
            await self._run(task_status)

    async def _run(self, task_status: TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._book.run)
            await nursery.start(self._host.run)
            await nursery.start(self._transfer.run)
            await nursery.start(self._overlay.run)
            nursery.start_soon(self._watch_peers)
            self._overlay.know(await self._seams.offload(self._seams.runs.addresses))
            await nursery.start(self._resting.run)
            await nursery.start(self._runs.run)
            await nursery.start(self.shelf.run)
            await nursery.start(self._sweeping.run)
            task_status.started()
            nursery.start_soon(self._compute.chosen)  # half a second that nobody waits for before the first Join

    # ---- verbs

    def status(self) -> NodeStatus:
        """This node at a glance."""
        envelopes = self._seams.envelopes
        return NodeStatus(
            peer_id=envelopes.peer_id,
            version=__version__,
            pid=os.getpid(),
            network=envelopes.network,
            home=str(self._config.home),
            addresses=list(self._config.p2p.announce or self._host.addresses),
            connected=sorted(self._host.connected),
            uptime_s=round(trio.current_time() - self._started_at, 3),
            rss_bytes=psutil.Process().memory_info().rss,
            same_kernels=self._compute.kernels == KERNELS_DIGEST,
            runs=self.runs(),
            cursor=self.events.cursor,
            backend=self._compute.name,
            threads=self._compute.threads,
        )

    def stop(self) -> None:
        """Ask the node to end; returns at once."""
        self.stopped.set()

    async def create_run(self, config: RunConfig, *, own_loop: bool = False) -> RunSummary:
        """A new run with this node as its first member. Raises PluginError where its trainer fails."""
        return self._summary(await self._runs.found(config, own_loop=own_loop))

    async def continue_run(self, start: Start, config: RunConfig | None, *, own_loop: bool = False) -> RunSummary:
        """A new run from a certified checkpoint of a run of this node; without `config` with that run's settings."""
        return self._summary(await self._runs.found_from(start, config, own_loop=own_loop))

    async def join_run(
        self,
        run_hex: str,
        pin: tuple[int, bytes] | None = None,
        token: Token | None = None,
        *,
        own_loop: bool = False,
    ) -> RunSummary:
        """Take part in a run: at its beginning, or from a head that members confirm or the owner pins. `own_loop`: its
        owner trains, whatever trainer the run names."""
        run, pinned = bytes.fromhex(run_hex), Pin(*pin) if pin else None
        return self._summary(await self._runs.join(run, pinned, token, own_loop=own_loop))

    def invite(self, prefix: str, uses: int, rounds: int) -> InviteView:
        """An invite for so many, good for so many rounds."""
        token, until = self._runs.invite(prefix, uses=uses, rounds=rounds)
        return InviteView(run=token.run.hex(), token=write_token(token), uses=uses, until=until)

    async def ban(self, prefix: str, peer: PeerId) -> RunSummary:
        """Have a peer expelled from a run; returns when the ban is on its way to the others."""
        return self._summary(await self._runs.ban(prefix, peer))

    def runs(self) -> list[RunSummary]:
        """Every run of this node."""
        return [self._summary(service) for service in self._runs.all()]

    def run_detail(self, prefix: str) -> RunDetail:
        """One run in full."""
        return detail(self._runs.named(prefix), self._host.connected, self._seams, self.events.cursor)

    def run_named(self, prefix: str) -> str:
        """The whole id of a run."""
        return self._runs.named(prefix).run_id.hex()

    def peers(self) -> list[PeerView]:
        """Peers that are connected, or were accused of something."""
        return peer_views(self._runs.all(), self._host.connected, self._seams.runs)

    # ---- bookkeeping

    def _summary(self, service: RunService) -> RunSummary:
        return summary(service, self._host.connected, self._seams.envelopes.peer_id)

    def _addresses(self) -> tuple[str, ...]:
        return tuple(self._config.p2p.announce or self._host.addresses)[:16]

    def _blame(self, peer: PeerId, reason: str) -> None:
        """Count a fault that belongs to no run."""
        self._tell(Accused(peer=peer, reason=reason))
        self._book.accuse(peer, reason)

    def _tell(self, event: AnyEvent) -> None:
        told = self.events.tell(event)
        self.jobs.hear(told)
        self.speed.hear(told)
        self._sweeping.hear(told)
        write_down(event)

    async def _watch_peers(self) -> None:
        async with self._host.peer_events() as events:
            async for event in events:
                self._tell(PeerChanged(peer=event.peer, connected=isinstance(event, PeerConnected)))


def _tidy(scratch: Path) -> None:
    """A directory for files under way, without those that a crash left."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in scratch.glob("*.safetensors"):
        leftover.unlink()
