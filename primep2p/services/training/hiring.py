"""Who trains in a run on this node: a plugin in a process of its own, or its owner in a loop, by jobs."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from primep2p.model.errors import CallError
from primep2p.model.ids import Cid, PeerId, RunId
from primep2p.model.plans import cid_of_plan
from primep2p.model.records import RunSpec, Scalar, TensorSpec
from primep2p.plugin.process import TrainerWorker
from primep2p.plugin.workers import NEW, Trainers
from primep2p.run_config import JOBS, RunConfig
from primep2p.services.runs.founding import first_params, given_params, sketch
from primep2p.services.seams import Seams, TrainingVerbs
from primep2p.services.training.desk import Desk
from primep2p.services.training.plans import Plans
from primep2p.services.training.resting import Resting
from primep2p.services.training.training import Training, TrainingEvent
from primep2p.store.seam import RunRow

__all__ = ["Hiring", "Own"]

INIT_S = 600.0
"""For a trainer's first params: a large framework and a large model."""


@dataclass(frozen=True)
class Own:
    """What is this node's own: given to no other, and to no single run."""

    home: Path
    trainers: Trainers
    plans: Plans
    entropy: Callable[[int], bytes]
    """So many bytes that nobody can guess."""
    desks: dict[RunId, Desk]
    """Of the runs in which it trains by jobs: filled by whoever hires."""
    silent_s: float
    """After which a worker is taken to be gone."""
    resting: Resting


class Hiring:
    """For the runs of one node."""

    def __init__(self, seams: Seams, own: Own) -> None:
        self._seams = seams
        self._own = own

    async def check(self, trainer: str, own_loop: bool, holders: Sequence[PeerId] | None = None) -> None:
        """Raises PluginError where this node has to have a plugin, and has not, or must not run the run's plan, which
        `holders` give to one who joins; Unavailable without it."""
        if trainer == JOBS or own_loop:
            return
        if not cid_of_plan(trainer):
            self._own.trainers.check(trainer)
        elif holders is None:
            await self._own.plans.check(trainer)
        else:
            await self._own.plans.obtain(trainer, holders)

    async def first_params(self, config: RunConfig) -> tuple[Cid, tuple[TensorSpec, ...]]:
        """What a new run begins with: what its file names, or what its trainer makes. Raises CallError, PluginError."""
        seams = self._seams
        if config.params:
            return await seams.offload(given_params, Path(config.params), config.pipeline, seams.blobs, seams.scratch)
        async with self._beginner(config) as training:
            return await first_params(training, seams.blobs, seams.scratch, seams.offload)

    async def sketch(self, config: RunConfig, name: str) -> tuple[Path, tuple[TensorSpec, ...]]:
        """What its trainer would make, as a file in the scratch directory. Raises CallError, PluginError."""
        async with self._beginner(config) as training:
            return await sketch(training, self._seams.scratch, self._seams.offload, name)

    @asynccontextmanager
    async def _beginner(self, config: RunConfig) -> AsyncIterator[Training]:
        """A trainer that makes first params, and leaves nothing else behind."""
        if config.trainer == JOBS:
            raise CallError(
                "a run whose members train in loops of their own needs first params",
                hint="name a safetensors file: params in run.toml, or primep2p run create --params FILE",
            )
        self._own.trainers.check(config.trainer)
        place = f"{NEW}{self._own.entropy(16).hex()}"
        try:
            yield self._plugin(config.trainer, config.trainer_config, place, (), INIT_S, self._of_no_run)
        finally:
            with trio.CancelScope(shield=True):
                await self._seams.offload(self._own.trainers.discard, place)

    def _of_no_run(self, event: TrainingEvent) -> None:
        """What a trainer does before there is a run concerns the node."""
        self._seams.tell(msgspec.structs.replace(event, run=""))

    def hire(self, row: RunRow, spec: RunSpec, report: Callable[[TrainingEvent], None]) -> TrainingVerbs:
        """Who trains in the run of `row`, and has not begun."""
        self._own.desks.pop(row.run, None)  # of an earlier time in the run
        if row.own_loop or spec.trainer == JOBS:
            return self._desk(row.run, spec, report)
        deadline_s = spec.policy.collect_s
        return self._plugin(spec.trainer, spec.trainer_config, row.run.hex(), spec.tensors, deadline_s, report)

    def note(self, row: RunRow, spec: RunSpec) -> str:
        """What the owner may have forgotten that this trainer needs; empty where there is nothing."""
        return "" if row.own_loop or spec.trainer == JOBS else self._own.trainers.note(spec.trainer)

    def _plugin(
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

    def _desk(self, run: RunId, spec: RunSpec, report: Callable[[TrainingEvent], None]) -> Desk:
        desk = Desk(
            run.hex(),
            spec.tensors,
            directory=self._own.home / "jobs" / run.hex(),
            seed=self._seams.envelopes.peer_id.encode() + run,
            deadline_s=spec.policy.collect_s,
            silent_s=self._own.silent_s,
            offload=self._seams.offload,
            report=report,
        )
        self._own.desks[run] = desk
        return desk
