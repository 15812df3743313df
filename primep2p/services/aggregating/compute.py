"""What computes the certified aggregate on this node: a backend that has shown its bytes, and threads that share the
columns."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import trio
from threadpoolctl import threadpool_limits

from primep2p.config import ComputeSection
from primep2p.kernels.arrays import Range, one_after_another
from primep2p.model.ids import Hash
from primep2p.model.records import KERNELS_DIGEST
from primep2p.model.views.events import AnyEvent, LogLine
from primep2p.model.views.node import OTHER_KERNELS
from primep2p.services.aggregating.backends import Check, Choice, OneThread, check, choose, preferred
from primep2p.tasks import Offload

__all__ = ["Compute", "cores"]

T = TypeVar("T")


class Compute:
    """The owner of the threads; whoever made it closes it, after the last aggregate. Threads start with their first
    work: a node whose models are small never has them."""

    def __init__(
        self,
        section: ComputeSection,
        offload: Offload = trio.to_thread.run_sync,
        tell: Callable[[AnyEvent], None] = lambda event: None,
        check: Check = check,
    ) -> None:
        self.threads = section.threads or cores()
        self._section = section
        self._offload = offload
        self._tell = tell
        self._check = check
        self._choosing = trio.Lock()
        self._mlx = OneThread()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="compute")
        self._limits: threadpool_limits | None = None
        self._choice: Choice | None = None

    @property
    def name(self) -> str:
        """Of the backend; empty until it is chosen."""
        return self._choice.backend.name if self._choice else ""

    @property
    def kernels(self) -> Hash:
        """The digest of its self-check; that of the protocol until it is known."""
        return self._choice.kernels if self._choice else KERNELS_DIGEST

    async def chosen(self) -> Choice:
        """The backend of this node, checked when it is first asked for; tells its owner of one that failed."""
        async with self._choosing:
            if self._choice is None:
                self._limit_blas()
                self._choice = await self._offload(self.choose)
                self._tell_of_failures(self._choice)
        return self._choice

    def choose(self) -> Choice:
        """The same without a word to anybody, for callers that block."""
        self._limit_blas()
        return choose(preferred(self._section), lambda name: self._check(name, self._mlx))

    def _limit_blas(self) -> None:
        """The columns are shared out here: threads of the BLAS's own would only fight with these for the cores. For the
        thread that will close: threadpoolctl lets no other one take the limit back."""
        if self._limits is None:
            self._limits = threadpool_limits(limits=1, user_api="blas")

    def _tell_of_failures(self, choice: Choice) -> None:
        if choice.kernels != KERNELS_DIGEST:
            self._tell(LogLine(level="warning", sentence=OTHER_KERNELS))
        for passed in choice.passed:
            if passed.missing and passed.name != self._section.backend:
                continue  # nobody asked for it by its name
            said = f"the certified aggregate is computed with {choice.backend.name}, not with {passed.name}"
            self._tell(LogLine(level="warning", sentence=f"{said}: {passed.reason}"))

    def each(self, ranges: Sequence[Range], function: Callable[[int, int], T], /) -> Iterable[T]:
        """An `Each` on the node's threads. For a worker thread, never for one of these; the ranges under way are over
        when this raises or is closed."""
        if min(self.threads, len(ranges)) < 2:
            return one_after_another(ranges, function)
        return self._in_threads(ranges, function)

    def _in_threads(self, ranges: Sequence[Range], function: Callable[[int, int], T]) -> Iterator[T]:
        left = iter(ranges)
        under_way: deque[Future[T]] = deque()

        def begin(count: int) -> None:
            under_way.extend(self._pool.submit(function, start, end) for start, end in islice(left, count))

        try:
            begin(self.threads)
            while under_way:
                found = under_way.popleft().result()
                begin(1)
                yield found
        finally:
            for future in under_way:
                future.cancel()
            wait(under_way)  # nobody may write to the caller's arrays behind its back

    def close(self) -> None:
        """Ends the threads, which must be idle."""
        self._pool.shutdown()
        self._mlx.close()
        if self._limits is not None:
            self._limits.restore_original_limits()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
