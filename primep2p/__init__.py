"""primep2p: a group of people trains one model together, with no server."""

__version__ = "0.1.0"
