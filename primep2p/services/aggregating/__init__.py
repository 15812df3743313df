"""Deltas to the next params, to the same bytes on every member."""
