"""A certified round, for people."""

from collections.abc import Mapping

from primep2p.cli.render.printing import cells, columns, many, number, print_table, say
from primep2p.model.views.rounds import InclusionView, RoundView

__all__ = ["show_round"]


ENDINGS = {"rounds": "its rounds are done", "time": "its time is over", "metric": "its target is reached"}


def show_round(view: RoundView) -> None:
    """All of it: the heads of lines are as in `run show`."""
    say(f"run       {view.run}")
    say(f"round     {view.round} of {view.name}, certified in view {view.view}{_outcome(view)}")
    say(f"head      {view.header}")
    say(f"parent    {view.parent}")
    say(f"params    {view.params}")
    if view.optimiser:
        say(f"optimiser {view.optimiser}")
    if view.metrics:
        say(f"metrics   {_metrics(view.metrics)}")
    needed = f", a quorum is {view.quorum}" if view.quorum else ""
    voters = f"{len(view.signers)} of {len(view.committee)}{needed}" if view.committee else str(len(view.signers))
    say(f"signed    by {voters}")
    silent = set(view.committee) - set(view.signers)
    for peer in view.signers:
        say(f"          {peer}")
    for peer in sorted(silent):
        say(f"          {peer} is not in the certificate")
    for heading, peers in (("joined", view.joined), ("blamed", view.blamed)):
        for peer in peers:
            say(f"{heading:10}{peer}")
    for departure in view.left:
        say(f"left      {departure.peer}: {departure.reason}")
    say(f"members   {view.members} after it, {len(view.seen)} seen in it")
    _show_inclusions(view.inclusions)
    for missing in view.missing:
        say(f"missing   {missing.trainer}: {missing.reason}")
    for entry in view.lists or ():
        say(f"list      of {entry.member}: {many(len(entry.trainers), 'update')}")


def _outcome(view: RoundView) -> str:
    void = f", without a model: {view.void}" if view.void else ""
    return f"{void}, the last: {ENDINGS[view.ended]}" if view.ended else void


def _show_inclusions(inclusions: list[InclusionView]) -> None:
    if not inclusions:
        return
    told = any(inclusion.metrics for inclusion in inclusions)
    say()
    late = any(inclusion.staleness for inclusion in inclusions)
    table = columns(
        "!trainer", ">weight", ">share", *([">late"] if late else []), *(["metrics"] if told else []), "delta"
    )
    for inclusion in inclusions:
        row: list[object] = [inclusion.trainer, f"{inclusion.weight:,}", f"{inclusion.share:.1%}"]
        row += [many(inclusion.staleness, "round")] if late else []
        row += [_metrics(inclusion.metrics or {})] if told else []
        table.add_row(*cells([*row, inclusion.delta]))
    print_table(table)


def _metrics(metrics: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {number(value)}" for name, value in sorted(metrics.items()))
