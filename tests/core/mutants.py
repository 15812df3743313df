"""Machines that are wrong on purpose: tests must be able to tell."""

from primep2p.core.consensus import Consensus
from primep2p.model.ids import Hash

__all__ = ["WithoutLock"]


class WithoutLock(Consensus):
    """Forgets what it precommitted."""

    @property
    def locked(self) -> tuple[int, Hash] | None:  # type: ignore[override]
        return None

    @locked.setter
    def locked(self, value: object) -> None:
        pass
