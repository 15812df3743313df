"""What goes between members beside blobs: streams, questions, pointers, and what is remembered of them."""
