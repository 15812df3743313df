"""What the owner is shown of runs and peers."""

from collections.abc import Iterable

import trio

from primep2p.core.genesis import Gathering
from primep2p.core.roster import peers_of
from primep2p.core.runs import Run
from primep2p.core.votes import Committee
from primep2p.core.waking import Waking
from primep2p.model.ids import PeerId
from primep2p.model.views import MemberView, PeerView, RunDetail, RunPhase, RunSummary
from primep2p.services.rounds import RunService
from primep2p.store.seam import RunStore

__all__ = ["detail", "peer_views", "summary"]


def summary(service: RunService, connected: frozenset[PeerId]) -> RunSummary:
    """A run in one line."""
    head = service.head
    members = _members(service)
    return RunSummary(
        run=service.run_id.hex(),
        name=service.spec.record.name,
        phase=_phase(service),
        round=head.round if head else 0,
        head=head.hash.hex() if head else "",
        params=head.header.params if head else service.spec.record.params,
        members=len(members),
        connected=len(members & connected),
    )


def detail(service: RunService, connected: frozenset[PeerId], me: PeerId, runs: RunStore) -> RunDetail:
    """A run in full. Reads the store."""
    head, spec = service.head, service.spec.record
    committee = head.committee if head else Committee((), 0)
    return RunDetail(
        run=service.run_id.hex(),
        name=spec.name,
        phase=_phase(service),
        trainer=spec.trainer,
        creator=spec.creator,
        round=_round(service),
        view=service.step.view,
        step=_step(service),
        head=head.hash.hex() if head else "",
        head_round=head.round if head else 0,
        params=head.header.params if head else spec.params,
        pin=f"{service.run_id.hex()}@{head.round}:{head.hash.hex()}" if head else "",
        committee=list(committee.members),
        quorum=committee.q,
        survives_silent=committee.survives_silent if head else 0,
        survives_liars=committee.survives_liars if head else 0,
        first_members=spec.policy.first_members,
        members=_member_views(service, connected, me),
        waiting_s=round(trio.current_time() - service.progress_at, 3),
        waiting_since=round(service.moved_at, 3),
        rounds=service.rounds,
        accusations=[f"{peer}: {reason} ({count})" for peer, reason, count in runs.accusations(service.run_id)],
        evidence=len(runs.evidence(service.run_id)),
        plugin_error=service.plugin_error,
    )


def peer_views(services: Iterable[RunService], connected: frozenset[PeerId], runs: RunStore) -> list[PeerView]:
    """Peers that are connected, or were accused of something. Reads the store."""
    faults: dict[PeerId, list[str]] = {}
    for peer, reason, count in runs.accusations():
        faults.setdefault(peer, []).append(f"{reason} ({count})")
    rosters = {service.run_id.hex(): _members(service) for service in services}
    return [
        PeerView(
            peer=peer,
            connected=peer in connected,
            runs=[run for run, roster in rosters.items() if peer in roster],
            faults=faults.get(peer, []),
        )
        for peer in sorted(connected | faults.keys())
    ]


def _members(service: RunService) -> frozenset[PeerId]:
    """The roster; before there is one, all who have joined."""
    if isinstance(service.machine, Gathering):
        return frozenset(service.machine.requests)
    return peers_of(service.head.state) if service.head else frozenset()


def _round(service: RunService) -> int:
    """The round under way, or the last."""
    if service.head is None:
        return 0
    finished = isinstance(service.machine, Run) and service.machine.finished
    return service.head.round if finished else service.head.round + 1


def _phase(service: RunService) -> RunPhase:
    match service.machine:
        case Waking():
            return "catching-up"
        case Run(finished=True):
            return "finished"
        case Run(round=None):
            return "joining"
        case Run(round=round) if round is not None:
            return "running" if round.have_params else "catching-up"
        case _:
            return "gathering"


def _step(service: RunService) -> str:
    match service.machine:
        case Run(finished=True):
            return "finished"
        case Waking():
            return "asking members for this node's own votes"
        case Run(round=round) if round is not None and round.pen.muted:
            return f"{service.step.step} (silent: others hold votes of this node that its journal lacks)"
        case _:
            return service.step.step


def _member_views(service: RunService, connected: frozenset[PeerId], me: PeerId) -> list[MemberView]:
    if service.head is None or isinstance(service.machine, Gathering):
        waited = service.spec.record.creator
        return [
            MemberView(
                peer=peer, since=0, missed=0, connected=peer in connected or peer == me, awaited=peer == waited != me
            )
            for peer in sorted(_members(service))
        ]
    awaited = _awaited(service)
    return [
        MemberView(
            peer=member.peer,
            since=member.since,
            missed=member.missed,
            connected=member.peer in connected or member.peer == me,
            awaited=member.peer in awaited,
        )
        for member in service.head.state.members
    ]


def _awaited(service: RunService) -> frozenset[PeerId]:
    """Whom the run waits for now: whoever has not done what the step needs."""
    match service.machine:
        case Waking() as waking:
            return waking.awaited
        case Run(round=round) if round is not None:
            return round.awaited
        case _:
            return frozenset()
