"""Answers about the trainers of a node."""

from typing import Literal

from primep2p.model.views.view import View

__all__ = ["Finding", "PluginLog", "PluginView"]


class PluginView(View, frozen=True):
    """A trainer that runs of this node can name."""

    name: str
    location: str
    """path.py:Class, or module:Class."""
    source: str
    """node.toml, or the package that brings it, with its version."""
    loads: bool | None
    """Whether its process could make it; null: nobody tried."""
    abi_version: int
    """Of the plugin API, that it is written for; 0 where it does not load or nobody tried."""
    predicts: bool
    problem: str
    """Why it does not load."""


class PluginLog(View, frozen=True):
    """The newest lines that a trainer printed, the oldest of them first."""

    path: str
    lines: list[str]


class Finding(View, frozen=True):
    """A line of `plugin check`. With a `fault` the trainer cannot take part; a `note` is worth a thought."""

    what: str
    state: Literal["ok", "note", "fault"]
    said: str
