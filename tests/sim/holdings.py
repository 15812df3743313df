"""How many records a machine holds: a walk through all that can be reached from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from primep2p.core.runs import Run
from primep2p.model.messages import Certified, Digest, Proposed, Records
from primep2p.model.records import Evidence, Header, RunSpec, RunState
from primep2p.wire.envelope import Opened
from tests.sim.keys import SimEnvelopes

__all__ = ["records_held"]

_LEAVES = (str, bytes, int, float, type(None), SimEnvelopes, Header, RunSpec, RunState)
"""What a head says is no record of a round, and names every member."""


def records_held(run: Run) -> int:
    """Distinct signed records, opened or as bytes, those of held messages included. It knows no field by name, so that
    what a machine begins to keep tomorrow counts too."""
    raws: set[bytes] = set()
    met: set[int] = set()
    todo: deque[object] = deque((run,))
    while todo:
        thing = todo.pop()
        if isinstance(thing, _LEAVES) or id(thing) in met:
            continue
        met.add(id(thing))
        match thing:
            case Opened(raw=raw):
                raws.add(raw)
            case Records(items=items):
                raws.update(items)
            case Proposed():
                raws.update((thing.proposal, *thing.prevotes))
            case Evidence(first=first, second=second):
                raws.update((first, second))
            case Certified() | Digest():
                pass
            case Mapping():
                todo.extend(thing.keys())
                todo.extend(thing.values())
            case tuple() | list() | set() | frozenset() | deque():
                todo.extend(thing)
            case _ if type(thing).__module__.startswith("primep2p."):
                todo.extend(_parts(thing))
    return len(raws)


def _parts(thing: object) -> list[object]:
    """The values of an object's fields."""
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    named = [getattr(thing, name, None) for name in slots]
    return [*named, *getattr(thing, "__dict__", {}).values()]
