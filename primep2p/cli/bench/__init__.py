"""`primep2p bench`: how fast this machine aggregates, beside what its memory can do."""
