"""A rule on tensors in files: what `primep2p aggregate` does, in constant memory."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from primep2p.config import ComputeSection
from primep2p.kernels.arrays import Array, Pieces, Row, Separate, all_finite, ranges_of
from primep2p.kernels.average import Fold, shares_of
from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.pipeline import combine, fill, reads
from primep2p.model.errors import ConfigError
from primep2p.model.pipeline import FedAvg, Pipeline
from primep2p.model.records import TensorSpec
from primep2p.plugin.tensors import open_mapped
from primep2p.services.aggregating.compute import Compute
from primep2p.store.tensors import writing

__all__ = ["Aggregated", "aggregate", "whole"]

PIECE = 2**22
"""Values written at a time: 16 MiB."""

FOLDED_BYTES = 2**26
"""A mean this small is kept in memory while each file is read once, from its beginning to its end."""

NODE = ComputeSection()
"""As a node without a configuration computes."""

Shapes = Mapping[str, tuple[int, ...]]

SHOWN_BYTES = 2**28
"""Reading less takes no time worth a progress bar."""


class Aggregated(Struct, frozen=True):
    """What was done."""

    out: str
    files: int
    values: int
    """In each of them."""
    backend: str
    seconds: float
    entered: list[str]
    """The files that have a part in it: all of them, or those that the rule has chosen."""

    @property
    def sentence(self) -> str:
        """For people."""
        made = f"{self.out}: {self.values:,} values from {self.files} files in {self.seconds:.2f} s ({self.backend})"
        return made if len(self.entered) == self.files else f"{made}; chosen: {', '.join(self.entered)}"


def aggregate(
    pipeline: Pipeline, files: Sequence[Path], counts: Sequence[int], seed: bytes, out: Path, *, quiet: bool
) -> Aggregated:
    """`out` = what the rule makes of `files`, with the tensors in the order of the first. Raises ConfigError where a
    file is not what it should be, StoreError where the disk fails; `out` is whole, or as it was before."""
    began = perf_counter()
    if len(files) < pipeline.least_updates:
        need = pipeline.need
        raise ConfigError(f"{need.stage.words} needs {need.updates} files ({need.because}), and there are {len(files)}")
    tensors, rows = _open(files)
    total_bytes = 4 * len(rows) * len(rows[0]) * (1 + reads(pipeline))
    with _progress(shown=total_bytes >= SHOWN_BYTES and not quiet) as progress, closing(Compute(NODE)) as compute:
        reading = progress.add_task("reading", total=total_bytes)
        watched = [_Watched(row, partial(progress.advance, reading)) for row in rows]
        for path, row in zip(files, watched, strict=True):
            _check_finite(path, row)
        backend = compute.choose().backend
        chosen: Sequence[int] | None = None
        with whole(out) as made, writing(made, tensors) as writer:
            if isinstance(pipeline.rule, FedAvg) and not pipeline.pre and 4 * len(rows[0]) <= FOLDED_BYTES:
                writer.write(_folded(watched, shares_of(counts, pipeline.rule.weighting)))
            else:
                together = Separate(watched)
                combination = combine(pipeline, together, counts, seed, backend=backend, each=compute.each)
                chosen = combination.entering
                for start, end in ranges_of(0, len(rows[0]), PIECE):
                    made_columns = np.empty(end - start, np.float32)
                    fill(combination, together, start, made_columns, compute.each)
                    writer.write(made_columns)
    seconds = round(perf_counter() - began, 3)
    entered = [str(files[row]) for row in (range(len(files)) if chosen is None else chosen)]
    return Aggregated(str(out), len(files), len(rows[0]), backend.name, seconds, entered)


def _open(files: Sequence[Path]) -> tuple[tuple[TensorSpec, ...], list[Pieces]]:
    """What the first file has, and the values of each in that order."""
    opened = [_read(path) for path in files]
    tensors, _ = opened[0]
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    for path, (found, _) in zip(files, opened, strict=True):
        _check_alike(path, {tensor.name: tensor.shape for tensor in found}, files[0], shapes)
    rows = [Pieces([views[tensor.name] for tensor in tensors]) for _, views in opened]
    if not tensors or not len(rows[0]):
        raise ConfigError(f"{files[0]} has no values")
    return tensors, rows


def _read(path: Path) -> tuple[tuple[TensorSpec, ...], Mapping[str, Array]]:
    try:
        return open_mapped(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}", hint="safetensors files of float32 tensors are expected") from error


def _check_alike(path: Path, found: Shapes, first: Path, expected: Shapes) -> None:
    for name in expected.keys() - found.keys():
        raise ConfigError(f"{path} has no tensor {name!r}, which {first} has")
    for name, shape in found.items():
        if name not in expected:
            raise ConfigError(f"{path} has a tensor {name!r}, which {first} has not")
        if shape != expected[name]:
            raise ConfigError(f"tensor {name!r} has shape {shape} in {path}, and {expected[name]} in {first}")


class _Watched:
    """A row that says how much of it is read."""

    def __init__(self, row: Pieces, told: Callable[[int], None]) -> None:
        self._row = row
        self._told = told

    def __len__(self) -> int:
        return len(self._row)

    def read(self, start: int, end: int) -> Array:
        self._told(4 * (end - start))
        return self._row.read(start, end)


def _check_finite(path: Path, row: Row) -> None:
    if not all(all_finite(row.read(start, end)) for start, end in ranges_of(0, len(row), PIECE)):
        raise ConfigError(f"{path} has a value that is not finite")


def _folded(rows: Sequence[Row], shares: Doubles) -> Array:
    """The mean, each file read from its beginning to its end and then left alone."""
    fold = Fold(len(rows[0]), shares)
    for row in rows:
        fold.add(row.read(0, len(row)))
    return fold.result


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another name to write to, which becomes `path` when all is written: it may be one of those that are read."""
    if path.is_dir():
        raise ConfigError(f"{path} is a directory")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ConfigError(f"nothing can be written in {path.absolute().parent}")
    hidden = path.with_name(f".{path.name}.{os.getpid()}")
    yield hidden  # whoever writes there removes it when it fails
    os.replace(hidden, path)


def _progress(*, shown: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True)
