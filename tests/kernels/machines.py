"""Does every BLAS kernel, and every way in which numpy can be built, give one digest?  `make blas`.

Each is a process of its own, told by environment variables what CPU to take itself for: the self-check, a digest of
a larger suite of random rounds, and the tests of bytes and liars.
"""

import os
import subprocess
import sys
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np

from primep2p.kernels.arrays import Matrix
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.geometry import gram
from primep2p.kernels.selfcheck import digest
from primep2p.model.pipeline import Pipeline
from tests.kernels.samples import RULES, STAGES, like_deltas, result_of, wild

BLAS = {
    "Prescott": "sse3",
    "Nehalem": "sse4_2",
    "Sandybridge": "avx",
    "Haswell": "avx2",
    "Zen": "avx2",
    "SkylakeX": "avx512bw",
    "Cooperlake": "avx512_bf16",
    "ARMV8": "asimd",
    "NEOVERSEN1": "asimddp",
}
"""Kernels of OpenBLAS, and what a CPU needs for them."""

TESTS = ["test_bytes.py", "test_liars.py"]


def suite() -> str:
    """The sha-256 of what numpy's backend makes of random rows of several shapes."""
    found = sha256()
    for count, columns in [(11, 1), (12, 4097), (33, 20_000), (100, 3000)]:
        for rows in (like_deltas(count, columns), wild(count, columns)):
            found.update(gram(Matrix(rows), Plain()).tobytes())
            for pipeline in [*map(Pipeline, RULES), *(Pipeline(rule, STAGES[:3]) for rule in RULES)]:
                with np.errstate(all="ignore"):
                    result = result_of(pipeline, rows, [1 + 31 * k % 17 for k in range(count)])
                found.update(np.where(np.isnan(result), np.float32(np.nan), result).tobytes())
    return found.hexdigest()


def blas_in_use() -> str:
    """What OpenBLAS took the CPU for; it falls back silently."""
    from threadpoolctl import threadpool_info

    return ", ".join(f"{one.get('architecture')} {one['num_threads']}" for one in threadpool_info()) or "none"


def settings() -> list[dict[str, str]]:
    flags = cpu_flags()
    kernels = [name for name, need in BLAS.items() if need in flags]
    found = [
        {"OPENBLAS_CORETYPE": name, "OPENBLAS_NUM_THREADS": threads} for name, threads in product(kernels, ("1", "2"))
    ]
    features = dispatched()
    for first in range(len(features)):  # a CPU without a feature has none of those that build on it
        found.append({"NPY_DISABLE_CPU_FEATURES": " ".join(features[first:])})
    return [{}, *found]


def cpu_flags() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    return {
        "sse3" if flag == "pni" else flag
        for line in lines
        if line.startswith(("flags", "Features"))
        for flag in line.split()
    }


def dispatched() -> list[str]:
    """What numpy has code for beyond the least, and this CPU has: the simplest first."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def main() -> int:
    rows = []
    for environment in settings():
        found = run(environment, "-m", "tests.kernels.machines", "one")
        tested = run(environment, "-m", "pytest", "-q", *(f"tests/kernels/{name}" for name in TESTS))
        told = found.stdout.split("|") if found.returncode == 0 else ["failed", found.stderr[-300:], ""]
        last = (tested.stdout.splitlines() or ["no output"])[-1]
        name = " ".join(f"{key}={value!r}" for key, value in environment.items()) or "as it is"
        rows.append((told[1], told[2].strip(), tested.returncode))
        print(f"{name:72} {told[0]:16} {told[1][:12]} {told[2][:12]} {last}", flush=True)
    same = len(set(rows)) == 1 and rows[0][2] == 0
    print("the same bytes everywhere" if same else "NOT the same everywhere")
    return 0 if same else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["one"]:
        print(blas_in_use(), digest(Plain()).hex(), suite(), sep="|")
    else:
        sys.exit(main())
