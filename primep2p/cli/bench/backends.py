"""Which backends a daemon could use here, and why not the others."""

from functools import lru_cache

from primep2p.kernels.backends.seam import Backend
from primep2p.services.aggregating.backends import BACKENDS, Checked, OneThread, check

__all__ = ["backends", "present"]


@lru_cache(maxsize=1)
def backends() -> dict[str, Backend | str]:
    """By name, the one that every machine has first; or the reason why there is none of that name."""
    thread = OneThread()  # MLX belongs to it for as long as the process lives
    found = [check(name, thread) for name in BACKENDS]
    return {one.name: _reason(one) if one.backend is None else one.backend for one in found}


def present() -> dict[str, Backend]:
    """Those that are here."""
    return {name: backend for name, backend in backends().items() if not isinstance(backend, str)}


def _reason(checked: Checked) -> str:
    return f"{checked.reason}: {checked.fix}" if checked.fix else checked.reason
