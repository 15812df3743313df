"""Exit codes: whose fault it was, for scripts. The one place that has them."""

from primep2p.model.errors import (
    CallError,
    ConfigError,
    PeerError,
    PluginError,
    PrimeError,
    StoreError,
    Unavailable,
)

__all__ = ["EXIT_CODES", "USAGE", "exit_code"]

USAGE = 2
"""A command line that makes no sense counts as configuration."""

EXIT_CODES: dict[type[PrimeError], int] = {
    PrimeError: 1,
    ConfigError: 2,
    Unavailable: 3,
    CallError: 4,
    PluginError: 5,
    StoreError: 6,
    PeerError: 7,
}


def exit_code(error: PrimeError) -> int:
    """The exit code of its class, or of the nearest one above."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
