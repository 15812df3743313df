"""`primep2p doctor`: whether this machine can do a member's work, found out without a daemon."""

import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

import msgspec
import numpy as np
from threadpoolctl import threadpool_info

from primep2p import __version__
from primep2p.cli.render.printing import print_json
from primep2p.config import NodeConfig
from primep2p.model.records import KERNELS_DIGEST
from primep2p.model.text import printable
from primep2p.services.backends import BACKENDS, Check, Checked, OneThread, check, choose, preferred
from primep2p.services.compute import cores

__all__ = ["CHECKS", "Finding", "doctor"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A line. Only with a `fault` the daemon cannot certify."""

    what: str
    state: Literal["ok", "note", "fault"]
    said: str
    fix: str = ""


def doctor(config: NodeConfig, *, json: bool) -> int:
    """Print what all checks find; gives the exit code."""
    findings = [finding for one in CHECKS for finding in one(config)]
    for finding in findings:
        print_json(finding) if json else _show(finding)
    return int(any(finding.state == "fault" for finding in findings))


def _show(finding: Finding) -> None:
    print(printable(f"{finding.state:6}{finding.what:18}{finding.said}"))
    if finding.fix:
        print(printable(f"{'':24}{finding.fix}"), flush=True)


def python(config: NodeConfig) -> Iterator[Finding]:
    """What the package runs on."""
    machine = f"{platform.system()} on {platform.machine()}"
    yield Finding(what="primep2p", state="ok", said=f"{__version__}, Python {platform.python_version()}, {machine}")


def numbers(config: NodeConfig) -> Iterator[Finding]:
    """numpy, and what multiplies its matrices: any will do, the sums that go through it are exact."""
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    found = [each for each in threadpool_info() if each["user_api"] == "blas"]
    blas = ", ".join(f"{each['internal_api']} {each['version'] or 'of an unknown version'}" for each in found)
    yield Finding(what="numpy", state="ok", said=f"{np.__version__}, BLAS: {blas or 'one that does not tell its name'}")


def backends(config: NodeConfig, check: Check = check) -> Iterator[Finding]:
    """What can aggregate here, and what a daemon with this configuration would aggregate with."""
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


CHECKS: tuple[Callable[[NodeConfig], Iterator[Finding]], ...] = (python, numbers, backends)
"""Each looks at one thing, and needs no daemon."""
