"""Which backend aggregates, and the threads that share the columns."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest
import trio

from primep2p.config import ComputeSection
from primep2p.kernels.arrays import Array, Block
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.selfcheck import digest
from primep2p.model.errors import PeerError
from primep2p.model.views.events import LogLine
from primep2p.services.aggregating.backends import Checked, OneThread, check, choose, examine, preferred
from primep2p.services.aggregating.compute import Compute

RANGES = [(start, start + 10) for start in range(0, 200, 10)]


class Careless(Plain):
    """Adds in float64, which is more exact and thus wrong."""

    name = "careless"

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        with np.errstate(all="ignore"):
            out[:] = sum(
                row.astype(np.float64) * weight for row, weight in zip(rows, weights.astype(np.float64), strict=True)
            )


def failing() -> list[Plain]:
    raise RuntimeError("no device")


@contextmanager
def opened(section: ComputeSection, told: list[Any] | None = None, **more: Any) -> Iterator[Compute]:
    with closing(Compute(section, trio.to_thread.run_sync, (told if told is not None else []).append, **more)) as made:
        yield made


@pytest.mark.parametrize(
    ("section", "apple_silicon", "names"),
    [
        (ComputeSection(), False, ("compiled", "numpy")),
        (ComputeSection(), True, ("mlx", "compiled", "numpy")),
        (ComputeSection(backend="mlx"), False, ("mlx", "compiled", "numpy")),
        (ComputeSection(backend="numpy"), True, ("compiled", "numpy")),
        (ComputeSection(backend="numpy", compiled=False), True, ("numpy",)),
    ],
)
def test_the_configuration_and_the_machine_say_what_is_tried(section, apple_silicon, names):
    assert preferred(section, apple_silicon=apple_silicon) == names


def test_a_backend_with_other_bytes_is_not_used():
    found = examine("careless", lambda: [Careless()], expected=digest(Plain()))
    assert found.backend is None
    assert found.reason == "its results differ from the protocol's"
    assert len(found.digest) == 32


def test_of_two_devices_the_first_with_the_right_bytes_is_used():
    found = examine("careless", lambda: [Careless(), Plain()], expected=digest(Plain()))
    assert isinstance(found.backend, Plain)
    assert not isinstance(found.backend, Careless)


def test_a_backend_that_fails_is_not_used():
    found = examine("broken", failing, expected=digest(Plain()))
    assert (found.backend, found.reason) == (None, "it fails: RuntimeError: no device")


def test_numpy_is_used_where_nothing_better_is_right():
    checks = {"mlx": Checked("mlx", None, "it fails"), "numpy": check("numpy", OneThread())}
    choice = choose(("mlx", "numpy"), checks.__getitem__)
    assert choice.backend.name == "numpy"
    assert choice.kernels == digest(Plain())
    assert [passed.name for passed in choice.passed] == ["mlx"]


@pytest.mark.parametrize(
    ("backend", "missing", "warnings"),
    [("mlx", False, 1), ("mlx", True, 1), ("auto", False, 1), ("auto", True, 0)],
)
def test_the_owner_hears_once_of_a_backend_that_fails_or_was_asked_for_by_name(backend, missing, warnings):
    told: list[LogLine] = []

    def out_of_order(name: str, thread: OneThread) -> Checked:
        return check(name, thread) if name == "numpy" else Checked(name, None, "it is out of order", missing=missing)

    async def main() -> None:
        with opened(ComputeSection(backend=backend, compiled=backend == "auto"), told, check=out_of_order) as compute:
            for _ in range(2):
                assert (await compute.chosen()).backend.name == compute.name == "numpy"

    trio.run(main)
    assert len(told) == warnings
    assert all(line.level == "warning" and line.sentence.endswith(": it is out of order") for line in told)


def test_mlx_is_used_where_it_is_asked_for():
    pytest.importorskip("mlx.core", exc_type=ImportError)

    async def main() -> None:
        told: list[Any] = []
        with opened(ComputeSection(backend="mlx"), told) as compute:
            choice = await compute.chosen()
            assert (choice.backend.name, choice.kernels, told) == ("mlx", digest(Plain()), [])

    trio.run(main)


def test_results_come_in_the_order_of_the_ranges():
    with opened(ComputeSection(threads=3)) as compute:
        first_may_end = threading.Event()

        def function(start: int, end: int) -> int:
            if start == 0:
                assert first_may_end.wait(10)
            elif start == 20:  # the first three have threads
                first_may_end.set()
            return start + end

        assert list(compute.each(RANGES, function)) == [start + end for start, end in RANGES]


def test_no_more_ranges_are_begun_than_there_are_threads_before_results_are_taken():
    with opened(ComputeSection(threads=2)) as compute:
        begun: list[int] = []
        results = iter(compute.each(RANGES, lambda start, end: begun.append(start)))
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert len(begun) <= 3


def test_what_a_range_raises_reaches_the_caller_when_no_other_range_is_under_way():
    with opened(ComputeSection(threads=2)) as compute:
        second_is_under_way = threading.Event()
        begun: list[int] = []
        over: list[int] = []

        def function(start: int, end: int) -> None:
            if start == 0:
                assert second_is_under_way.wait(10)
                raise PeerError("bad")
            begun.append(start)
            second_is_under_way.set()
            threading.Event().wait(0.05)  # long enough to be seen by a caller that does not wait for it
            over.append(start)

        with pytest.raises(PeerError, match="bad"):
            list(compute.each(RANGES, function))
        assert over == begun


@pytest.mark.parametrize(("threads", "ranges"), [(1, RANGES), (4, RANGES[:1]), (4, [])])
def test_what_cannot_be_shared_stays_in_the_callers_thread(threads, ranges):
    with opened(ComputeSection(threads=threads)) as compute:
        found = set(compute.each(ranges, lambda start, end: threading.get_ident()))
        assert found <= {threading.get_ident()}


BLAS = """
import trio
from contextlib import closing
from threadpoolctl import threadpool_info, threadpool_limits
from primep2p.config import ComputeSection
from primep2p.services.aggregating.compute import Compute

def threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

threadpool_limits(3, user_api="blas")
before = threads()
with closing(Compute(ComputeSection(compiled=False), trio.to_thread.run_sync, print)) as compute:
    trio.run(compute.chosen)
    assert threads() <= {1}, threads()
assert threads() == before, threads()
"""


def test_the_blas_has_one_thread_as_long_as_the_node_computes():
    """In a process of its own: it is a setting of the process, and other tests bring scipy's BLAS into this."""
    subprocess.run([sys.executable, "-c", BLAS], check=True, timeout=60)


def test_threads_that_share_a_backend_get_its_bytes():
    pytest.importorskip("mlx.core", exc_type=ImportError)
    rows = np.random.default_rng(5).standard_normal((7, 2_000), np.float32)
    weights = np.full(7, 0.25, np.float32)
    expected, found = np.empty((2, 2_000), np.float32)
    Plain().weighted_sum(rows, weights, expected)

    async def main() -> None:
        with opened(ComputeSection(backend="mlx", threads=4)) as compute:
            backend = (await compute.chosen()).backend

            def function(start: int, end: int) -> None:
                backend.weighted_sum(rows[:, start:end], weights, found[start:end])

            for _ in compute.each([(low, low + 10) for low in range(0, 2_000, 10)], function):
                pass

    trio.run(main)
    assert found.tobytes() == expected.tobytes()
