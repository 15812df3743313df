"""Jobs for those who own their loop: who gets which, why there is none, and what becomes of an update."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

import trio

from primep2p.core.rounds import Round
from primep2p.core.runs import Run
from primep2p.core.waking import Waking
from primep2p.model.errors import CallError, PeerError
from primep2p.model.ids import PeerId, RunId
from primep2p.model.views.events import AnyEvent
from primep2p.model.views.jobs import (
    JobAccepted,
    JobChunk,
    JobOpen,
    JobRefused,
    JobRejected,
    JobTaken,
    Refusal,
    Rejection,
    TensorView,
)
from primep2p.services.runs.entering import Runs
from primep2p.services.runs.rounds import RunService
from primep2p.services.training.desk import Desk, Job, Kind
from primep2p.store.files import disk
from primep2p.tasks import Offload

__all__ = ["Jobs"]

SLOW_S = 5.0
"""When to ask again about what takes as long as others take."""

SOON_S, LATE_S = 1.0, 30.0
"""The least and the most of what is guessed of a round that is under way."""


@dataclass(frozen=True)
class _Open:
    """A job that can be worked on."""

    desk: Desk
    job: Job


class Jobs:
    """Verbs for clients: each names a job, and is answered with why where it cannot be worked on. `desks` are those of
    the runs in which this node trains by jobs."""

    def __init__(self, runs: Runs, desks: Mapping[RunId, Desk], me: PeerId, offload: Offload) -> None:
        self._runs = runs
        self._desks = desks
        self._me = me
        self._offload = offload

    def hear(self, event: AnyEvent) -> None:
        """Something happened in a run: whoever waits for a job of it looks again."""
        for desk in self._desks.values():
            if desk.run_hex == event.run:
                desk.stir()

    async def next(self, prefix: str, worker: str, wait_s: float) -> JobAccepted | JobRejected:
        """The run's job, given to `worker`; where there is none, as soon as there is one within `wait_s`. Raises
        CallError where this node does not train by jobs in that run."""
        service = self._runs.named(prefix)
        desk = self._desk_of(service)
        found = self._look(service, desk, worker)
        with trio.move_on_after(wait_s):
            while isinstance(found, JobRejected) and found.retry_after_s is not None:
                await _change(desk, worker)
                found = self._look(service, desk, worker)
        while isinstance(found, Job):
            desk.give(found, worker)
            sha256 = await self._offload(found.sha256_of_params)
            again = self._look(service, desk, worker)
            if again is found:
                return _accepted(service, found, sha256)
            found = again
        return found

    def report(self, job_id: str, step: int, steps: int, loss: float | None) -> JobOpen | JobRefused:
        """How far a worker is: tells the owner, and moves nothing else."""
        found = self._find(job_id)
        if isinstance(found, JobRefused):
            return found
        found.desk.report(found.job, step, steps, loss)
        return _standing(found.job)

    async def params(self, job_id: str, offset: int, length: int) -> JobChunk | JobRefused:
        """A piece of the round's params."""
        found = self._find(job_id)
        if isinstance(found, JobRefused):
            return found
        found.job.heard_at = trio.current_time()
        piece, size_bytes = await self._offload(_read, found.job.params, offset, length)
        return JobChunk(job=job_id, offset=offset, data=piece, size_bytes=size_bytes)

    async def upload(self, job_id: str, offset: int, piece: bytes) -> JobOpen | JobRefused:
        """A piece of an update, one after the other."""
        found = self._find(job_id)
        if isinstance(found, JobRefused):
            return found
        try:
            await found.desk.upload(found.job, offset, piece)
        except PeerError as error:
            return JobRefused(job=job_id, reason="malformed", sentence=error.sentence)
        return self._why_over(found.job) or _standing(found.job)

    async def submit(
        self,
        job_id: str,
        *,
        path: str,
        kind: Kind,
        examples: int,
        metrics: Mapping[str, float],
        evaluated: Mapping[str, float],
    ) -> JobTaken | JobRefused:
        """An update, checked as a plugin's is. Raises CallError for a path that depends on where the daemon stands."""
        if path and not os.path.isabs(path):
            raise CallError(f"{path!r} is no absolute path, and the daemon runs in another directory")
        found = self._find(job_id)
        if isinstance(found, JobRefused):
            return found
        job = found.job
        try:
            is_taken = await found.desk.submit(job, Path(path) if path else None, kind, examples, metrics, evaluated)
        except PeerError as error:
            return JobRefused(job=job_id, reason="malformed", sentence=error.sentence)
        if not is_taken:
            return self._why_over(job) or _refused(job, "late")
        seconds = round(trio.current_time() - job.begun_at, 3)
        return JobTaken(job=job_id, run=found.desk.run_hex, round=job.round, examples=examples, seconds=seconds)

    # ---- which job there is, and why none

    def _desk_of(self, service: RunService) -> Desk:
        if (desk := self._desks.get(service.run_id)) is not None:
            return desk
        name = service.run_id.hex()[:12]
        raise CallError(
            f"in run {name} this node trains with the plugin {service.spec.record.trainer!r}",
            hint="to train there in a loop of your own, join it so: primep2p run join ID --own-loop",
        )

    def _find(self, job_id: str) -> _Open | JobRefused:
        """The job of that id, if it is open."""
        for service in self._runs.all():
            desk = self._desks.get(service.run_id)
            if desk is None or (round_ := desk.round_of(job_id)) is None:
                continue
            job = desk.job
            if job is None or job.round != round_:
                return JobRefused(job=job_id, reason="stale", sentence=_REFUSED["stale"].format(round_))
            self._end_if_over(service, job)
            return self._why_over(job) or _Open(desk, job)
        return JobRefused(
            job=job_id, reason="unknown", sentence=f"this node has no job {job_id!r}: ask for the next one"
        )

    def _why_over(self, job: Job) -> JobRefused | None:
        if job.state == "open":
            return None
        if job.state == "taken":
            return _refused(job, "twice")
        return _refused(job, "late" if trio.current_time() >= job.due_at else "stale")

    def _end_if_over(self, service: RunService, job: Job) -> None:
        """Once its update could not enter any more: in a buffered run that is later than the end of its round. That the
        run goes on without it is no news to it."""
        if service.head is not None and not service.head.may_enter(self._me, job.round):
            job.end("missed")

    def _look(self, service: RunService, desk: Desk, worker: str) -> Job | JobRejected:
        """The job that `worker` may have now."""
        job = desk.job
        if job is not None:
            self._end_if_over(service, job)
        if job is None or job.state != "open" or service.rests:
            return self._why_none(service, job)
        wait_s = desk.free_at(job, worker) - trio.current_time()
        if wait_s <= 0:
            return job
        who = f"the worker {job.worker!r}" if job.worker else "a worker without a name"
        return _rejected(service, "given", f"{who} has the job of round {job.round}", wait_s)

    def _why_none(self, service: RunService, job: Job | None) -> JobRejected:
        head, name = service.head, service.run_id.hex()[:12]
        match service.machine:
            case Run(finished=True):
                return _rejected(service, "finished", f"run {name} is finished", None)
            case _ if head is not None and self._me in head.state.expelled:
                return _rejected(service, "expelled", f"this node was expelled from run {name}", None)
            case _ if service.out.is_set():
                return _rejected(service, "left", f"this node has left run {name}", None)
            case _ if service.rests:
                return _rejected(service, "resting", f"this node rests in run {name}: {service.rests}", SLOW_S)
            case Run(round=round) if round is not None:
                return self._why_none_in(service, round, job)
            case Run():
                return _rejected(service, "joining", f"run {name} has not admitted this node yet", SLOW_S)
            case Waking():
                return _rejected(service, "waking", "this node asks members where the run is", SOON_S)
            case _:
                return _rejected(service, "gathering", f"run {name} waits for members", SLOW_S)

    def _why_none_in(self, service: RunService, round: Round, job: Job | None) -> JobRejected:
        later_s = _rest_s(service)
        is_taken = job is not None and job.state == "taken" and round.head.may_enter(self._me, job.round)
        is_signed = round.records.in_slot(self._me, ("update", round.round)) is not None
        if is_taken or is_signed or round.collection.waits_with(self._me):
            return _rejected(service, "done", "this node's update is on its way into the model", later_s)
        if self._me not in round.head.cohort:
            return _rejected(service, "not-drawn", f"this node is not drawn to train in round {round.round}", later_s)
        if job is None or job.round != round.round:
            return _rejected(service, "preparing", f"the params of round {round.round} are on their way", SOON_S)
        return _rejected(service, "missed", f"the deadline of round {round.round} has passed", later_s)


async def _change(desk: Desk, worker: str) -> None:
    """Returns when another look is worth while: something happened, or a silent worker has lost its job."""
    job, changed = desk.job, desk.changed
    free_at = desk.free_at(job, worker) if job is not None and job.state == "open" else inf
    with trio.move_on_at(free_at):
        await changed.wait()


def _accepted(service: RunService, job: Job, sha256: str) -> JobAccepted:
    spec = service.spec.record
    return JobAccepted(
        job=job.id,
        run=service.run_id.hex(),
        round=job.round,
        left_s=job.left_s,
        deadline=round(job.deadline, 3),
        path=str(job.params.absolute()),
        cid=service.head.header.params if service.head is not None else spec.params,
        sha256=sha256,
        size_bytes=job.params.stat().st_size,
        tensors=[TensorView(name=each.name, dtype=each.dtype, shape=list(each.shape)) for each in spec.tensors],
        trainer=spec.trainer,
        config=spec.trainer_config,
        seed=job.seed,
    )


def _standing(job: Job) -> JobOpen:
    return JobOpen(job=job.id, left_s=job.left_s, uploaded_bytes=job.uploaded_bytes)


_REFUSED: dict[Refusal, str] = {
    "stale": "round {} is not under way: ask for the next job",
    "late": "the deadline of round {} has passed: ask for the next job",
    "twice": "an update of round {} is taken already",
}


def _refused(job: Job, reason: Refusal) -> JobRefused:
    return JobRefused(job=job.id, reason=reason, sentence=_REFUSED[reason].format(job.round))


def _rejected(service: RunService, reason: Rejection, sentence: str, retry_after_s: float | None) -> JobRejected:
    later_s = None if retry_after_s is None else round(retry_after_s, 3)
    return JobRejected(run=service.run_id.hex(), reason=reason, sentence=sentence, retry_after_s=later_s)


def _rest_s(service: RunService) -> float:
    """A guess at how long the round under way still takes: as long as the last one did."""
    last_s = service.rounds[-1].seconds if service.rounds else SLOW_S
    return min(max(last_s, SOON_S), LATE_S)


def _read(path: Path, offset: int, length: int) -> tuple[bytes, int]:
    with disk(path, "read"), path.open("rb") as file:
        return os.pread(file.fileno(), length, offset), os.fstat(file.fileno()).st_size
