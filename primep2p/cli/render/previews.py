"""What a run would cost, for people."""

import sys
from collections.abc import Iterator

from primep2p.cli.render.printing import many, say
from primep2p.model.text import printable
from primep2p.model.views.previews import Preview

__all__ = ["show_preview", "size"]

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def show_preview(preview: Preview, *, beside: bool = False) -> None:
    """Who is in it, and what this node would pay in a round; on stderr where it stands `beside` what was asked for."""
    for line in _lines(preview):
        print(printable(line), file=sys.stderr) if beside else say(line)


def _lines(preview: Preview) -> Iterator[str]:
    cost = preview.cost
    begun = f"round {preview.round}, {many(preview.members, 'member')}" if preview.members else "it has not begun"
    wanted = f"it begins with {many(preview.first_members, 'member')}"
    yield f"costs     of {preview.name}: {begun if preview.run else wanted}; who may join: {preview.admission}"
    down, up = size(cost.down_bytes), size(cost.up_bytes)
    yield f"a round   {down} down and {up} up, where {cost.cohort} train and {cost.committee} vote of {cost.members}"
    yield f"          a delta is {size(cost.delta_bytes)}, and the model {size(cost.params_bytes)}"
    if preview.rounds:
        left = max(preview.rounds - preview.round, 0)
        down, up = size(cost.down_bytes * left), size(cost.up_bytes * left)
        yield f"in all    {down} down and {up} up in {many(left, 'round')}"
    yield f"memory    at most {size(cost.memory_bytes)} to aggregate, and what the trainer takes"
    yield f"disk      {size(cost.disk_bytes)} of models and deltas, and {size(cost.growth_bytes)} more in each round"
    if not preview.votes:
        yield "vote      none: what this machine computes has other bytes than the protocol says"
    if preview.obstacle:
        yield f"outside   {preview.obstacle}"


def size(size_bytes: float) -> str:
    """With three digits, in the unit that fits."""
    unit = 0
    while size_bytes >= 1000 and unit < len(UNITS) - 1:
        size_bytes, unit = size_bytes / 1024, unit + 1
    return f"{size_bytes:.0f} {UNITS[unit]}" if unit == 0 or size_bytes >= 100 else f"{size_bytes:.3g} {UNITS[unit]}"
