"""How fast aggregation is, beside Flower and ByzFL on the same inputs in the same run, and beside what memory can do.

    python benches/kernels.py                                    # ours alone
    .venv-bench/bin/python benches/kernels.py --against flwr,byzfl --json    # make bench-kernels
    python benches/kernels.py --memory                           # 4 GB of mapped updates

A time is the median of five calls, which take turns with those of the peers and with reading 256 MiB. A peer whose
calls would take longer than the budget in all is called less often, and how often stands beside it. `read` is the size
of the input by the time, as a share of the speed at which all cores read memory. BLAS has one thread when we call it,
since ours are our own, and all of them when others do. What peers must have ready (lists, copies where they write to
their input, records of Flower's messages) is made outside of the time.
"""

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from kernel_cases import CODEC_VALUES, NARROW, Bar, Case, bars_of, cases
from kernel_memory import extra_bytes, is_measurable, update_files
from kernel_peers import PEERS, missing, prepare
from rich.console import Console
from rich.table import Table
from threadpoolctl import ThreadpoolController

from primep2p.cli.bench.backends import backends, present
from primep2p.cli.bench.codecs import by_argpartition, codecs
from primep2p.cli.bench.measuring import Memory, Timing, interleaved, together
from primep2p.cli.bench.pipelines import rows_of
from primep2p.config import ComputeSection
from primep2p.kernels.arrays import Matrix, Rows, Separate, Span
from primep2p.kernels.average import any_order_mean, shares_of
from primep2p.kernels.pipeline import aggregate
from primep2p.services.aggregating.compute import Compute

Array = np.ndarray

SCRATCH_BYTES = 64 * 10**6
"""What a rule may take beside inputs and result."""

ANY_ORDER = "any order"
"""Not a backend: the mean of rows in one piece whose sums nobody has to repeat."""

CACHED_BYTES = 16 * 2**20

MEMORY_SIZE = (100, 10_000_000)


@dataclass
class Line:
    """One figure of ours, beside one peer's or alone."""

    case: Case
    backend: str
    ours: Timing
    read_bytes_per_s: float
    peer: str = ""
    theirs: Timing | None = None
    extra_bytes: int | None = None
    bars: list[Bar] = field(default_factory=list)

    @property
    def key(self) -> str:
        parts = [self.case.name, f"{self.case.updates}x{self.case.values}", self.backend, self.peer]
        return "/".join(part for part in parts if part)

    @property
    def share(self) -> float:
        return self.case.input_bytes / self.ours.seconds / self.read_bytes_per_s

    @property
    def gb_s(self) -> float:
        return self.case.input_bytes / self.ours.seconds / 1e9

    @property
    def ratio(self) -> float | None:
        return self.theirs.seconds / self.ours.seconds if self.theirs else None

    def is_met(self, bar: Bar) -> bool:
        return bar.is_met(ms=self.ours.seconds * 1e3, share=self.share, ratio=self.ratio or 0, gb_s=self.gb_s)

    def as_json(self) -> dict[str, float | int | None]:
        return {
            "ours_ms": round(self.ours.seconds * 1e3, 3),
            "peer_ms": round(self.theirs.seconds * 1e3, 3) if self.theirs else None,
            "ratio": round(self.ratio, 2) if self.ratio else None,
            "share_of_read_bandwidth": round(self.share, 4),
            "extra_bytes": self.extra_bytes,
        }


class Blas:
    """How many threads its calls take."""

    def __init__(self) -> None:
        self._controller = ThreadpoolController()

    def take(self, threads: int) -> None:
        for library in self._controller.select(user_api="blas").lib_controllers:
            library.set_num_threads(threads)


class Bench:
    """The measurements of one run."""

    def __init__(self, compute: Compute, backends: Sequence[str], budget_s: float) -> None:
        self._compute = compute
        self._backends = backends
        self.blas = Blas()
        self.blas.take(1)
        self.memory = Memory(compute)
        self._budget_s = budget_s

    def lines(self, case: Case) -> Iterator[Line]:
        """Of each backend, beside each peer that knows the pipeline."""
        rows = rows_of(case.updates, case.values)
        counts = [1 + update % 7 for update in range(case.updates)]
        peers = [peer for peer in case.peers if prepare(peer, case.pipeline, rows[:, :1].copy(), counts)]
        names = [*self._backends, *([ANY_ORDER] if case.name == "fedavg" else [])]
        makers = [self._ours(case, rows, counts, name) for name in names]
        makers += [self._theirs(case, rows, counts, peer) for peer in peers]
        if case.input_bytes > CACHED_BYTES:
            *timings, read = interleaved([*makers, lambda: self.memory.once], budget_s=self._budget_s)
        else:  # what stays in caches is not to be driven out of them between two calls
            timings, (read,) = interleaved(makers, budget_s=self._budget_s), together([self.memory.once])
        ours, theirs = timings[: len(names)], timings[len(names) :]
        for backend, timing in zip(names, ours, strict=True):
            alone = Line(case, backend, timing, self.memory.size_bytes / read.seconds)
            alone.bars = bars_of(case, backend, "")
            if alone.bars or not peers:
                yield alone
            for peer, their_timing in zip(peers, theirs, strict=True):
                yield Line(
                    case,
                    backend,
                    timing,
                    alone.read_bytes_per_s,
                    peer,
                    their_timing,
                    bars=bars_of(case, backend, peer),
                )

    def codec_lines(self, values: int) -> Iterator[Line]:
        """Encoding, beside numpy's argpartition where that finds the same."""
        delta = rows_of(1, values)[0]
        for codec in codecs(delta, self._compute.each):
            peer = "argpartition" if codec.name.startswith("topk") else ""
            calls = [codec.encode, self.memory.once, *([partial(by_argpartition, delta)] if peer else [])]
            ours, read, *theirs = together(calls, budget_s=self._budget_s)
            line = Line(Case(codec.name, None, 1, values, ()), "numpy", ours, self.memory.size_bytes / read.seconds)
            line.peer, line.theirs = peer, theirs[0] if theirs else None
            line.bars = bars_of(line.case, "numpy", peer)
            yield line

    def _ours(self, case: Case, rows: Array, counts: Sequence[int], name: str) -> Callable[[], Callable[[], object]]:
        # Each update is a file of its own in a round; very short ones nobody keeps that way.
        given: Rows = Matrix(rows) if rows.shape == NARROW else Separate([Span(row) for row in rows])
        assert case.pipeline is not None
        out = np.empty(case.values, np.float32)
        if name == ANY_ORDER:
            shares = shares_of(counts, "examples" if case.pipeline.is_weighted else "uniform")
            call = partial(any_order_mean, Matrix(rows), shares, out, each=self._compute.each)
        else:
            call = partial(
                aggregate, case.pipeline, given, counts, out=out, backend=present()[name], each=self._compute.each
            )

        def make() -> Callable[[], object]:
            self.blas.take(1)
            return call

        return make

    def _theirs(self, case: Case, rows: Array, counts: Sequence[int], peer: str) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            self.blas.take(os.cpu_count() or 1)
            call = prepare(peer, case.pipeline, rows, counts)
            assert call is not None
            return call

        return make


def with_memory(lines: Sequence[Line], threads: int) -> None:
    """Adds what each of our calls takes beside its inputs."""
    lines = [line for line in lines if line.case.pipeline and line.backend != ANY_ORDER]
    for size in sorted({(line.case.updates, line.case.values) for line in lines}):
        with update_files(*size) as files:
            found: dict[tuple[str, str], int] = {}
            for line in lines:
                if (line.case.updates, line.case.values) == size:
                    kind = (line.case.name, line.backend)
                    if kind not in found:
                        found[kind] = extra_bytes(line.case.pipeline, line.backend, files, threads)
                    line.extra_bytes = found[kind]


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kernel", "K x D", "backend"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ms", "GB/s", "read", "peer ms", "calls", "ratio", "extra MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("peer", "bar"):
        table.add_column(heading, no_wrap=True)
    for line in lines:
        theirs, extra = line.theirs, line.extra_bytes
        table.add_row(
            line.case.name,
            line.case.size,
            line.backend,
            f"{line.ours.seconds * 1e3:,.2f}",
            f"{line.gb_s:.2f}",
            f"{line.share:.2f}",
            f"{theirs.seconds * 1e3:,.1f}" if theirs else "",
            str(theirs.calls) if theirs else "",
            f"{line.ratio:.1f}" if line.ratio else "",
            "" if extra is None else f"{extra / 1e6:.1f}",
            line.peer,
            ", ".join(f"{bar.text} {'met' if line.is_met(bar) else 'MISSED'}" for bar in line.bars),
        )
    return table


def compare(given: argparse.Namespace, console: Console) -> dict[str, object]:
    """The table beside peers; returns what --json prints."""
    peers = [peer for peer in given.against.split(",") if peer]
    peers += ["flwr-messages"] if "flwr" in peers else []
    for peer in peers:
        if reason := missing(peer):
            print(f"without {peer}: {reason}", file=sys.stderr)
    asked = [peer for peer in peers if not missing(peer)]
    lines: list[Line] = []
    with closing(Compute(ComputeSection(threads=given.threads))) as compute:
        bench = Bench(compute, given.backends, given.budget)
        console.print(f"{given.threads} threads read {bench.memory.bytes_per_s() / 1e9:.1f} GB/s")
        for case in cases(given.k, given.d, asked):
            if given.only and not any(word in case.name for word in given.only):
                continue
            with console.status(f"{case.name} {case.size}"):
                lines += bench.lines(case)
        for line in bench.codec_lines(CODEC_VALUES):
            if not given.only or any(word in line.case.name for word in given.only):
                lines.append(line)
    if is_measurable():
        with console.status("memory"):
            with_memory(lines, given.threads)
    console.print(table_of(lines))
    return {line.key: line.as_json() for line in lines}


def memory(given: argparse.Namespace, console: Console) -> dict[str, object]:
    """What each rule takes beside 4 GB of mapped updates; returns what --json prints."""
    if not is_measurable():
        sys.exit("only Linux tells which memory of a process is anonymous")
    found: dict[str, object] = {}
    updates, values = MEMORY_SIZE
    with console.status("writing the updates") as status, update_files(updates, values) as files:
        for case in cases([updates], values, ()):
            if case.updates != updates or (given.only and not any(word in case.name for word in given.only)):
                continue
            for backend in given.backends:
                status.update(f"{case.name} with {backend}")
                assert case.pipeline is not None
                extra = extra_bytes(case.pipeline, backend, files, given.threads)
                met = "met" if extra <= SCRATCH_BYTES else "MISSED"
                figures = f"{case.name:18} {case.size}  {backend:8} {extra / 1e6:6.1f} MB beside inputs and result"
                console.print(f"{figures}  ≤ {SCRATCH_BYTES // 10**6} MB {met}")
                found["/".join((case.name, backend))] = {"extra_bytes": extra, "input_bytes": case.input_bytes}
    return found


def numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Aggregation beside Flower, ByzFL and the memory's speed.")
    known = ", ".join(peer for peer in PEERS if "-" not in peer)
    parser.add_argument("--against", default="", help=f"peers, with commas between them: {known}")
    parser.add_argument("--k", type=numbers, default=[10, 100], help="numbers of updates, with commas between them")
    parser.add_argument("--d", type=int, default=1_000_000, help="values of an update")
    parser.add_argument(
        "--only", type=lambda words: words.split(","), help="kernels whose names have one of these words"
    )
    parser.add_argument(
        "--backends", type=lambda words: words.split(","), help="ours; else all but MLX, slow off its GPU"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds that all calls of one peer may take")
    parser.add_argument("--memory", action="store_true", help="only memory, of 100 mapped updates of 40 MB")
    parser.add_argument("--json", action="store_true", help="a last line of JSON")
    given = parser.parse_args()
    unknown = [peer for peer in given.against.split(",") if peer and peer not in PEERS]
    if unknown or min([*given.k, given.d, given.threads]) < 1 or min(given.k) < 7:
        parser.error(f"--against takes {known}; --k at least 7; --d and --threads at least 1")
    given.backends = given.backends or [name for name in present() if name != "mlx"]
    if absent := [name for name in given.backends if name not in present()]:
        parser.error("; ".join(f"{name}: {backends().get(name, 'no such backend')}" for name in absent))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else 4 GB of files would stay
    warnings.filterwarnings("ignore")  # of the peers' dependencies
    # The width is for reading later, in a file.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    result = memory(given, console) if given.memory else compare(given, console)
    if given.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
