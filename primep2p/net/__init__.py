"""The network: the host's seam, libp2p behind it, and one in memory."""
