"""The one way in which primep2p writes the header of a safetensors file: a function of names, types and shapes.

A file is the header's length (8 bytes, little endian), the header (JSON, padded with blanks), then the tensors' bytes
without gaps. Here it has tensors in a given order and no metadata, so equal tensors are equal bytes, whoever writes
them. Source: github.com/huggingface/safetensors, "Format".
"""

import json
from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple

from primep2p.model.records import TensorSpec

__all__ = [
    "ALIGNMENT",
    "FLOAT_BYTES",
    "ITEM_BYTES",
    "LENGTH_BYTES",
    "RESERVED_NAME",
    "Entry",
    "data_bytes",
    "entry_bytes",
    "header_bytes",
    "header_of",
]

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
    """All that precedes the values in a file of `tensors`, its own length included. Raises ValueError for names that no
    file has."""
    return header_of([Entry(tensor.name, "F32", tensor.shape) for tensor in tensors])


ItemType = Literal["F32", "BF16", "I8", "U32"]

ITEM_BYTES: dict[ItemType, int] = {"F32": FLOAT_BYTES, "BF16": 2, "I8": 1, "U32": 4}


class Entry(NamedTuple):
    """What a header says of one tensor, but for where it lies."""

    name: str
    type: ItemType
    shape: tuple[int, ...]


def entry_bytes(entry: Entry) -> int:
    """How many bytes its values take."""
    return ITEM_BYTES[entry.type] * prod(entry.shape)


def header_of(tensors: Sequence[Entry]) -> bytes:
    """All that precedes the values in a file of these, in this order. Raises ValueError for names that no file has."""
    entries: dict[str, object] = {}
    start = 0
    for tensor in tensors:
        if tensor.name in entries or tensor.name == RESERVED_NAME:
            raise ValueError(f"two tensors are named {tensor.name!r}, or the format keeps that name for itself")
        end = start + entry_bytes(tensor)
        entries[tensor.name] = {"dtype": tensor.type, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
