"""What this machine can compute the certified aggregate with: backends, each held to the protocol's digest."""

import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from primep2p.config import ComputeSection
from primep2p.kernels.backends import compiled
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.selfcheck import digest
from primep2p.model.ids import Hash
from primep2p.model.records import KERNELS_DIGEST

__all__ = ["BACKENDS", "Check", "Checked", "Choice", "OneThread", "check", "choose", "examine", "preferred"]

BACKENDS = ("numpy", "compiled", "mlx")
"""All there are. The first is always there, and is what a daemon falls back to."""

REPORT = "update it, or tell its makers"

T = TypeVar("T")


class OneThread:
    """The thread that touches MLX, from the first call until `close`."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mlx")

    def __call__(self, function: Callable[[], T], /) -> T:
        return self._pool.submit(function).result()

    def close(self) -> None:
        """Waits for the call under way."""
        self._pool.shutdown()


@dataclass(frozen=True)
class Checked:
    """What came of one backend here."""

    name: str
    backend: Backend | None
    """None where it must not be used."""
    reason: str = ""
    """Why not."""
    fix: str = ""
    """What to do about it."""
    missing: bool = False
    """It is just not installed."""
    digest: Hash = b""
    """What it made of the fixed vectors; empty where it never came to that."""
    seconds: float = 0.0
    """To load it and check it."""


Check = Callable[[str, OneThread], Checked]
"""What becomes of the backend of that name; numpy can always be used, if only to train."""


@dataclass(frozen=True)
class Choice:
    """The backend that is used, and those that would have been had they been here, or right."""

    backend: Backend
    kernels: Hash
    """The digest of its self-check, which a Join tells."""
    passed: tuple[Checked, ...]


def preferred(section: ComputeSection, *, apple_silicon: bool | None = None) -> tuple[str, ...]:
    """The backends that this configuration wants, the best first; `apple_silicon` is that of this machine."""
    if apple_silicon is None:
        apple_silicon = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    wants_mlx = section.backend == "mlx" or (section.backend == "auto" and apple_silicon)
    return (*(["mlx"] if wants_mlx else []), *(["compiled"] if section.compiled else []), "numpy")


def choose(names: Sequence[str], checked: Callable[[str], Checked]) -> Choice:
    """The first of these that may be used; the last of them is numpy, which defines what is right."""
    passed: list[Checked] = []
    for name in names:
        found = checked(name)
        if found.backend is not None:
            return Choice(found.backend, found.digest, tuple(passed))
        passed.append(found)
    raise ValueError(f"none of {names} can be used")


def check(name: str, thread: OneThread) -> Checked:
    """Load a backend and let it show its bytes: 0.1 s, more for one that is compiled first. MLX goes to `thread`."""
    if name in ("numpy", "compiled"):
        return _checked_once(name)
    return examine("mlx", lambda: _mlx(thread), expected=KERNELS_DIGEST)


@cache
def _checked_once(name: str) -> Checked:
    """How this process computes does not change while it lives."""
    if name == "numpy":
        since, backend = time.perf_counter(), Plain()
        return Checked("numpy", backend, digest=digest(backend), seconds=time.perf_counter() - since)
    return examine(name, _compiled, expected=KERNELS_DIGEST)


def examine(name: str, load: Callable[[], Sequence[Backend]], *, expected: Hash) -> Checked:
    """The first of what `load` gives that makes the expected digest."""
    since, found = time.perf_counter(), b""
    try:
        for backend in load():
            found = digest(backend)
            if found == expected:
                return Checked(name, backend, digest=found, seconds=time.perf_counter() - since)
    except _Absent as absent:
        return Checked(name, None, absent.reason, absent.fix, missing=absent.missing)
    except Exception as error:  # of a library that this machine can do without
        return Checked(name, None, f"it fails: {type(error).__name__}: {error}", REPORT)
    return Checked(name, None, "its results differ from the protocol's", REPORT, digest=found)


class _Absent(Exception):
    """There is no such backend here."""

    def __init__(self, reason: str, fix: str = "", *, missing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix
        self.missing = missing


def _compiled() -> Sequence[Backend]:
    _imported("llvmlite.binding", extra="compiled")
    loaded = compiled.load()
    if isinstance(loaded, compiled.Unusable):
        raise _Absent(loaded.reason)
    return [loaded]


def _mlx(thread: OneThread) -> Sequence[Backend]:
    module = thread(lambda: _imported("primep2p.kernels.backends.mlx", extra="mlx"))
    return [module.Mlx(thread, device) for device in thread(module.devices)]


def _imported(name: str, *, extra: str) -> Any:
    """A module of a library, or that imports one, which that extra brings."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        library = (error.name or name).partition(".")[0]
        raise _Absent(
            f"{library} is not installed", f"pip install '.[{extra}]' where primep2p was cloned", missing=True
        ) from error
    except ImportError as error:
        raise _Absent(
            f"it cannot be imported: {error}", f"pip install --force-reinstall '.[{extra}]' where primep2p was cloned"
        ) from error
