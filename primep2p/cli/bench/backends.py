"""Which backends this installation has."""

from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend

__all__ = ["backends"]


def backends() -> dict[str, Backend]:
    """By name, the one that every machine has first."""
    return {"numpy": Plain()}
