"""The clock of this machine, and what depends on it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import primep2p
from primep2p.cli.doctor.finding import Finding, Scene
from primep2p.cli.render.printing import duration

__all__ = ["clock"]

DAY_S = 86_400.0

SLACK_S = 60.0
"""A file system's clock may be another machine's, a little off."""

LAST_YEAR = 2100


def clock(scene: Scene, now_s: float | None = None) -> Iterator[Finding]:
    """Whether it can be right. Nobody is asked: peers tell no time, and agreement needs none."""
    now_s = time.time() if now_s is None else now_s
    now = datetime.fromtimestamp(now_s, UTC)
    installed_s = Path(primep2p.__file__).stat().st_mtime
    newest_s = max((file.stat().st_mtime for file in _kept(scene.config.home) if file.exists()), default=0.0)
    told = f"{now:%Y-%m-%d %H:%M} UTC"
    fix = "set it, for example by NTP: timedatectl set-ntp true, or in the system settings of macOS"
    if now_s < installed_s - DAY_S or now.year >= LAST_YEAR:
        said = f"{told} cannot be: this package is of {datetime.fromtimestamp(installed_s, UTC):%Y-%m-%d}"
        yield Finding(what="clock", state="fault", said=said, fix=fix)
    elif now_s < newest_s - SLACK_S:
        said = f"{told}, and files of this home are {duration(newest_s - now_s)} younger: it was set back, or was wrong"
        yield Finding(what="clock", state="note", said=said, fix=fix)
    else:
        said = f"{told}; agreement needs no clock, a run that ends at a time and the directory's records do"
        yield Finding(what="clock", state="ok", said=said)


def _kept(home: Path) -> tuple[Path, ...]:
    return home / "store.db", home / "daemon.log"
