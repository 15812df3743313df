"""`primep2p bench`: how fast this machine aggregates, beside what its memory can do."""

import os
from importlib import import_module

__all__ = ["bench"]

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def bench(*, json: bool, quick: bool) -> None:
    """The whole command."""
    for name in BLAS_THREADS:  # read when numpy is imported; kernels bring threads of their own
        os.environ.setdefault(name, "1")
    import_module("primep2p.cli.bench.command").bench(json=json, quick=quick)
