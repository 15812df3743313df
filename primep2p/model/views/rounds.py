"""One certified round in full."""

from collections.abc import Mapping
from typing import Literal

from primep2p.model.views.view import View

__all__ = ["DepartureView", "InclusionView", "ListView", "MissingView", "RoundView"]


class InclusionView(View, frozen=True):
    """An update that entered the model. What its trainer said of it is there as long as the journal has the lists."""

    trainer: str
    update: str
    delta: str
    weight: int
    share: float
    """Of all weights."""
    staleness: int
    """In a buffered run: how many rounds later than its own it entered."""
    examples: int | None
    metrics: Mapping[str, float | None] | None


class MissingView(View, frozen=True):
    """A member of the cohort whose update did not enter the model, and why, as far as the chain tells."""

    trainer: str
    reason: str


class ListView(View, frozen=True):
    """Whose updates a member of the committee held when it had collected."""

    member: str
    trainers: list[str]


class DepartureView(View, frozen=True):
    """Who is no member any more after the round."""

    peer: str
    reason: Literal["dropped", "convicted", "banned", "left"]


class RoundView(View, frozen=True):
    """A certified round: its header, what entered, what did not, and who signed."""

    run: str
    name: str
    round: int
    header: str
    parent: str
    params: str
    optimiser: str
    """The CID of the outer optimiser's state; empty where there is none."""
    bundle: str
    """The hash of the lists that the header follows from."""
    beacon: str
    void: str
    """Why the round gave no model; empty where it gave one."""
    ended: Literal["", "rounds", "time", "metric"]
    """Why this was the run's last round; empty where it was not."""
    view: int
    """The attempt at agreeing in which it was certified."""
    committee: list[str]
    """Who had a vote; empty where the checkpoint before is not here."""
    quorum: int
    """So many of them decide; 0 where that is not known here."""
    signers: list[str]
    """Whose precommits the certificate holds."""
    inclusions: list[InclusionView]
    missing: list[MissingView]
    """Empty too where the checkpoint before is not here."""
    lists: list[ListView] | None
    """Null where the journal does not have them any more."""
    seen: list[str]
    joined: list[str]
    left: list[DepartureView]
    blamed: list[str]
    """Who claimed what the rules of the run do not allow."""
    members: int
    """After the round."""
    metrics: Mapping[str, float | None]
    """Means over the included updates."""
