"""The one way in which primep2p writes the header of a safetensors file: a function of names and shapes.

A file is the header's length (8 bytes, little endian), the header (JSON, padded with blanks), then the tensors' bytes
without gaps. Here it has float32 tensors in a given order and no metadata, so equal tensors are equal bytes, whoever
writes them. Source: github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Sequence
from math import prod

from primep2p.model.records import TensorSpec

__all__ = ["ALIGNMENT", "FLOAT_BYTES", "LENGTH_BYTES", "RESERVED_NAME", "data_bytes", "header_bytes"]

FLOAT_BYTES = 4
LENGTH_BYTES = 8

ALIGNMENT = 8
"""The header is padded so that the tensors begin at a multiple of it."""

RESERVED_NAME = "__metadata__"
"""The format keeps it for itself."""


def data_bytes(tensors: Sequence[TensorSpec]) -> int:
    """How many bytes the values of `tensors` take."""
    return sum(FLOAT_BYTES * prod(tensor.shape) for tensor in tensors)


def header_bytes(tensors: Sequence[TensorSpec]) -> bytes:
    """All that precedes the values in the file, its own length included. Raises ValueError for names that no file
    has."""
    entries: dict[str, object] = {}
    start = 0
    for tensor in tensors:
        if tensor.name in entries or tensor.name == RESERVED_NAME:
            raise ValueError(f"two tensors are named {tensor.name!r}, or the format keeps that name for itself")
        end = start + FLOAT_BYTES * prod(tensor.shape)
        entries[tensor.name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
