"""Bytes to records and back, and what a signature covers."""
