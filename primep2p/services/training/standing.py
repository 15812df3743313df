"""What the owner wants of this node in a run: that it trains, that it only votes, that it goes."""

import msgspec

from primep2p.core.genesis import Gathering
from primep2p.core.runs import Run
from primep2p.model.errors import CallError
from primep2p.model.views.events import Paused, Resumed
from primep2p.model.views.runs import RunLeft, RunSummary
from primep2p.services.runs.entering import Runs
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training.resting import LEAVING, PAUSED, Resting
from primep2p.services.watching.reporting import summary

__all__ = ["Standings"]


class Standings:
    """Verbs name a run by the beginning of its id. What they change is durable when they return."""

    def __init__(self, runs: Runs, resting: Resting, seams: Seams) -> None:
        self._runs = runs
        self._resting = resting
        self._seams = seams

    async def pause(self, prefix: str) -> RunSummary:
        """This node trains no more in the run, and goes on voting and serving. Raises CallError."""
        service = self._current(prefix, "paused")
        if not service.standing.paused:
            await service.stand(msgspec.structs.replace(service.standing, paused=True))
            self._seams.tell(Paused(run=service.run_id.hex()))
            self._resting.order(service.run_id, PAUSED)
        return self._summary(service)

    async def resume(self, prefix: str) -> RunSummary:
        """It trains again. Raises CallError."""
        service = self._current(prefix, "resumed")
        if service.standing.paused:
            await service.stand(msgspec.structs.replace(service.standing, paused=False))
            self._seams.tell(Resumed(run=service.run_id.hex()))
            self._resting.order(service.run_id, "")
        return self._summary(service)

    async def leave(self, prefix: str, *, now: bool) -> RunLeft:
        """This node asks to be left out of a coming checkpoint, and goes on voting until there is one; with `now` it is
        gone at once, and others drop it for its silence. Raises CallError."""
        service = self._runs.named(prefix)
        if not service.out.is_set():
            _check_unfinished(service, "left")
            self._resting.order(service.run_id, LEAVING)
            if not service.standing.leave:
                await service.leave()
            if now and not service.out.is_set():
                if isinstance(service.machine, Run):
                    await service.settled()  # whoever is connected hears of it all the same
                await service.part()
        return self._left(service)

    def _current(self, prefix: str, what: str) -> RunService:
        service = self._runs.named(prefix)
        _check_unfinished(service, what)
        if service.standing.leave:
            has = "has left" if service.out.is_set() else "is leaving"
            raise CallError(
                f"this node {has} run {service.run_id.hex()[:12]}: it cannot be {what} there",
                hint=f"to take part again: primep2p run join {service.run_id.hex()}",
            )
        return service

    def _left(self, service: RunService) -> RunLeft:
        head, me = service.head, self._seams.envelopes.peer_id
        others = frozenset(head.members) - {me} if head is not None else frozenset()
        spec, connected = service.spec.record, self._seams.host.connected
        voting = frozenset(head.committee.members) - {me} if head is not None else frozenset()
        needed = head.committee.q - (me in head.committee) if head is not None else 0
        is_waiting = head is not None and not service.out.is_set()
        return RunLeft(
            **{name: getattr(self._summary(service), name) for name in RunSummary.__struct_fields__},
            remaining=len(others),
            least_updates=spec.least_updates,
            waits_for=sorted(voting - connected) if is_waiting and len(voting & connected) < needed else [],
            begins=not (isinstance(service.machine, Gathering) and spec.creator == me),
        )

    def _summary(self, service: RunService) -> RunSummary:
        return summary(service, self._seams.host.connected, self._seams.envelopes.peer_id)


def _check_unfinished(service: RunService, what: str) -> None:
    """Raises CallError for a run that asks nothing of this node any more."""
    if isinstance(service.machine, Run) and service.machine.finished:
        raise CallError(f"run {service.run_id.hex()[:12]} is finished: it cannot be {what} any more")
