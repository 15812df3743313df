"""The measurements of `primep2p bench`, and what it shows meanwhile."""

import platform
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from primep2p import tensor_from_buffer
from primep2p.cli.bench.backends import backends, present
from primep2p.cli.bench.codecs import codecs
from primep2p.cli.bench.figures import (
    Absent,
    Bench,
    CodecFigure,
    Machine,
    PublishedFigure,
    RuleFigure,
    show,
)
from primep2p.cli.bench.measuring import REPEATS, Memory, Timing, timed, together
from primep2p.cli.bench.pipelines import UNIFORM, pipelines, rows_of
from primep2p.cli.render.printing import print_json
from primep2p.config import ComputeSection
from primep2p.kernels.arrays import Array, Matrix, Separate, Span
from primep2p.kernels.backends.seam import Backend
from primep2p.kernels.pipeline import aggregate
from primep2p.model.pipeline import Pipeline, TrimmedMean
from primep2p.services.aggregating.compute import Compute

__all__ = ["bench"]

FEW, MANY = 10, 100

INPUT_BYTES = 40 * 10**6
"""Of each rule: more than caches hold, and with few updates the million values that others are measured with."""

QUICK_BYTES, QUICK_REPEATS = INPUT_BYTES // 10, 1
"""What --quick makes of that."""

CALL_S = 1.0
"""All calls of one kind take at most so long, if one does not: a slow backend is called less often."""

GRADIENTS, GRADIENT_VALUES = 10_000, 100

SLOW = () if platform.system() == "Darwin" else ("mlx",)
"""Ten times slower than numpy where it has no GPU: a few figures say enough."""

PUBLISHED_ON = "Apple M1"
"""On which Prime ML NAPI says that it measured."""

TIMES_IN_ONE = 1000
"""What takes a microsecond is done so often, and its time divided."""


def bench(*, json: bool, quick: bool) -> None:
    """Measures, with progress where somebody watches, and shows what came of it."""
    stream = sys.stderr if json else sys.stdout
    console = Console(file=stream, quiet=json and not stream.isatty(), highlight=False, markup=False, soft_wrap=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    )
    with progress, closing(Compute(ComputeSection())) as compute:
        task = progress.add_task("memory", total=None)
        run = _Run(compute, QUICK_BYTES, QUICK_REPEATS) if quick else _Run(compute, INPUT_BYTES, REPEATS)

        def doing(what: str, total: int) -> None:
            progress.update(task, description=what, total=total, advance=1)

        found = run.all(doing)
    if json:
        print_json(found)
    else:
        show(found, console)


class _Run:
    """The measurements, one after another."""

    def __init__(self, compute: Compute, input_bytes: int, repeats: int) -> None:
        self._compute = compute
        self._repeats = repeats
        self._values = input_bytes // 4
        self._memory = Memory(compute)
        self._backends = present()

    def all(self, doing: Callable[[str, int], None]) -> Bench:
        """`doing` hears of each step and how many there are."""
        kinds = [(count, name, rule) for count in (FEW, MANY) for name, rule in pipelines(count).items()]
        total = len(kinds) + 2
        doing("10,000 gradients", total)
        published = self._published()
        rules: list[RuleFigure] = []
        rows: Array = np.empty((0, 0), np.float32)
        for count, name, pipeline in kinds:
            doing(f"{name}, K = {count}", total)
            rows = rows if len(rows) == count else rows_of(count, self._values // count)
            rules += self._rule(name, pipeline, rows)
        doing("codecs", total)
        return Bench(
            machine=self._machine(),
            published=published,
            published_on=PUBLISHED_ON,
            published_values=GRADIENT_VALUES,
            rules=rules,
            codecs=self._codecs(),
            absent=[Absent(name, why) for name, why in backends().items() if isinstance(why, str)],
        )

    def _machine(self) -> Machine:
        with closing(Compute(ComputeSection(threads=1))) as one:
            alone = Memory(one).bytes_per_s()
        return Machine(
            cpu=_cpu(),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            numpy=np.__version__,
            threads=self._compute.threads,
            read_gb_s=round(self._memory.bytes_per_s() / 1e9, 2),
            read_gb_s_one_thread=round(alone / 1e9, 2),
        )

    def _published(self) -> list[PublishedFigure]:
        rows = rows_of(GRADIENTS, GRADIENT_VALUES)
        buffer, shape = memoryview(rows.tobytes()), rows.shape
        tensor = tensor_from_buffer(buffer, shape, "f32")
        # The fastest that is here: all give the same bytes.
        name = "compiled" if "compiled" in self._backends else "numpy"
        mean, trimmed = (
            self._call(pipeline, Matrix(rows), self._backends[name])
            for pipeline in (Pipeline(UNIFORM), Pipeline(TrimmedMean("0.1")))
        )
        return [
            PublishedFigure("buffer pass", _short_ms(lambda: tensor_from_buffer(buffer, shape, "f32")), 0.01),
            PublishedFigure("FedAvg", 1e3 * timed(mean).seconds, 2.3, name),
            PublishedFigure("trimmed mean", 1e3 * timed(trimmed).seconds, 3.1, name),
            PublishedFigure("reshape", _short_ms(lambda: tensor.reshape((-1,))), 0.005),
        ]

    def _rule(self, name: str, pipeline: Pipeline, rows: Array) -> list[RuleFigure]:
        given = Separate([Span(row) for row in rows])
        names = [each for each in self._backends if each not in SLOW or (len(rows) == FEW and not pipeline.pre)]
        calls = [self._call(pipeline, given, self._backends[each]) for each in names]
        *timings, read = together([*calls, self._memory.once], repeats=self._repeats, budget_s=CALL_S)
        return [
            RuleFigure(
                rule=name,
                updates=len(rows),
                values=rows.shape[1],
                backend=backend,
                ms=timing.seconds * 1e3,
                gb_s=_gb_s(rows.nbytes, timing),
                share_of_read_bandwidth=_gb_s(rows.nbytes, timing) / _gb_s(self._memory.size_bytes, read),
            )
            for backend, timing in zip(names, timings, strict=True)
        ]

    def _call(self, pipeline: Pipeline, rows: Matrix | Separate, backend: Backend) -> Callable[[], object]:
        out, counts = np.empty(rows.shape[1], np.float32), [1 + row % 7 for row in range(rows.shape[0])]
        return lambda: aggregate(pipeline, rows, counts, out=out, backend=backend, each=self._compute.each)

    def _codecs(self) -> list[CodecFigure]:
        values = rows_of(1, self._values)[0]
        found = []
        for codec in codecs(values, self._compute.each):
            encoded, decoded = timed(codec.encode, budget_s=CALL_S), timed(codec.decode, budget_s=CALL_S)
            found.append(
                CodecFigure(
                    codec=codec.name,
                    values=len(values),
                    encode_ms=encoded.seconds * 1e3,
                    encode_gb_s=_gb_s(values.nbytes, encoded),
                    decode_ms=decoded.seconds * 1e3,
                    decode_gb_s=_gb_s(values.nbytes, decoded),
                )
            )
        return found


def _short_ms(call: Callable[[], object]) -> float:
    def calls() -> None:
        for _ in range(TIMES_IN_ONE):
            call()

    return 1e3 * timed(calls).seconds / TIMES_IN_ONE


def _gb_s(size_bytes: int, timing: Timing) -> float:
    return size_bytes / timing.seconds / 1e9


def _cpu() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
