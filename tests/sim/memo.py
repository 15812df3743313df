"""What many machines in one process compute from the same bytes is computed once.

Only in worlds of more than 31 members, with keys that share what one machine verified: there, too, each has all of it
computed for it from the bytes that it heard, by the core's own function. test_scenario.py compares both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from primep2p.core import runs
from primep2p.core.chain import Head, follow
from primep2p.core.votes import Open
from primep2p.model.ids import Hash
from primep2p.model.records import Checkpoint

__all__ = ["LARGE", "shared"]

LARGE = 31
"""Members from which on heads are shared: each step of one makes a record for every member."""


@contextmanager
def shared() -> Iterator[None]:
    """Within, machines that follow one checkpoint from one head share what comes of it, its draws included."""
    known: dict[tuple[Hash, Checkpoint], Head] = {}

    def once(head: Head, checkpoint: Checkpoint, open_: Open) -> Head:
        key = (head.hash, checkpoint)
        if key not in known:
            known[key] = follow(head, checkpoint, open_)
        return known[key]

    with patch.object(runs, "follow", once):
        yield
