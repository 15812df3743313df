"""The runs that this node is in: founds them, joins them, and opens them again after a start."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from primep2p.core.admission import join_of
from primep2p.core.chain import header_hash
from primep2p.model.errors import CallError, ConfigError, PeerError, Unavailable
from primep2p.model.ids import Hash, RunId
from primep2p.model.records import RunSpec, Scalar, TensorSpec
from primep2p.plugin.process import TrainerWorker
from primep2p.plugin.workers import Trainers
from primep2p.run_config import RunConfig
from primep2p.services.founding import first_params
from primep2p.services.joining import Pin, Seekers, find_spec, learn_head, run_key, seek_membership
from primep2p.services.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training import Training, TrainingEvent
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.tasks import TaskStatus
from primep2p.wire.envelope import Opened

__all__ = ["Own", "Runs"]

PROVIDE_RUN_EVERY_S = 12 * 3600.0
"""Half of what a provider record lives."""

INIT_S = 600.0
"""For a trainer's first params: a large framework and a large model."""

JOIN_S = 90.0
"""To find a run, and to check its chain: less than the control client's patience."""

RETRY_S = 15.0
"""Before a directory that failed among connected peers is asked again."""


@dataclass(frozen=True)
class Own:
    """What is this node's own: given to no other, and to no single run."""

    home: Path
    trainers: Trainers
    kernels: Hash
    """What its kernels make of fixed vectors."""
    entropy: Callable[[int], bytes]
    """So many bytes that nobody can guess."""


class Runs:
    """Every run of this node, in `services`, which others may read. Verbs may be called while `run` runs."""

    def __init__(self, services: dict[RunId, RunService], seams: Seams, own: Own) -> None:
        self._services = services
        self._seams = seams
        self._own = own
        self._joining = trio.Lock()
        self._providing = trio.Lock()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """All runs of the store, and those that are entered, until cancelled. Raises ConfigError, StoreError."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for row in await self._seams.offload(self._seams.runs.runs):
                await self._open(nursery, row)
            task_status.started()
            await trio.sleep_forever()  # the first run may be entered at any time

    # ---- verbs

    def all(self) -> list[RunService]:
        """Each of them."""
        return list(self._services.values())

    def named(self, prefix: str) -> RunService:
        """The run whose id begins with `prefix`. Raises CallError."""
        found = [service for run, service in self._services.items() if run.hex().startswith(prefix.lower())]
        if not prefix or not found:
            raise CallError(f"this node is in no run {prefix!r}", hint="see: primep2p run list")
        if len(found) > 1:
            raise CallError(f"{prefix!r} is the beginning of {len(found)} runs", hint="write more of the id")
        return found[0]

    async def found(self, config: RunConfig) -> RunService:
        """A new run with this node as its first member. Raises PluginError where its trainer fails."""
        seams, own, nonce = self._seams, self._own, self._own.entropy(16)
        own.trainers.check(config.trainer)
        place = f"new-{nonce.hex()}"
        training = self._training_of(config.trainer, config.trainer_config, place, (), INIT_S, seams.tell)
        try:
            params, tensors = await first_params(training, seams.blobs, seams.scratch, seams.offload)
        finally:
            with trio.CancelScope(shield=True):
                await seams.offload(own.trainers.discard, place)
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

    async def join(self, run: RunId, pin: Pin | None) -> RunService:
        """Take part in a run: at its beginning, or from a head that members confirm or the owner pins."""
        async with self._joining:  # who asks again while the first is under way must not open the run twice
            if run in self._services:
                await self._check_pin(run, pin)
                return self._services[run]
            try:
                with trio.fail_after(JOIN_S):
                    return await self._join(run, pin)
            except trio.TooSlowError as error:
                raise Unavailable(
                    f"the members of run {run.hex()[:12]} did not answer within {JOIN_S:g} s",
                    hint="see `primep2p peers`, and try again",
                ) from error

    # ---- in

    async def _join(self, run: RunId, pin: Pin | None) -> RunService:
        seams = self._seams
        at = Seekers(seams.host, seams.sync, seams.envelopes)
        spec, holders = await find_spec(run, at)
        self._own.trainers.check(spec.record.trainer)
        learned = await learn_head(spec, holders, at, pin)
        if learned is None:
            return await self._enter(spec, round=0, pin=pin)
        head, state = learned
        await seams.offload(seams.runs.commit, run, head.round, StoredCheckpoint(head.checkpoint, state))
        return await self._enter(spec, round=head.round, pin=pin)

    async def _check_pin(self, run: RunId, pin: Pin | None) -> None:
        """A pin for a run that this node is in already must be on its chain. Raises CallError."""
        if pin is None:
            return
        stored = await self._seams.offload(self._seams.runs.checkpoint, run, pin.round)
        if stored is None or header_hash(stored.checkpoint.header) != pin.hash:
            raise CallError(
                f"this node is in the run already, and checkpoint {pin.round} of its chain has not that hash",
                hint="ask the others what `primep2p run show` says: somebody is on another chain",
            )

    async def _enter(self, spec: Opened[RunSpec], *, round: int, pin: Pin | None = None) -> RunService:
        seams = self._seams
        if self._nursery is None:
            raise Unavailable("the node is still starting")
        addresses, kernels = seams.addresses(), self._own.kernels
        join = join_of(seams.envelopes, spec, round=round, addresses=addresses, kernels=kernels)
        row = RunRow(spec.hash, spec.raw, join.raw, pin.hash if pin else None, pin.round if pin else 0)
        await seams.offload(seams.runs.save_run, row)
        return await self._open(self._nursery, row)

    async def _open(self, nursery: trio.Nursery, row: RunRow) -> RunService:
        spec = self._spec_of(row)

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

        service = RunService(row, spec, self._seams, make)
        self._services[row.run] = service
        await nursery.start(service.run)
        nursery.start_soon(seek_membership, service, self._seams, self._own.kernels)
        nursery.start_soon(self._provide, row.run)
        return service

    def _spec_of(self, row: RunRow) -> Opened[RunSpec]:
        """The spec of a stored run. Raises ConfigError where the store is of another identity or network."""
        envelopes, home = self._seams.envelopes, self._own.home
        owner = envelopes.peek(row.join).signer
        if owner != envelopes.peer_id:
            raise ConfigError(
                f"{home} belongs to the peer {owner}, and its identity.key is that of another one",
                hint="put the identity back, or start with a home of its own",
            )
        try:
            return envelopes.open(RunSpec, row.spec)
        except PeerError as error:
            raise ConfigError(
                f"node.network: {home} holds the run {row.run.hex()[:12]}, which is not of the network "
                f"{envelopes.network!r}",
                hint="set node.network back, or give the other network a home of its own",
            ) from error

    def _training_of(
        self,
        trainer: str,
        settings: dict[str, Scalar | list[Scalar]],
        place: str,
        tensors: tuple[TensorSpec, ...],
        deadline_s: float,
        report: Callable[[TrainingEvent], None],
    ) -> Training:
        def worker() -> TrainerWorker:
            return self._own.trainers.worker(trainer, settings, place, tensors)

        seed = self._seams.envelopes.peer_id.encode() + place.encode()
        return Training(worker, seed=seed, deadline_s=deadline_s, report=report, run=place)

    async def _provide(self, run: RunId) -> None:
        """Tell the directory, again and again, that this node is in the run."""
        while True:
            try:
                async with self._providing:  # one at a time: each is work for other nodes too
                    await self._seams.host.directory.provide(run_key(run))
            except Unavailable:
                await self._until_worth_a_try()
            else:
                await trio.sleep(PROVIDE_RUN_EVERY_S)

    async def _until_worth_a_try(self) -> None:
        """The directory failed: until somebody is connected it is of no use, and then it is at once."""
        host = self._seams.host
        if host.connected:
            await trio.sleep(RETRY_S)
            return
        async with host.peer_events() as events:
            await anext(aiter(events))
