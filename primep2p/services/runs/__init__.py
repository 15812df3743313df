"""Runs of this node: begun, joined, opened again, and driven round after round."""
