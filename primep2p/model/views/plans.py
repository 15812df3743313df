"""Answers about plans."""

from primep2p.model.views.view import View

__all__ = ["PlanView"]


class PlanView(View, frozen=True):
    """What is in a plan's file. Arrays are told as dtype[shape], those of a batch by one row."""

    name: str
    owner: str
    trusted: bool
    """Whether this node runs plans of its owner."""
    cid: str
    """Of its blob on this node; empty where it is only a file."""
    mlx: str
    rows: int
    """Of each batch; 0: any number."""
    params: dict[str, str]
    state: dict[str, str]
    batch: dict[str, str]
    settings: dict[str, float]
    metrics: list[str]
    graphs: dict[str, int]
    """Bytes of each."""
    primitives: dict[str, int]
    """What all graphs together are made of, and how often."""
