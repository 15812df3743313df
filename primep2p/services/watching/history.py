"""One certified round in full, from the stored chain, and from the journal while that has the round's lists."""

from collections import Counter
from collections.abc import Iterable

from primep2p.core.chain import Head, header_hash, trusted_head
from primep2p.core.pen import entry_of
from primep2p.core.votes import Committee
from primep2p.model.errors import CallError
from primep2p.model.ids import Hash, PeerId
from primep2p.model.journal import Moved, Signed
from primep2p.model.records import Bundle, Checkpoint, Collected, Header, Metric, RunState, Update, Vote
from primep2p.model.views.rounds import DepartureView, InclusionView, ListView, MissingView, RoundView
from primep2p.services.runs.entering import Runs
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.wire.codec import decode, digest
from primep2p.wire.envelope import Opened

__all__ = ["History"]

Lists = list[Opened[Collected]]
Updates = dict[Hash, Opened[Update]]


class History:
    """What was certified in the runs of this node."""

    def __init__(self, runs: Runs, seams: Seams) -> None:
        self._runs = runs
        self._seams = seams

    async def show(self, prefix: str, round: int) -> RoundView:
        """A round of the run whose id begins with `prefix`; -1 is its newest. Raises CallError."""
        service = self._runs.named(prefix)
        return await self._seams.offload(_shown, service, round, self._seams)


def _shown(service: RunService, round: int, seams: Seams) -> RoundView:
    run, name = service.run_id, service.run_id.hex()[:12]
    newest = seams.runs.head(run)
    if newest is None:
        raise CallError(f"run {name} has not begun: no round is certified", hint=f"see: primep2p run show {name}")
    stored = newest[1] if round < 0 else seams.runs.checkpoint(run, round)
    if stored is None:
        raise CallError(f"this node has no checkpoint {round} of run {name}", hint=f"its newest is {newest[0]}")
    checkpoint, header = stored.checkpoint, decode(Header, stored.checkpoint.header)
    before = _before(service, header.round, seams)
    lists, updates = _bundle(service, header, seams)
    committee = before.committee if before else Committee((), 0)
    return RoundView(
        run=run.hex(),
        name=service.spec.record.name,
        round=header.round,
        header=header_hash(checkpoint.header).hex(),
        parent=header.parent.hex(),
        params=header.params,
        optimiser=header.optimiser or "",
        bundle=header.bundle.hex(),
        beacon=header.beacon.hex(),
        void=header.void,
        ended=header.ended,
        view=_view(checkpoint, seams),
        committee=list(committee.members),
        quorum=committee.q,
        signers=sorted(seams.envelopes.peek(raw).signer for raw in checkpoint.certificate.votes),
        inclusions=[] if header.void else _inclusions(header, updates),
        missing=[MissingView(trainer=peer, reason=why) for peer, why in _missing(header, before, lists)],
        lists=None if lists is None else [_list(entry) for entry in lists],
        seen=list(header.seen),
        joined=[newcomer.peer for newcomer in header.joined],
        left=[DepartureView(peer=departure.peer, reason=departure.reason) for departure in header.left],
        blamed=list(header.blamed),
        members=len(decode(RunState, stored.state).members),
        metrics=_metrics(header.metrics),
    )


def _before(service: RunService, round: int, seams: Seams) -> Head | None:
    """The head that the round began with, which says who was drawn; None where it is not here."""
    stored = seams.runs.checkpoint(service.run_id, round - 1) if round else None
    return trusted_head(service.spec, stored.checkpoint, stored.state, seams.envelopes.open_any) if stored else None


def _bundle(service: RunService, header: Header, seams: Seams) -> tuple[Lists | None, Updates]:
    """The lists that a header follows from, and the updates that they name."""
    for raw in seams.runs.entries(service.run_id, header.round):
        match entry_of(raw):
            case Signed(bundle=bundle) | Moved(bundle=bundle) if digest("bundle", bundle) == header.bundle:
                opened, open_ = decode(Bundle, bundle), seams.envelopes.open
                updates = [open_(Update, update) for update in opened.updates]
                return [open_(Collected, entry) for entry in opened.lists], {each.hash: each for each in updates}
    return None, {}


def _view(checkpoint: Checkpoint, seams: Seams) -> int:
    views = Counter(seams.envelopes.open(Vote, raw).record.view for raw in checkpoint.certificate.votes)
    return views.most_common(1)[0][0] if views else 0


def _inclusions(header: Header, updates: Updates) -> list[InclusionView]:
    total = sum(inclusion.weight for inclusion in header.inclusions)
    views = []
    for inclusion in header.inclusions:
        update = updates.get(inclusion.update)
        views.append(
            InclusionView(
                trainer=inclusion.trainer,
                update=inclusion.update.hex(),
                delta=inclusion.delta,
                weight=inclusion.weight,
                share=inclusion.weight / total if total else 0.0,
                staleness=inclusion.staleness,
                examples=update.record.examples if update else None,
                metrics=_metrics(update.record.metrics) if update else None,
            )
        )
    return views


def _missing(header: Header, before: Head | None, lists: Lists | None) -> list[tuple[PeerId, str]]:
    """Who was drawn to train and is not among the inclusions, with the reason."""
    if before is None:
        return []
    gone = {departure.peer: departure.reason for departure in header.left}
    missing = sorted(before.cohort - {inclusion.trainer for inclusion in header.inclusions})
    return [(peer, _why(peer, header, gone.get(peer, ""), lists, before.committee.k)) for peer in missing]


def _why(peer: PeerId, header: Header, gone: str, lists: Lists | None, k: int) -> str:
    if peer in header.blamed:
        return "it claims more examples than the run allows"
    if gone and gone != "dropped":
        return f"it was {gone}" if gone != "left" else "it left"
    if lists is not None:
        named = Counter(ref.update for entry in lists for ref in entry.record.updates if ref.trainer == peer)
        most = max(named.values(), default=0)
        if len(named) > 1:
            return f"the lists name {len(named)} updates of it, where there may be one"
        if most < k:
            return (
                f"{most} of {len(lists)} lists name its update, and {k} must"
                if most
                else "no list names an update of it"
            )
    if header.void:
        return f"the round gave no model: {header.void}"
    return "its update came too late, or not at all" if peer in header.seen else "it was silent"


def _list(entry: Opened[Collected]) -> ListView:
    return ListView(member=entry.signer, trainers=[ref.trainer for ref in entry.record.updates])


def _metrics(metrics: Iterable[Metric]) -> dict[str, float | None]:
    return {metric.name: metric.value for metric in metrics}
