"""Blobs between peers: fetched, served, told of, kept, and freed."""
