"""The disk of a node: sqlite, blobs, and files of tensors."""
