"""Which runs of this node need which deltas: two updates may have the same bytes, and then they are one blob."""

from primep2p.model.ids import Cid, RunId

__all__ = ["Claims"]


class Claims:
    """Of all runs of a node. A blob is claimed before it is looked for, and removed by the last that lets it go."""

    def __init__(self) -> None:
        self._holders: dict[Cid, set[RunId]] = {}
        self._brought: set[Cid] = set()
        """Of those that are claimed, what was not here before: the others are not a delta's to remove."""

    def hold(self, cid: Cid, run: RunId, *, is_here: bool) -> None:
        """The run needs it, from here until it lets go."""
        if cid not in self._holders and not is_here:
            self._brought.add(cid)
        self._holders.setdefault(cid, set()).add(run)

    def let_go(self, cid: Cid, run: RunId) -> bool:
        """The run needs it no more; whether it may be removed: nobody else needs it, and a claim brought it."""
        holders = self._holders.get(cid, set())
        holders.discard(run)
        if holders:
            return False
        self._holders.pop(cid, None)
        is_brought = cid in self._brought
        self._brought.discard(cid)
        return is_brought

    def is_held(self, cid: Cid) -> bool:
        """Some run needs it."""
        return cid in self._holders
