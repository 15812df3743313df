"""What a daemon runs on: Python, its libraries, backends, and what the system lets a process have."""

import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module, metadata
from typing import Literal

import numpy as np
import psutil
from threadpoolctl import threadpool_info

from primep2p import __version__
from primep2p.cli.doctor.finding import Finding, Scene
from primep2p.cli.render.printing import mib
from primep2p.model.records import KERNELS_DIGEST
from primep2p.services.aggregating.backends import BACKENDS, Check, Checked, OneThread, check, choose, preferred
from primep2p.services.aggregating.compute import cores

__all__ = ["backends", "libraries", "limits", "numbers", "python"]

TRIED = ((3, 11), (3, 12), (3, 13))

LEAST_FILES, WANTED_FILES = 128, 1024
"""A connection, a mapped delta, a database: one each. A shell on macOS allows 256."""

LEAST_MEMORY_BYTES, WANTED_MEMORY_BYTES = 128 * 2**20, 512 * 2**20
"""A daemon alone takes 110 MiB, its trainer with numpy as much again."""


def python(scene: Scene, version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Finding]:
    """What the package runs on, and whether a daemon does."""
    said = f"{__version__}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}"
    if version in TRIED:
        yield Finding(what="primep2p", state="ok", said=said)
    else:
        tried = f"it is tried with Python {'.'.join(map(str, TRIED[0]))} to {'.'.join(map(str, TRIED[-1]))}"
        yield Finding(what="primep2p", state="note", said=f"{said}; {tried}", fix="make a venv with one of these")
    if scene.daemon is not None:
        daemon = scene.daemon
        said = f"version {daemon.version} runs, pid {daemon.pid}, {mib(daemon.rss_bytes)}"
        again = daemon.version != __version__
        fix = "it is of another version: primep2p daemon stop, then start" if again else ""
        yield Finding(what="running", state="note" if again else "ok", said=said, fix=fix)


def libraries(scene: Scene) -> Iterator[Finding]:
    """libp2p is there, and the one version that was tried."""
    wanted = next((line for line in metadata.requires("primep2p") or () if line.startswith("libp2p==")), "libp2p")
    try:
        import_module("libp2p")
    except Exception as error:  # whatever a broken installation raises
        said = f"libp2p cannot be imported: {type(error).__name__}: {error}"
        yield Finding(what="libp2p", state="fault", said=said, fix=f"{sys.executable} -m pip install '{wanted}'")
        return
    found = f"libp2p=={metadata.version('libp2p')}"
    if wanted not in (found, "libp2p"):
        fix = f"{sys.executable} -m pip install '{wanted}'"
        yield Finding(what="libp2p", state="note", said=f"{found}, and {wanted} is what was tried", fix=fix)
    else:
        yield Finding(what="libp2p", state="ok", said=found.removeprefix("libp2p=="))


def limits(scene: Scene) -> Iterator[Finding]:
    """What the system lets a process have: open files and memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(WANTED_FILES, hard) if hard != resource.RLIM_INFINITY else WANTED_FILES
    said = f"{soft:,} at once, of {hard:,} that could be asked for" if hard != soft else f"{soft:,} at once"
    fix = f"ulimit -n {most} before the daemon starts; in a unit of systemd LimitNOFILE={most}"
    state = _state(soft < LEAST_FILES, soft < WANTED_FILES)
    yield Finding(what="open files", state=state, said=said, fix="" if state == "ok" else fix)
    memory = psutil.virtual_memory()
    said = f"{mib(memory.available)} of {mib(memory.total)} are free"
    state = _state(memory.available < LEAST_MEMORY_BYTES, memory.available < WANTED_MEMORY_BYTES)
    fix = (
        "" if state == "ok" else f"end something else: a daemon takes some {mib(WANTED_MEMORY_BYTES)}, its trainer more"
    )
    yield Finding(what="memory", state=state, said=said, fix=fix)


def _state(is_fault: bool, is_note: bool) -> Literal["ok", "note", "fault"]:
    return "fault" if is_fault else "note" if is_note else "ok"


def numbers(scene: Scene) -> Iterator[Finding]:
    """numpy, and what multiplies its matrices: any will do, the sums that go through it are exact."""
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    found = [each for each in threadpool_info() if each["user_api"] == "blas"]
    blas = ", ".join(f"{each['internal_api']} {each['version'] or 'of an unknown version'}" for each in found)
    yield Finding(what="numpy", state="ok", said=f"{np.__version__}, BLAS: {blas or 'one that does not tell its name'}")


def backends(scene: Scene, check: Check = check) -> Iterator[Finding]:
    """What can aggregate here, and what a daemon with this configuration would aggregate with."""
    config = scene.config
    with closing(OneThread()) as thread:
        found = {name: check(name, thread) for name in BACKENDS}
    for checked in found.values():
        yield _backend(checked)
    choice = choose(preferred(config.compute), found.__getitem__)
    used = f"aggregates with {choice.backend.name}, {config.compute.threads or cores()} threads"
    if choice.kernels != KERNELS_DIGEST:
        said = f"{used}; a daemon here trains, and has no vote"
        fix = "no backend has the protocol's results on this machine: " + _reinstall()
        yield Finding(what="daemon", state="fault", said=said, fix=fix)
        return
    over = "".join(f"; not with {passed.name}: {passed.reason}" for passed in choice.passed)
    left = [name for name in BACKENDS[1:] if name not in preferred(config.compute) and found[name].backend is not None]
    unasked = "".join(f"; not with {name}: {_unasked(name)}" for name in left)
    yield Finding(what="daemon", state="ok", said=used + over + unasked)


def _backend(checked: Checked) -> Finding:
    what = f"backend {checked.name}"
    if checked.digest == KERNELS_DIGEST:
        said = f"gives the protocol's results, found out in {checked.seconds * 1000:.0f} ms"
        return Finding(what=what, state="ok", said=said)
    if checked.name == "numpy":
        return Finding(what=what, state="note", said="its results differ from the protocol's", fix=_reinstall())
    return Finding(what=what, state="note", said=checked.reason, fix=checked.fix)


def _unasked(name: str) -> str:
    return "compute.backend does not ask for it" if name == "mlx" else "compute.compiled is false"


def _reinstall() -> str:
    return f"{sys.executable} -m pip install --force-reinstall numpy"
