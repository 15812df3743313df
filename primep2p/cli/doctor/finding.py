"""What a check looks at, and what it finds."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from primep2p.config import NodeConfig
from primep2p.model.views.node import NodeStatus

__all__ = ["Finding", "Scene"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A line. Only with a `fault` a daemon cannot do its work; a `note` is worth knowing."""

    what: str
    state: Literal["ok", "note", "fault"]
    said: str
    fix: str = ""


@dataclass(frozen=True)
class Scene:
    """A node as it is configured, and what its daemon says where one runs."""

    config: NodeConfig
    daemon: NodeStatus | None = None
