"""What a trainer may use of its owner's machine, and what it uses: its process group, measured from outside.

Limits of the system count another thing: RLIMIT_AS counts addresses, of which a framework takes many times what it
touches and macOS knows nothing; RLIMIT_CPU counts from a process's start, and one process at a time. See
docs/adr/017-trainers-are-measured-from-outside.md.
"""

import os
from contextlib import suppress
from dataclasses import dataclass

import psutil

from primep2p.config import TrainerLimits

__all__ = ["LOOK_EVERY_S", "NO_LIMITS", "Usage", "excess", "usage_of"]

LOOK_EVERY_S = 0.25
"""A trainer that takes 1 GiB/s is 256 MiB over when it is noticed; looking takes 1 to 5 ms."""

MIB = 2**20

NO_LIMITS = TrainerLimits()


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of a group: memory now, and processor time since they began, their reaped children's too."""

    memory_bytes: int
    cpu_s: float


def usage_of(group: int) -> Usage:
    """What the processes of a group use; those that end meanwhile count nothing. Pages that several of them share are
    counted in each. Blocks."""
    memory_bytes, cpu_s = 0, 0.0
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(pid) != group:
                continue
            process = psutil.Process(pid)
            with process.oneshot():
                memory_bytes += process.memory_info().rss
                cpu_s += sum(process.cpu_times()[:4])  # user, system, and of its reaped children
    return Usage(memory_bytes, cpu_s)


def excess(used: Usage, before: Usage, limits: TrainerLimits) -> str:
    """What was exceeded, as the end of a sentence that begins with the trainer's name; empty where nothing was."""
    if limits.memory_mib and used.memory_bytes > limits.memory_mib * MIB:
        return (
            f" used {used.memory_bytes // MIB} MiB of memory, and trainer.memory_mib of node.toml allows "
            f"{limits.memory_mib}: raise it, or load less at once"
        )
    cpu_s = used.cpu_s - before.cpu_s
    if limits.cpu_s and cpu_s > limits.cpu_s:
        return (
            f" used {cpu_s:.1f} s of processor time, and trainer.cpu_s of node.toml allows {limits.cpu_s:g}: raise it, "
            "or take fewer steps"
        )
    return ""
