"""What taking part in a run would cost, before that is done."""

from primep2p.model.views.view import View

__all__ = ["Preview", "RunCost"]


class RunCost(View, frozen=True):
    """What a member pays for a run, on average of its rounds: draws are by lot. Bytes of the libraries below are not
    counted, which add some percent."""

    members: int
    """For so many it is reckoned."""
    cohort: int
    committee: int
    params_bytes: int
    delta_bytes: int
    state_bytes: int
    """Of the outer optimiser; 0 where there is none."""
    down_bytes: int
    """In a round."""
    up_bytes: int
    """In a round."""
    memory_bytes: int
    """The most that aggregating takes; what the trainer takes is its own affair."""
    disk_bytes: int
    """Deltas and models of the rounds that this node keeps, when it has so many."""
    growth_bytes: int
    """What a round adds to the chain, which stays."""


class Preview(View, frozen=True):
    """A run that this node is not in yet, and what it would cost."""

    run: str
    """Empty where it is not made yet."""
    name: str
    trainer: str
    creator: str
    admission: str
    obstacle: str
    """Why members would not admit this node, as far as can be seen from here; else empty."""
    members: int
    """As one of them says; 0 where it has not begun."""
    first_members: int
    round: int
    rounds: int
    """After so many it is finished; 0: it goes on."""
    votes: bool
    """This node would have a vote where it is drawn: it computes what the protocol says."""
    cost: RunCost
    params: str
    """A file with the first params, where they were made for this: good for `params` of run.create until the next
    preview."""
