"""A node: its identity, its place in the network, its store, and the runs that it takes part in."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from secrets import token_bytes

import psutil
import structlog
import trio

from primep2p import __version__
from primep2p.config import NodeConfig
from primep2p.core.chain import header_hash
from primep2p.kernels.average import self_check
from primep2p.keys import load_identity
from primep2p.model.errors import CallError, ConfigError, PeerError, Unavailable
from primep2p.model.ids import PeerId, RunId
from primep2p.model.records import Header, Join, RunSpec, Scalar, TensorSpec
from primep2p.model.views import (
    Accused,
    AnyEvent,
    LogLine,
    ModelPath,
    NodeStatus,
    PeerChanged,
    PeerView,
    PluginFailed,
    RoundCertified,
    RunDetail,
    RunFinished,
    RunSummary,
    StepChanged,
)
from primep2p.net.host import Host, PeerConnected
from primep2p.net.libp2p_host import LibP2PHost
from primep2p.plugin.discovery import find
from primep2p.plugin.process import Worker
from primep2p.run_config import RunConfig
from primep2p.services.answers import Answers
from primep2p.services.book import Book
from primep2p.services.founding import first_params
from primep2p.services.hub import Hub
from primep2p.services.joining import Pin, Seekers, find_spec, learn_head, run_key, seek_membership
from primep2p.services.members import Overlay
from primep2p.services.reporting import detail, peer_views, summary
from primep2p.services.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.sync import Sync
from primep2p.services.training import Training, TrainingEvent
from primep2p.services.transfer import Transfer
from primep2p.store.db import Store, lock_home, open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes, Opened

__all__ = ["Node", "build"]

PROVIDE_RUN_EVERY_S = 12 * 3600.0
"""Half of what a provider record lives."""

INIT_S = 600.0
"""For a trainer's first params: a large framework and a large model."""

JOIN_S = 90.0
"""To find a run, and to check its chain: less than the control client's patience."""

RETRY_S = 15.0
"""Before a directory that failed is asked again: it is of no use until somebody is connected."""

log = structlog.get_logger("primep2p.node")


def build(config: NodeConfig) -> "Node":
    """The node of `config` on the real network. Raises ConfigError, StoreError."""
    identity = load_identity(config.home / "identity.key")
    host = LibP2PHost(identity, config.p2p.listen, config.p2p.bootstrap, config.node.network)
    return Node(config, Envelopes(config.node.network, identity), host)


class Node:
    """Verbs are those of the control socket. `stopped` is set when somebody asked it to end."""

    def __init__(self, config: NodeConfig, envelopes: Envelopes, host: Host) -> None:
        self.stopped = trio.Event()
        self._config = config
        self._envelopes = envelopes
        self._host = host
        self._hub = Hub()
        self._trainers = config.home / "trainers"
        self._services: dict[RunId, RunService] = {}
        self._started_at = 0.0
        self._kernels = self_check()
        self._joining = trio.Lock()
        self._providing = trio.Lock()
        self._book: Book | None = None
        self._store: Store | None = None
        self._seams: Seams | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Raises ConfigError, StoreError."""
        self._started_at = trio.current_time()
        with ExitStack() as stack:
            stack.enter_context(lock_home(self._config.home))
            store = await trio.to_thread.run_sync(open_store, self._config.home)
            stack.callback(store.close)
            self._store = store
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._start(nursery, store)
                task_status.started()

    async def _start(self, nursery: trio.Nursery, store: Store) -> None:
        book = Book(store.runs)
        self._book = book
        overlay = Overlay(self._host, self._blame, book.remember)
        answers = Answers(self._services, store.runs, overlay)

        scratch = self._config.home / "scratch"
        scratch.mkdir(mode=0o700, exist_ok=True)
        for leftover in scratch.glob("*.safetensors"):
            leftover.unlink()
        transfer = Transfer(self._host, store.blobs, blame=self._blame)
        self._seams = Seams(
            envelopes=self._envelopes,
            host=self._host,
            blobs=store.blobs,
            runs=store.runs,
            overlay=overlay,
            book=book,
            sync=Sync(self._host, answers.answer, self._blame),
            transfer=transfer,
            tell=self._tell,
            scratch=scratch,
            keep_updates=self._config.store.keep_updates,
            addresses=self._addresses,
        )
        await nursery.start(book.run)
        await nursery.start(self._host.run)
        await nursery.start(transfer.run)
        await nursery.start(overlay.run)
        nursery.start_soon(self._watch_peers)
        remembered = await trio.to_thread.run_sync(store.runs.addresses)
        overlay.know(remembered)
        for row in await trio.to_thread.run_sync(store.runs.runs):
            await self._open_run(row)

    # ---- verbs

    def status(self) -> NodeStatus:
        """This node at a glance."""
        return NodeStatus(
            peer_id=self._envelopes.peer_id,
            version=__version__,
            pid=os.getpid(),
            network=self._envelopes.network,
            home=str(self._config.home),
            addresses=list(self._config.p2p.announce or self._host.addresses),
            connected=sorted(self._host.connected),
            uptime_s=round(trio.current_time() - self._started_at, 3),
            rss_bytes=psutil.Process().memory_info().rss,
            runs=self.runs(),
        )

    def stop(self) -> None:
        """Ask the node to end; returns at once."""
        self.stopped.set()

    async def create_run(self, config: RunConfig) -> RunSummary:
        """A new run with this node as its first member. Raises PluginError where its trainer fails."""
        seams, nonce = self._opened()[1], token_bytes(16)
        find(config.trainer, self._config.trainer.plugins)
        place = f"new-{nonce.hex()}"
        training = self._training_of(config.trainer, config.trainer_config, place, (), INIT_S, self._tell)
        try:
            params, tensors = await first_params(training, seams.blobs, seams.scratch)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(shutil.rmtree, self._trainers / place, True)
        spec = seams.envelopes.seal(
            RunSpec(
                creator=seams.envelopes.peer_id,
                name=config.name,
                nonce=nonce,
                tensors=tensors,
                trainer=config.trainer,
                trainer_config=config.trainer_config,
                params=params,
                pipeline=config.pipeline,
                policy=config.policy,
                admission=config.admission,
            )
        )
        return await self._enter(spec, round=0)

    async def join_run(self, run_hex: str, pin: tuple[int, bytes] | None) -> RunSummary:
        """Take part in a run: at its beginning, or from a head that members confirm or the owner pins."""
        run = bytes.fromhex(run_hex)
        async with self._joining:  # who asks again while the first is under way must not open the run twice
            if run in self._services:
                await self._check_pin(run, pin)
                return summary(self._services[run], self._host.connected)
            try:
                with trio.fail_after(JOIN_S):
                    return await self._join(run, Pin(*pin) if pin else None)
            except trio.TooSlowError as error:
                raise Unavailable(
                    f"the members of run {run_hex[:12]} did not answer within {JOIN_S:g} s",
                    hint="see `primep2p peers`, and try again",
                ) from error

    async def _join(self, run: RunId, pin: Pin | None) -> RunSummary:
        store, seams = self._opened()
        at = Seekers(self._host, seams.sync, seams.envelopes)
        spec, holders = await find_spec(run, at)
        find(spec.record.trainer, self._config.trainer.plugins)
        learned = await learn_head(spec, holders, at, pin)
        if learned is None:
            return await self._enter(spec, round=0, pin=pin)
        head, state = learned
        stored = StoredCheckpoint(head.checkpoint, state)
        await trio.to_thread.run_sync(store.runs.commit, run, head.round, stored)
        return await self._enter(spec, round=head.round, pin=pin)

    async def _check_pin(self, run: RunId, pin: tuple[int, bytes] | None) -> None:
        """A pin for a run that this node is in already must be on its chain. Raises CallError."""
        if pin is None:
            return
        stored = await trio.to_thread.run_sync(self._opened()[0].runs.checkpoint, run, pin[0])
        if stored is None or header_hash(stored.checkpoint.header) != pin[1]:
            raise CallError(
                f"this node is in the run already, and checkpoint {pin[0]} of its chain has not that hash",
                hint="ask the others what `primep2p run show` says: somebody is on another chain",
            )

    def runs(self) -> list[RunSummary]:
        """Every run of this node."""
        return [summary(service, self._host.connected) for service in self._services.values()]

    def run_detail(self, prefix: str) -> RunDetail:
        """One run in full."""
        return detail(self._named(prefix), self._host.connected, self._envelopes.peer_id, self._opened()[0].runs)

    def watch(self, run: str) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[AnyEvent]]:
        """Events from now on."""
        return self._hub.watch(self._named(run).run_id.hex() if run else "")

    async def params_path(self, run: str, round: int) -> ModelPath:
        """Where the certified params of a round lie."""
        service, store = self._named(run), self._opened()[0]
        if round < 0:
            if service.head is None:
                raise CallError("the run has not begun: there is no checkpoint yet")
            number, params = service.head.round, service.head.header.params
        else:
            stored = await trio.to_thread.run_sync(store.runs.checkpoint, service.run_id, round)
            if stored is None:
                raise CallError(f"this node has no checkpoint {round} of the run")
            number, params = round, decode(Header, stored.checkpoint.header).params
        if not store.blobs.has(params):
            raise Unavailable(f"the params of round {number} are not here yet")
        path = await trio.to_thread.run_sync(store.blobs.path, params)
        return ModelPath(run=service.run_id.hex(), round=number, cid=params, path=str(path))

    def peers(self) -> list[PeerView]:
        """Peers that are connected, or were accused of something."""
        return peer_views(self._services.values(), self._host.connected, self._opened()[0].runs)

    # ---- runs

    async def _enter(self, spec: Opened[RunSpec], *, round: int, pin: Pin | None = None) -> RunSummary:
        store, seams = self._opened()
        join = seams.envelopes.seal(Join(spec.hash, round, self._addresses(), self._kernels))
        row = RunRow(spec.hash, spec.raw, join.raw, pin.hash if pin else None, pin.round if pin else 0)
        await trio.to_thread.run_sync(store.runs.save_run, row)
        return summary(await self._open_run(row), self._host.connected)

    async def _open_run(self, row: RunRow) -> RunService:
        _, seams = self._opened()
        owner = seams.envelopes.peek(row.join).signer
        if owner != seams.envelopes.peer_id:
            raise ConfigError(
                f"{self._config.home} belongs to the peer {owner}, and its identity.key is that of another one",
                hint="put the identity back, or start with a home of its own",
            )
        try:
            spec = seams.envelopes.open(RunSpec, row.spec)
        except PeerError as error:
            raise ConfigError(
                f"node.network: {self._config.home} holds the run {row.run.hex()[:12]}, which is not of the network "
                f"{self._config.node.network!r}",
                hint="set node.network back, or give the other network a home of its own",
            ) from error

        def make(report: Callable[[TrainingEvent], None]) -> Training:
            record = spec.record
            return self._training_of(
                record.trainer,
                record.trainer_config,
                row.run.hex(),
                record.tensors,
                record.policy.collect_s,
                report,
            )

        service = RunService(row, spec, seams, make)
        self._services[row.run] = service
        nursery = self._nursery
        assert nursery is not None
        await nursery.start(service.run)
        nursery.start_soon(seek_membership, service, seams, self._kernels)
        nursery.start_soon(self._provide_run, row.run)
        return service

    def _training_of(
        self,
        trainer: str,
        settings: dict[str, Scalar | list[Scalar]],
        directory: str,
        tensors: tuple[TensorSpec, ...],
        deadline_s: float,
        report: Callable[[TrainingEvent], None],
    ) -> Training:
        section = self._config.trainer

        def worker() -> Worker:
            return Worker(
                trainer,
                plugins=section.plugins,
                config=settings,
                data=Path(section.data) if section.data else None,
                directory=self._trainers / directory,
                tensors=tensors,
                silent_s=section.silent_s,
            )

        seed = self._envelopes.peer_id.encode() + directory.encode()
        return Training(worker, seed=seed, deadline_s=deadline_s, report=report, run=directory)

    async def _provide_run(self, run: RunId) -> None:
        """Tell the directory, again and again, that this node is in the run."""
        while True:
            try:
                async with self._providing:  # one at a time: each is work for other nodes too
                    await self._host.directory.provide(run_key(run))
            except Unavailable:
                await trio.sleep(RETRY_S)
            else:
                await trio.sleep(PROVIDE_RUN_EVERY_S)

    # ---- bookkeeping

    def _opened(self) -> tuple[Store, Seams]:
        if self._store is None or self._seams is None:
            raise Unavailable("the node is still starting")
        return self._store, self._seams

    def _named(self, prefix: str) -> RunService:
        """The run whose id begins with `prefix`. Raises CallError."""
        found = [service for run, service in self._services.items() if run.hex().startswith(prefix.lower())]
        if not prefix or not found:
            raise CallError(f"this node is in no run {prefix!r}", hint="see: primep2p run list")
        if len(found) > 1:
            raise CallError(f"{prefix!r} is the beginning of {len(found)} runs", hint="write more of the id")
        return found[0]

    def _addresses(self) -> tuple[str, ...]:
        return tuple(self._config.p2p.announce or self._host.addresses)[:16]

    def _blame(self, peer: PeerId, reason: str) -> None:
        """Count a fault that belongs to no run."""
        self._hub.tell(Accused(peer=peer, reason=reason))
        log.debug("accused", peer=peer, reason=reason)
        if self._book is not None:
            self._book.accuse(peer, reason)

    def _tell(self, event: AnyEvent) -> None:
        self._hub.tell(event)
        _write_down(event)

    async def _watch_peers(self) -> None:
        async with self._host.peer_events() as events:
            async for event in events:
                self._tell(PeerChanged(peer=event.peer, connected=isinstance(event, PeerConnected)))


def _write_down(event: AnyEvent) -> None:
    """An event as a line of the log."""
    match event:
        case RoundCertified():
            log.info(
                "round certified",
                run=event.run[:8],
                round=event.round,
                participants=len(event.participants),
                signers=len(event.signers),
                void=event.void,
                seconds=round(event.seconds, 3),
            )
        case Accused():
            log.warning("accused", run=event.run[:8], peer=event.peer, reason=event.reason)
        case PluginFailed():
            log.warning("trainer failed", run=event.run[:8], round=event.round, reason=event.sentence)
        case LogLine():
            log.warning(event.sentence, run=event.run[:8])
        case RunFinished():
            log.info("run finished", run=event.run[:8], round=event.round)
        case PeerChanged():
            log.debug("peer", peer=event.peer, connected=event.connected)
        case StepChanged():
            log.debug("step", run=event.run[:8], round=event.round, view=event.view, step=event.step)
        case _:
            log.debug("event", kind=type(event).__name__, run=event.run[:8])
