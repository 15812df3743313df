"""Whether a checkpoint is the run's last: from its bundle alone, so that all members agree [F1, F2].

Liars lie about metrics and clocks. Fewer than k of them cannot end a run, and as long as honest members' updates and
lists are in the bundle, they cannot keep it going either.
"""

from collections.abc import Iterable, Sequence

from primep2p.core.votes import Committee
from primep2p.model.errors import PeerError
from primep2p.model.ids import PeerId
from primep2p.model.records import Collected, End, Header, RunSpec, Update
from primep2p.model.stopping import Target

__all__ = ["check_end", "ending"]


def ending(
    spec: RunSpec,
    *,
    round: int,
    committee: Committee,
    cohort: Iterable[PeerId],
    lists: Iterable[Collected],
    updates: Sequence[Update],
) -> End:
    """What ends the run with the checkpoint of `round`; "" where it goes on. `updates` are those that enter; that a
    target is met by none that gives no model is for whoever knows that."""
    if 0 < spec.policy.rounds <= round:
        return "rounds"
    if spec.stop.until and sum(entry.over for entry in lists) >= committee.k:
        return "time"
    return "metric" if _is_met(spec, cohort, updates) else ""


def check_end(spec: RunSpec, header: Header) -> None:
    """Whether a certified header may end the run, or not end it, as far as can be seen without its bundle. Raises
    PeerError [K1]."""
    is_due = 0 < spec.policy.rounds <= header.round
    match header.ended:
        case "":
            right = not is_due
        case "rounds":
            right = is_due
        case "time":
            right = not is_due and spec.stop.until > 0
        case "metric":
            right = not is_due and spec.stop.target is not None and not header.void
    if not right:
        raise PeerError("a certified header that ends the run, or does not, as its spec does not allow")


def _is_met(spec: RunSpec, cohort: Iterable[PeerId], updates: Sequence[Update]) -> bool:
    """Whether more than half of the updates that enter claim so, and no fewer than k of the cohort, so that an honest
    one is among them [F1]. The median of what they claim says the same: it lies between two honest claims."""
    target = spec.stop.target
    if target is None:
        return False
    trainers = Committee.of(tuple(cohort), spec.policy.consensus_threshold)
    return sum(_claims(target, update) for update in updates) >= max(trainers.k, len(updates) // 2 + 1)


def _claims(target: Target, update: Update) -> bool:
    claimed = {metric.name: metric.value for metric in update.metrics}
    return target.metric in claimed and target.is_met_by(claimed[target.metric])
