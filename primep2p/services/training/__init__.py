"""Who trains in a run, whether, with what, and how a delta becomes the blob that others fetch."""
