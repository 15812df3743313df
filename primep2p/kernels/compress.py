"""What a delta becomes on the wire, and what everybody makes of that again: bf16, int8, and the largest values alone.

Who encodes loses something; decoding rounds once at most, in one way, so that all peers read the same values. Values to
encode are finite, else what comes out is no delta. Encoding and decoding keep at most a few MiB beside their results.
"""

from collections.abc import Iterable
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from ml_dtypes import bfloat16

from primep2p.kernels.arrays import BLOCK, Array, Each, Range, Row, finish, one_after_another, ranges_of

__all__ = [
    "INT8_BLOCK",
    "LARGEST_SCALE",
    "MOST_INDEXED",
    "Bfloat16Row",
    "Halves",
    "Indices",
    "Int8Row",
    "Small",
    "TopKRow",
    "are_ascending",
    "are_finite_halves",
    "are_scales",
    "kept",
    "largest",
    "scales_for",
    "to_bfloat16",
    "to_int8",
]

Halves = npt.NDArray[np.uint16]
"""The upper halves of float32 values."""
Small = npt.NDArray[np.int8]
Indices = npt.NDArray[np.uint32]

_LARGEST_BFLOAT16 = 0x7F7F
_INFINITE_BFLOAT16 = 0x7F80

INT8_BLOCK = 8 * 1024
"""Columns under one scale. A quarter of it costs a third of the speed, four times as much a tenth of the precision of
normally distributed values, and more where layers of different size meet."""

LARGEST_SCALE = np.nextafter(np.float32(np.finfo(np.float32).max / 127), np.float32(0))
"""127 times this is finite, and more is not."""

_STRETCH = 8 * BLOCK
"""Columns that are encoded at a time: with few passes over each, calls count for more than the cache does."""

_SMALL_SIZE = np.float32(1e-30)
"""Below it a scale may be denormal, and what it is divided into infinite: such a block takes another way."""

MOST_INDEXED = 2**32
"""Columns that an index of 32 bits tells apart."""

_SAMPLED = 2**16
_SAMPLED_TOGETHER = 128
_SPARE = 2**16
"""Candidates that are held beyond those that are wanted, at least, before the smallest are dropped."""


# ---- the upper halves


def to_bfloat16(values: Array, out: Halves, *, each: Each = one_after_another) -> None:
    """The upper halves of float32, rounded to the nearest, ties to even; what would become infinite becomes the
    largest bfloat16 instead. Both of shape (D,). Raises ValueError for NaN."""

    def encode(start: int, end: int) -> None:
        for low, high in ranges_of(start, end, _STRETCH):
            _round_halves(values[low:high], out[low:high])

    finish(each(ranges_of(0, len(values)), encode))


def _round_halves(values: Array, out: Halves) -> None:
    with np.errstate(all="ignore"):
        np.copyto(out.view(bfloat16), values, casting="unsafe")
    if _are_finite(out):
        return
    if np.isnan(values).any():
        raise ValueError("a value to encode is not a number")
    sign = out & np.uint16(0x8000)
    np.minimum(out & np.uint16(0x7FFF), np.uint16(_LARGEST_BFLOAT16), out=out)
    out |= sign


def _are_finite(halves: Halves) -> bool:
    """As signed numbers only those above 0 compete, as unsigned ones those below it win."""
    return max(int(halves.view(np.int16).max()), int(halves.max()) & 0x7FFF) < _INFINITE_BFLOAT16


def are_finite_halves(values: Halves) -> bool:
    """Whether each of them, of shape (D,), is a finite number."""
    return all(_are_finite(values[low : low + BLOCK]) for low in range(0, len(values), BLOCK))


class Bfloat16Row:
    """A Row kept as upper halves: decoding is exact."""

    def __init__(self, values: Halves) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def read(self, start: int, end: int) -> Array:
        bits = self._values[start:end].astype(np.uint32)
        np.left_shift(bits, 16, out=bits)
        return bits.view(np.float32)


# ---- small integers, and a scale for each block


def scales_for(columns: int) -> int:
    """How many blocks these are."""
    return -(-columns // INT8_BLOCK)


def to_int8(values: Array, out: Small, scales: Array, *, each: Each = one_after_another) -> None:
    """Each block of INT8_BLOCK values as -127 to 127 times its own scale, about 1/127 of its largest size: the error is
    about half of the scale at most. `values` and `out` of shape (D,), `scales` of (scales_for(D),). Raises ValueError
    where a value is not finite."""

    def encode(start: int, end: int) -> None:
        scratch = np.empty(min(_STRETCH, end - start), np.float32)
        for low, high in ranges_of(start, end, _STRETCH):
            whole = low + (high - low) // INT8_BLOCK * INT8_BLOCK
            for first, last, width in ((low, whole, INT8_BLOCK), (whole, high, high - whole)):
                if first < last:
                    blocks = values[first:last].reshape(-1, width)
                    place = scales[first // INT8_BLOCK :][: len(blocks)]
                    _quantise(blocks, out[first:last].reshape(-1, width), place, scratch[: last - first])

    finish(each(ranges_of(0, len(values)), encode))


def _quantise(blocks: Array, out: Small, scales: Array, scratch: Array) -> None:
    """Of blocks (N, B) the small integers and the scales (N,)."""
    sizes = np.maximum(blocks.max(axis=1), -blocks.min(axis=1))
    if not np.isfinite(sizes).all():
        raise ValueError("a value to encode is not finite")
    np.minimum(sizes / np.float32(127), LARGEST_SCALE, out=scales)
    smallest = np.maximum(sizes, _SMALL_SIZE)
    quotients = scratch.reshape(blocks.shape)
    np.multiply(blocks, (np.float32(127) / smallest)[:, np.newaxis], out=quotients)
    np.rint(quotients, out=quotients)
    np.copyto(out, quotients, casting="unsafe")
    for number in np.flatnonzero(sizes < _SMALL_SIZE):
        scales[number] = _quantise_small(blocks[number], sizes[number], out[number])


def _quantise_small(block: Array, size: np.float32, out: Small) -> np.float32:
    """In float64, where nothing is denormal; the scale is rounded up, since 127 of it must reach the largest value."""
    if size == 0:
        out[:] = 0
        return np.float32(0)
    scale = np.float32(float(size) / 127)
    if float(scale) * 127 < float(size):
        scale = np.nextafter(scale, np.float32(1))
    np.copyto(out, np.rint(block.astype(np.float64) / float(scale)), casting="unsafe")
    return scale


def are_scales(scales: Array) -> bool:
    """Whether each is at least 0 (and not -0), and at most LARGEST_SCALE."""
    return len(scales) == 0 or bool(scales.view(np.uint32).max() <= LARGEST_SCALE.view(np.uint32))


class Int8Row:
    """A Row kept as small integers and scales: decoding is one multiplication, rounded once."""

    def __init__(self, values: Small, scales: Array) -> None:
        if len(scales) != scales_for(len(values)):
            raise ValueError(f"{len(scales)} scales for {len(values)} values")
        self._values = values
        self._scales = scales

    def __len__(self) -> int:
        return len(self._values)

    def read(self, start: int, end: int) -> Array:
        decoded = self._values[start:end].astype(np.float32)
        low = start
        while low < end:
            number = low // INT8_BLOCK
            high = min((number + 1) * INT8_BLOCK, end)
            part = decoded[low - start : high - start]
            np.multiply(part, self._scales[number], out=part)
            low = high
        return decoded


# ---- the largest values alone


def kept(ratio: str, columns: int) -> int:
    """How many of so many values travel; the ratio is a decimal below 1. Exact."""
    digits = ratio.removeprefix("0.")
    part: int = columns * int(digits) // 10 ** len(digits)
    return min(columns, max(1, part))


def largest(row: Row, count: int, *, each: Each = one_after_another) -> tuple[Indices, Array]:
    """The `count` values of the largest size and their columns, ascending; of equal sizes those of the lowest columns.

    One pass over the row keeps what reaches a size that a sample suggests; where too few do, a second pass keeps what
    is among the largest so far. Memory: the result a few times over, and a few MiB.
    """
    columns = len(row)
    if not 0 <= count <= columns <= MOST_INDEXED:
        raise ValueError(f"{count} of {columns} values, of at most {MOST_INDEXED}")
    if count == 0:
        return np.empty(0, np.uint32), np.empty(0, np.float32)
    best = _Best(count)
    best.floor = _likely_floor(row, count)
    best.gather(row, each)
    if best.held < count:  # the sample was of other values than the rest
        best = _Best(count)
        best.gather(row, each)
    return best.result()


class _Best:
    """The largest so far, of columns that come in ascending order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._room = count + max(count, _SPARE)
        self._indices: list[Indices] = []
        self._values: list[Array] = []
        self.held = 0
        self.floor = np.float32(0)
        """Smaller sizes do not count."""

    def gather(self, row: Row, each: Each) -> None:
        """All that counts in the row."""

        def reaching(start: int, end: int) -> list[tuple[Indices, Array]]:
            columns = min(_STRETCH, end - start)
            sizes, mask = np.empty(columns, np.float32), np.empty(columns, np.bool_)
            found = []
            for low, high in ranges_of(start, end, _STRETCH):
                values = row.read(low, high)
                np.abs(values, out=sizes[: high - low])
                np.greater_equal(sizes[: high - low], self.floor, out=mask[: high - low])
                places = np.flatnonzero(mask[: high - low])
                found.append(((places + low).astype(np.uint32), values[places]))
            return found

        for found in each(ranges_of(0, len(row)), reaching):
            for indices, values in found:
                self._indices.append(indices)
                self._values.append(values)
                self.held += len(indices)
            if self.held > self._room:
                self._drop()

    def result(self) -> tuple[Indices, Array]:
        """Once all was gathered."""
        if self.held > self._count:
            self._drop()
        return np.concatenate(self._indices), np.concatenate(self._values)

    def _drop(self) -> None:
        """All but the largest. What comes later must be larger: it has higher columns."""
        indices, values = np.concatenate(self._indices), np.concatenate(self._values)
        sizes = np.abs(values)
        place = len(sizes) - self._count
        least = np.partition(sizes, place)[place]
        kept = sizes > least
        ties = np.flatnonzero(sizes == least)
        kept[ties[: self._count - int(np.count_nonzero(kept))]] = True
        self._indices, self._values, self.held = [indices[kept]], [values[kept]], self._count
        with np.errstate(over="ignore"):  # nothing is larger than the largest
            self.floor = max(self.floor, np.nextafter(least, np.float32(np.inf)))


def _likely_floor(row: Row, count: int) -> np.float32:
    """A size that somewhat more than `count` values reach, as a sample has it; 0 where a sample would be most of it."""
    if len(row) < 4 * _SAMPLED:
        return np.float32(0)
    runs = _SAMPLED // _SAMPLED_TOGETHER
    sample = np.empty(_SAMPLED, np.float32)
    for number, (start, end) in enumerate(_runs(len(row), runs)):
        sample[number * _SAMPLED_TOGETHER : (number + 1) * _SAMPLED_TOGETHER] = row.read(start, end)
    np.abs(sample, out=sample)
    expected = count * _SAMPLED / len(row)
    rank = ceil(1.25 * expected + 4 * sqrt(expected) + 8)  # too many cost little, too few another pass
    return np.float32(0) if rank > _SAMPLED else np.partition(sample, _SAMPLED - rank)[_SAMPLED - rank]


def _runs(columns: int, runs: int) -> Iterable[Range]:
    """Short runs of columns all over the row, not in step with the layers of a model."""
    stride = columns // runs
    for number in range(runs):
        start = number * stride + (number * 40_503) % (stride - _SAMPLED_TOGETHER + 1)
        yield start, start + _SAMPLED_TOGETHER


def are_ascending(indices: Indices) -> bool:
    """Whether each of shape (K,) is larger than the one before."""
    return all(
        bool((indices[low + 1 : low + BLOCK + 1] > indices[low : min(low + BLOCK, len(indices) - 1)]).all())
        for low in range(0, len(indices) - 1, BLOCK)
    )


class TopKRow:
    """A Row of which only some values are kept, the others being 0: decoding is exact."""

    def __init__(self, columns: int, indices: Indices, values: Array) -> None:
        if len(indices) != len(values):
            raise ValueError(f"{len(indices)} indices for {len(values)} values")
        self._columns = columns
        self._indices = indices
        self._values = values

    def __len__(self) -> int:
        return self._columns

    def read(self, start: int, end: int) -> Array:
        decoded = np.zeros(end - start, np.float32)
        first, last = self._before(start), self._before(end)
        if first < last:
            decoded[self._indices[first:last] - np.uint32(start)] = self._values[first:last]
        return decoded

    def _before(self, column: int) -> int:
        """How many of those kept lie before a column. With another type of number all indices would be copied."""
        if column >= self._columns:
            return len(self._indices)
        return int(self._indices.searchsorted(np.uint32(column)))
