"""Files of models and of questions to them: safetensors, numpy's npy and npz, and tables of numbers as csv."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from primep2p.cli.offline.files import whole
from primep2p.model.errors import ConfigError
from primep2p.model.views.models import ModelPath, Prediction
from primep2p.model.views.view import View
from primep2p.plugin.arrays import check_arrays, load_arrays, save_arrays

__all__ = ["Answered", "Exported", "answered", "export", "question"]

SHOWN_VALUES = 1000
"""Of an answer without --out: what is larger belongs in a file."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Exported(View, frozen=True):
    """A file that was written."""

    model: str
    file: str
    size_bytes: int


class Answered(View, frozen=True):
    """What a model said: in a file, or the values themselves, by the names of its arrays."""

    model: str
    trainer: str
    seconds: float
    file: str
    shapes: Mapping[str, list[int]]
    values: Mapping[str, Any]


def export(found: ModelPath, out: Path | None, format: Literal["safetensors", "npz"] | None) -> Exported:
    """The params of `found` in a file, whole or not at all. Raises ConfigError."""
    kind = format or ("npz" if out is not None and out.suffix == ".npz" else "safetensors")
    path = out or Path(_file_name(found.model) + f".{kind}")
    with whole(path) as hidden, _written(hidden):
        if kind == "npz":
            write_npz(hidden, load_arrays(Path(found.path)))
        else:
            shutil.copyfile(found.path, hidden)
    return Exported(model=found.model, file=str(path), size_bytes=path.stat().st_size)


@contextmanager
def question(path: Path) -> Iterator[Path]:
    """The arrays of a file where the daemon reads them, as long as the context lasts. Raises ConfigError."""
    with tempfile.TemporaryDirectory(prefix="primep2p-") as directory:
        inputs = Path(directory) / "inputs.safetensors"
        try:
            save_arrays(inputs, _read(path))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path} cannot be given to a model: {_reason(error)}") from error
        yield inputs


def answered(asked: Prediction, out: Path | None) -> Answered:
    """What a model said, moved to where it was wanted. Raises ConfigError."""
    arrays = load_arrays(Path(asked.path))
    count = sum(array.size for array in arrays.values())
    if out is None and count > SHOWN_VALUES:
        raise ConfigError(f"the answers have {count:,} values, too many to be shown", hint="write them with --out FILE")
    if out is not None:
        with whole(out) as hidden, _written(hidden):
            write_npz(hidden, arrays) if out.suffix == ".npz" else shutil.copyfile(asked.path, hidden)
    return Answered(
        model=asked.model,
        trainer=asked.trainer,
        seconds=asked.seconds,
        file=str(out) if out is not None else "",
        shapes={name: list(array.shape) for name, array in arrays.items()},
        values={name: array.tolist() for name, array in arrays.items()} if out is None else {},
    )


def write_npz(path: Path, arrays: Arrays) -> None:
    """What `numpy.load` reads, of any names: numpy's own writer takes `file` for something else. No pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise ConfigError(
                    f"a tensor is called {name!r}, which an npz must not have: it could be unpacked elsewhere",
                    hint="export it with --format safetensors",
                )
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _read(path: Path) -> Arrays:
    match path.suffix:
        case ".npy":
            return {"x": np.load(path, allow_pickle=False)}
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        case ".csv":
            with path.open(encoding="utf-8") as file:
                is_headed = not _is_numbers(file.readline())
            return {"x": np.loadtxt(path, np.float32, delimiter=",", skiprows=int(is_headed), ndmin=2)}
        case ".safetensors":
            check_arrays(path)
            return load_arrays(path)
    raise ValueError("its name must end in .npy, .npz, .csv or .safetensors")


def _is_numbers(line: str) -> bool:
    try:
        return bool([float(field) for field in line.split(",")])
    except ValueError:
        return False


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """What is not written whole goes. Raises ConfigError where the disk refuses."""
    try:
        yield
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _file_name(model: str) -> str:
    """Of a run its short id and round, of a model its name and version."""
    name, _, version = model.rpartition("/")[2].partition("@")
    return f"{name[:40]}-{version}" if "/" in model else f"{name[:12]}-{version}"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
