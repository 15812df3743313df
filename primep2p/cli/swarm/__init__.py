"""Several real daemons on this machine: for the demo, for benches and for tests."""
