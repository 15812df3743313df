"""`primep2p doctor`: whether this machine can do a member's work, and what is in the way."""

from collections.abc import Callable, Iterator

from primep2p.cli.doctor.clock import clock
from primep2p.cli.doctor.finding import Finding, Scene
from primep2p.cli.doctor.home import disk, files, home
from primep2p.cli.doctor.machine import backends, libraries, limits, numbers, python
from primep2p.cli.doctor.network import bootstrap, ports, reachability
from primep2p.cli.render.printing import print_json
from primep2p.config import NodeConfig
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.client import BlockingClient
from primep2p.model.errors import PrimeError
from primep2p.model.text import printable
from primep2p.model.views.node import NodeStatus

__all__ = ["CHECKS", "Finding", "Scene", "doctor"]

CHECKS: tuple[Callable[[Scene], Iterator[Finding]], ...] = (
    python,
    libraries,
    numbers,
    backends,
    limits,
    home,
    disk,
    files,
    ports,
    bootstrap,
    reachability,
    clock,
)
"""Each looks at one thing. None needs a daemon, and some know more where one runs."""


def doctor(config: NodeConfig, *, json: bool) -> int:
    """Print what all checks find; gives the exit code."""
    scene = Scene(config, _daemon(config))
    faults = 0
    for check in CHECKS:
        for finding in check(scene):
            faults += finding.state == "fault"
            print_json(finding) if json else _show(finding)
    return int(faults > 0)


def _daemon(config: NodeConfig) -> NodeStatus | None:
    """What the daemon of this home says, if one runs."""
    try:
        with BlockingClient(config.home) as client:
            return client.call(DaemonStatus())
    except PrimeError:
        return None


def _show(finding: Finding) -> None:
    print(printable(f"{finding.state:6}{finding.what:18}{finding.said}"), flush=True)
    if finding.fix:
        print(printable(f"{'':24}{finding.fix}"), flush=True)
