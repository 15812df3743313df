"""`primep2p top`: a node on a whole screen. Needs the extra top."""
