"""What the owner is shown of runs and peers."""

from collections.abc import Iterable
from fractions import Fraction

import trio

from primep2p.core.chain import Head
from primep2p.core.genesis import Gathering
from primep2p.core.roster import peers_of
from primep2p.core.runs import Run
from primep2p.core.sortition import draw_risk, voters_of
from primep2p.core.votes import Committee, slot_of
from primep2p.core.waking import Waking
from primep2p.model.errors import CallError
from primep2p.model.ids import PeerId
from primep2p.model.records import KERNELS_DIGEST, Evidence, Header
from primep2p.model.stopping import AtLeast, AtMost
from primep2p.model.views.node import PeerView
from primep2p.model.views.runs import (
    EndView,
    EvidenceView,
    ExpelledView,
    InviteUseView,
    MemberView,
    RiskView,
    RunDetail,
    RunPhase,
    RunSummary,
)
from primep2p.run_config import JOBS
from primep2p.services.runs.inviting import Invitation, check_welcome
from primep2p.services.runs.rounds import KEPT_ROUNDS, RunService
from primep2p.services.seams import Seams
from primep2p.store.seam import RunStore
from primep2p.strict import plain
from primep2p.wire.codec import decode
from primep2p.wire.envelope import Envelopes

__all__ = ["detail", "peer_views", "summary"]

RISK_ROUNDS = 1000
"""The risk is told for a long run, not for one draw."""

BAD_SHARES = (Fraction(1, 10), Fraction(1, 5))
"""What drawn committees are judged by: one member in ten bad, and one in five."""


def summary(service: RunService, connected: frozenset[PeerId], me: PeerId) -> RunSummary:
    """A run in one line."""
    head = service.head
    members = _members(service)
    return RunSummary(
        run=service.run_id.hex(),
        name=service.spec.record.name,
        phase=_phase(service, me),
        round=head.round if head else 0,
        head=head.hash.hex() if head else "",
        params=head.header.params if head else service.spec.record.params,
        members=len(members),
        connected=len(members & connected),
        rests=service.rests,
        note=service.note,
    )


def detail(service: RunService, connected: frozenset[PeerId], seams: Seams, cursor: str) -> RunDetail:
    """A run in full, as it is after the event with this cursor. Reads the store."""
    head, spec, runs, me = service.head, service.spec.record, seams.runs, seams.envelopes.peer_id
    committee = head.committee if head else Committee((), 0)
    return RunDetail(
        run=service.run_id.hex(),
        name=spec.name,
        phase=_phase(service, me),
        pipeline={field: plain(getattr(spec.pipeline, field)) for field in spec.pipeline.__struct_fields__},
        trainer=spec.trainer,
        trainer_config=dict(spec.trainer_config),
        creator=spec.creator,
        round=_round(service),
        view=service.step.view,
        step=_step(service),
        head=head.hash.hex() if head else "",
        head_round=head.round if head else 0,
        params=head.header.params if head else spec.params,
        pin=f"{service.run_id.hex()}@{head.round}:{head.hash.hex()}" if head else "",
        origin=service.origin or spec.origin.hex(),
        committee=list(committee.members),
        cohort=len(head.cohort) if head else 0,
        mode=spec.policy.mode,
        least_updates=spec.least_updates,
        wanted_updates=spec.wanted_updates,
        max_staleness=spec.policy.late_rounds,
        quorum=committee.q,
        survives_silent=committee.survives_silent if head else 0,
        survives_liars=committee.survives_liars if head else 0,
        risks=_risks(head) if head and head.is_drawn else [],
        first_members=spec.policy.first_members,
        admission=spec.admission.mode,
        inviters=sorted({spec.creator, *spec.admission.inviters}) if spec.admission.mode == "invite" else [],
        invites=_invites(head),
        obstacle=_obstacle(service, head, seams.envelopes),
        members=_member_views(service, connected, me),
        waiting_s=round(trio.current_time() - service.progress_at, 3),
        waiting_since=round(service.moved_at, 3),
        rounds=service.rounds,
        accusations=[f"{peer}: {reason} ({count})" for peer, reason, count in runs.accusations(service.run_id)],
        evidence=[_evidence_view(peer, raw, seams.envelopes) for peer, raw in runs.evidence(service.run_id)],
        expelled=_expelled(head, runs) if head else [],
        rests=service.rests,
        ends=_ends(service),
        plugin_error=service.plugin_error,
        own_loop=service.row.own_loop or spec.trainer == JOBS,
        cursor=cursor,
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


def _ends(service: RunService) -> EndView:
    spec, head = service.spec.record, service.head
    target = spec.stop.target
    means = {metric.name: metric.value for metric in head.header.metrics} if head else {}
    return EndView(
        rounds=spec.policy.rounds,
        metric=target.metric if target else "",
        at_least=target.value if isinstance(target, AtLeast) else None,
        at_most=target.value if isinstance(target, AtMost) else None,
        newest=means.get(target.metric) if target else None,
        until=float(spec.stop.until),
        ended=head.header.ended if head else "",
    )


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


def _phase(service: RunService, me: PeerId) -> RunPhase:
    is_expelled = service.head is not None and me in service.head.state.expelled
    if service.out.is_set():
        return "left"
    match service.machine:
        case Gathering(is_withdrawn=True):
            return "left"
        case Run(finished=True):
            return "finished"
        case Run() | Waking() if is_expelled:
            return "expelled"
        case Run() | Waking() | Gathering() if service.standing.leave:
            return "leaving"
        case Waking():
            return "catching-up"
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
    head = service.head
    if head is None or isinstance(service.machine, Gathering):
        return _gathered(service, connected, me)
    awaited, voting = _awaited(service), frozenset(head.committee.members)
    return [
        MemberView(
            peer=member.peer,
            since=member.since,
            missed=member.missed,
            connected=member.peer in connected or member.peer == me,
            awaited=member.peer in awaited,
            votes=member.peer in voting,
            trains=member.peer in head.cohort,
            rounds_done=member.rounds_done,
            rounds_missed=member.rounds_missed,
            rounds_blamed=member.rounds_blamed,
            same_kernels=member.kernels == KERNELS_DIGEST,
        )
        for member in head.state.members
    ]


def _gathered(service: RunService, connected: frozenset[PeerId], me: PeerId) -> list[MemberView]:
    """Who has joined before there is a roster; each of them will vote for checkpoint 0."""
    waited = service.spec.record.creator
    requests = service.machine.requests if isinstance(service.machine, Gathering) else {}
    return [
        MemberView(
            peer=peer,
            since=0,
            missed=0,
            connected=peer in connected or peer == me,
            awaited=peer == waited != me,
            votes=True,
            trains=False,
            rounds_done=0,
            rounds_missed=0,
            rounds_blamed=0,
            same_kernels=peer in requests and requests[peer].join.record.kernels == KERNELS_DIGEST,
        )
        for peer in sorted(_members(service))
    ]


def _risks(head: Head) -> list[RiskView]:
    """What could come of a draw, among those that are drawn from [S3]."""
    candidates = max(len(set(voters_of(head.state)) & set(head.header.seen)), len(head.committee.members))
    risks = []
    for share in BAD_SHARES:
        risk = draw_risk(candidates, head.committee, share, rounds=RISK_ROUNDS)
        risks.append(RiskView(bad_share=float(share), rounds=RISK_ROUNDS, fork=risk.fork, stall=risk.stall))
    return risks


def _invites(head: Head | None) -> list[InviteUseView]:
    uses = head.state.invites if head else ()
    return [InviteUseView(invite=use.invite.hex(), until=use.until, used=use.used) for use in uses]


def _obstacle(service: RunService, head: Head | None, envelopes: Envelopes) -> str:
    if isinstance(service.machine, Run) and service.machine.finished:
        return ""
    try:
        check_welcome(service.spec, head, envelopes.peer_id, Invitation.of(service.invitation, envelopes))
    except CallError as error:
        return f"{error.sentence}; {error.hint}"
    return ""


def _evidence_view(peer: PeerId, raw: bytes, envelopes: Envelopes) -> EvidenceView:
    """In words; what is kept was checked when it came."""
    match slot_of(envelopes.read(envelopes.peek(decode(Evidence, raw).first))):
        case ("vote", round_, _, view, step):
            slot = f"{step}s of round {round_}, view {view}"
        case ("proposal", round_, _, view):
            slot = f"proposals of round {round_}, view {view}"
        case (kind, round_, *_):
            slot = f"{'lists' if kind == 'collected' else 'updates'} of round {round_}"
        case _:
            slot = "records"
    return EvidenceView(peer=peer, slot=f"two {slot}")


def _expelled(head: Head, runs: RunStore) -> list[ExpelledView]:
    """Those whom the run never admits again; why and when, from the newest checkpoints."""
    unknown = set(head.state.expelled)
    views, round_ = [], head.round
    while unknown and round_ > head.round - KEPT_ROUNDS:
        if (stored := runs.checkpoint(head.run, round_)) is None:
            break
        for departure in decode(Header, stored.checkpoint.header).left:
            if departure.peer in unknown and (reason := departure.reason) != "dropped" and reason != "left":
                unknown.discard(departure.peer)
                views.append(ExpelledView(peer=departure.peer, reason=reason, round=round_))
        round_ -= 1
    views += [ExpelledView(peer=peer, reason="", round=-1) for peer in unknown]
    return sorted(views, key=lambda view: view.peer)


def _awaited(service: RunService) -> frozenset[PeerId]:
    """Whom the run waits for now: whoever has not done what the step needs."""
    match service.machine:
        case Waking() as waking:
            return waking.awaited
        case Run(round=round) if round is not None:
            return round.awaited
        case _:
            return frozenset()
