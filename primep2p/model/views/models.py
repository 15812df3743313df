"""Answers about models."""

from primep2p.model.views.view import View

__all__ = ["ModelPath"]


class ModelPath(View, frozen=True):
    """Where the certified params of a round lie on this node, as a safetensors file: read it, never write to it."""

    run: str
    round: int
    cid: str
    path: str
