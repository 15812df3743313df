"""plugin/arrays: the file of arrays that somebody asks a model, or that a trainer's process answers with."""

import os

import numpy as np

from primep2p.plugin.arrays import MAX_ARRAYS, check_arrays, load_arrays, save_arrays
from tests.fuzz.kit import home
from tests.fuzz.surface import Surface


def fuzz(data: bytes) -> None:
    """What passes is what the library reads too, whole: each array of a type that numpy has, all within the file."""
    path = home() / "arrays.safetensors"
    path.write_bytes(data)
    try:
        check_arrays(path)
    except ValueError:
        return
    arrays = load_arrays(path)
    assert 1 <= len(arrays) <= MAX_ARRAYS
    assert sum(array.nbytes for array in arrays.values()) <= len(data)


def corpus() -> list[bytes]:
    path = home() / f"seed-{os.getpid()}.safetensors"
    made = []
    for arrays, metadata in (
        ({"x": np.ones((2, 3), np.float32), "y": np.arange(2), "scalar": np.float64(1)}, None),
        ({"none": np.zeros((0, 4), np.uint8), "é": np.array([True])}, {"step": "3"}),
    ):
        path.unlink(missing_ok=True)
        save_arrays(path, arrays, metadata)
        made.append(path.read_bytes())
    return made


SURFACE = Surface(fuzz, corpus)
