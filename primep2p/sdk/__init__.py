"""What people import; each name is also one of `primep2p`, which loads it when it is first asked for."""
