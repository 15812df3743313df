"""What a rule takes beside its mapped inputs and its result: a process of its own, watched from outside.

    python benches/kernel_memory.py < a job as JSON, then a line that lets it begin

Counted is anonymous memory, whoever allocates it: numpy, a library below it, a thread's stack. Pages of mapped files
are not among it. The watcher looks about once a millisecond; what lives shorter than that may escape it.
"""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from primep2p.model.pipeline import Pipeline

__all__ = ["extra_bytes", "is_measurable", "update_files"]

LOOKS_S = 0.0005

WARMED_COLUMNS = 4096
"""A first call on so many columns loads and compiles what is loaded and compiled once."""

STATUS = Path("/proc/self/status")


class Job(msgspec.Struct, frozen=True):
    pipeline: Pipeline
    backend: str
    files: list[str]
    threads: int


def is_measurable() -> bool:
    """Whether the kernel tells what is anonymous: Linux does."""
    return STATUS.exists() and "RssAnon" in STATUS.read_text()


@contextmanager
def update_files(updates: int, values: int) -> Iterator[list[Path]]:
    """So many updates in a file each, for as long as the context lasts."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="primep2p-bench-") as base:
        free = os.statvfs(base).f_bavail * os.statvfs(base).f_frsize
        if free < 5 * updates * values:
            sys.exit(f"{4 * updates * values / 1e9:.1f} GB of updates do not fit into {base}: set TMPDIR")
        draws = np.random.default_rng(1)
        files = [Path(base) / f"{update}.f32" for update in range(updates)]
        for file in files:
            draws.standard_normal(values, np.float32).tofile(file)
        yield files


def extra_bytes(pipeline: Pipeline, backend: str, files: Sequence[Path], threads: int) -> int:
    """Peak anonymous memory of one call, above what was there before it, less the result."""
    job = Job(pipeline, backend, [str(file) for file in files], threads)
    child = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        try:
            child.stdin.write(msgspec.json.encode(job).decode() + "\n")
            child.stdin.flush()
            if child.stdout.readline() != "ready\n":
                raise RuntimeError(f"{pipeline} failed; its error is above")
            before = peak = _anonymous_bytes(child.pid)
            child.stdin.write("go\n")
            child.stdin.flush()
            while not select.select([child.stdout], [], [], LOOKS_S)[0]:
                peak = max(peak, _anonymous_bytes(child.pid))
            peak = max(peak, _anonymous_bytes(child.pid))  # it still has its result, and waits
            if child.stdout.readline() != "done\n":
                raise RuntimeError(f"{pipeline} failed; its error is above")
        finally:
            child.stdin.close()
    return max(0, peak - before - files[0].stat().st_size)


def _anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0


def _child() -> None:
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)

    import numpy as np

    from primep2p.cli.bench.backends import present
    from primep2p.config import ComputeSection
    from primep2p.kernels.arrays import Separate, Span
    from primep2p.kernels.pipeline import aggregate
    from primep2p.services.aggregating.compute import Compute

    mapped = [np.asarray(np.memmap(file, np.float32, "r")) for file in job.files]
    counts, backend = [1 + update % 7 for update in range(len(mapped))], present()[job.backend]
    with closing(Compute(ComputeSection(threads=job.threads))) as compute:
        few = [row[:WARMED_COLUMNS] for row in mapped]
        for rows in (few, mapped):
            if rows is mapped:
                print("ready", flush=True)
                sys.stdin.readline()
            out = np.empty(len(rows[0]), np.float32)
            aggregate(
                job.pipeline, Separate([Span(row) for row in rows]), counts, out=out, backend=backend, each=compute.each
            )
    print("done", flush=True)
    sys.stdin.read()  # the result is counted: it must still be there


if __name__ == "__main__":
    _child()
