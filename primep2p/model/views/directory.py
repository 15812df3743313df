"""What the directory knows."""

from primep2p.model.views.view import View

__all__ = ["DirectoryProviders", "DirectoryValue", "Published"]


class DirectoryValue(View, frozen=True):
    """The newest record that its owner signed under a key."""

    owner: str
    key: str
    text: str | None
    """Null where the value is no text in UTF-8."""
    base64: str


class DirectoryProviders(View, frozen=True):
    """Peers that say that they hold what a key stands for, this node not included."""

    key: str
    providers: list[str]


class Published(View, frozen=True):
    """What other nodes hold for this one now. They forget it after a time: what must stay is published again."""

    owner: str
    key: str
