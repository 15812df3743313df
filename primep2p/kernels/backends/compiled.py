"""An accelerator that is not required: loops that LLVM compiles for this CPU, where llvmlite is installed.

It gives numpy's bytes (plain.py) at nearly the speed of memory, and runs beside Python's lock, so that threads help.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from primep2p.kernels.arrays import Array, Block
from primep2p.kernels.backends.network import network
from primep2p.kernels.backends.plain import Plain
from primep2p.kernels.backends.seam import Doubles
from primep2p.kernels.backends.straight import MOST_ROWS, code

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Compiled", "Unusable", "load"]

Integers = npt.NDArray[np.int64]

WORTHWHILE = 2**20
"""Columns after which code for exactly these rows and ranks pays: what it saves by then is about what it takes."""

CHECKED = 4096
"""Columns of which new code must give the same as the table before it is used."""

MOST_NETWORKS = 32
"""Kinds of rows and ranks with code of their own, of about 50 KiB each: it is never freed, since it may be running."""

MOST_ORDERED = 512
"""Rows beyond which numpy's sort of each column takes less than a network."""

LINE = 64
"""Bytes of a cache line, which scratch is aligned to."""

Function = Callable[..., None]


@dataclass(frozen=True)
class Unusable:
    """Why there is no compiled backend here."""

    reason: str


@lru_cache(maxsize=4)
def load(*, worthwhile: int = WORTHWHILE) -> Compiled | Unusable:
    """Compile the loops for this CPU: about 0.1 s, once in a process. After so many columns, an order that is wanted
    of them gets code of its own."""
    try:
        # Nobody pays for it who does not aggregate with it.
        from llvmlite import binding

        from primep2p.kernels.backends import loops
    except (ImportError, OSError) as error:
        return Unusable(f"llvmlite cannot be imported ({error}): its extra is `compiled`")
    try:
        return Compiled(Machine(binding), loops.STRIP, loops.module, worthwhile)
    except (RuntimeError, OSError, AttributeError, TypeError) as error:
        return Unusable(f"llvmlite cannot compile here: {error}")


class Machine:
    """LLVM's compiler for this CPU."""

    def __init__(self, binding: ModuleType) -> None:
        self._binding: Any = binding
        self._binding.initialize_native_target()
        self._binding.initialize_native_asmprinter()
        try:
            self._features: str = self._binding.get_host_cpu_features().flatten()
        except RuntimeError:
            self._features = ""  # not every system tells; the CPU's name says nearly as much
        self._engines: list[Any] = []

    @property
    def lanes(self) -> int:
        """Float32 of a vector register."""
        return 16 if "+avx512f" in self._features else 8 if "+avx," in self._features else 4

    def compile(self, text: Callable[..., str], arguments: dict[str, int]) -> list[Function]:
        """The functions of a module, of which each takes so many 64-bit integers. `text` is told triple and layout."""
        target = self._binding.Target.from_default_triple().create_target_machine(
            cpu=self._binding.get_host_cpu_name(), features=self._features, opt=2, jit=True
        )
        module = self._binding.parse_assembly(text(triple=target.triple, layout=str(target.target_data)))
        module.verify()
        engine = self._binding.create_mcjit_compiler(module, target)
        engine.finalize_object()
        self._engines.append(engine)  # the code lives as long as its engine
        return [
            ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(engine.get_function_address(name))
            for name, count in arguments.items()
        ]


@dataclass(frozen=True)
class Order:
    """What is wanted of the sorted columns of so many rows."""

    count: int
    wanted: range
    mean: bool

    @property
    def scale(self) -> Array:
        return np.array([1 / len(self.wanted)], np.float32)


class Compiled:
    """See `Backend`."""

    name = "compiled"

    def __init__(self, machine: Machine, strip: int, loops: Callable[..., str], worthwhile: int) -> None:
        self._machine = machine
        self._plain = Plain()
        self._strip = strip
        self._worthwhile = worthwhile
        arguments = {"weighted_sum": 5, "ordered": 12, "largest": 4, "rounded": 6}
        self._weighted_sum, self._ordered, self._largest, self._rounded = machine.compile(loops, arguments)
        self._seen: dict[Order, int] = {}
        self._claimed: dict[Order, object] = {}
        self._straight: dict[Order, Function] = {}

    @property
    def networks(self) -> int:
        """Orders that have code of their own."""
        return len(self._straight)

    def weighted_sum(self, rows: Block, weights: Array, out: Array) -> None:
        addresses, weights = _addresses(rows), np.ascontiguousarray(weights)
        self._weighted_sum(addresses.ctypes.data, weights.ctypes.data, len(rows), len(out), out.ctypes.data)

    def ranks(self, rows: Block, wanted: range, out: Array) -> None:
        if len(rows) > MOST_ORDERED:
            self._plain.ranks(rows, wanted, out)
        else:
            self._put_in_order(Order(len(rows), wanted, mean=False), rows, out)

    def ranked_mean(self, rows: Block, wanted: range, out: Array) -> None:
        if len(rows) > MOST_ORDERED:
            self._plain.ranked_mean(rows, wanted, out)
        else:
            self._put_in_order(Order(len(rows), wanted, mean=True), rows, out[np.newaxis])

    def largest(self, rows: Block) -> Array:
        out, addresses = np.empty(len(rows), np.float32), _addresses(rows)
        self._largest(addresses.ctypes.data, len(rows), len(rows[0]), out.ctypes.data)
        return out

    def rounded(self, rows: Block, scales: Doubles, out: Doubles) -> None:
        addresses, scales = _addresses(rows), np.ascontiguousarray(scales)
        place = addresses.ctypes.data, scales.ctypes.data, len(rows), out.shape[1]
        self._rounded(*place, out.ctypes.data, out.strides[0])

    def _put_in_order(self, order: Order, rows: Block, out: Array) -> None:
        """out (n, B): by code of its own, if there is some, what fills its vectors; by the table the rest."""
        addresses, columns, straight = _addresses(rows), out.shape[1], self._straight.get(order)
        done = columns - columns % self._machine.lanes if straight else 0
        if straight and done:
            scale = order.scale
            straight(addresses.ctypes.data, done, out.ctypes.data, out.strides[0], scale.ctypes.data)
        if done < columns:
            self._by_table(order, addresses + 4 * done, out[:, done:])
        if straight is None and order.count <= MOST_ROWS:
            self._count(order, addresses, out)

    def _by_table(self, order: Order, addresses: Integers, out: Array) -> None:
        stages, table = _plan(order.count, order.wanted.start, order.wanted.stop, self._strip)
        scratch, scale = _aligned(4 * self._strip * order.count), order.scale
        self._ordered(
            *(addresses.ctypes.data, order.count, out.shape[1]),
            *(stages.ctypes.data, len(stages), table.ctypes.data, scratch.ctypes.data),
            *(order.wanted.start, len(order.wanted), out.ctypes.data, out.strides[0]),
            scale.ctypes.data if order.mean else 0,
        )

    def _count(self, order: Order, addresses: Integers, out: Array) -> None:
        """Once that pays, makes code for `order`, and uses it if it gives what the table gave for these columns. One
        thread does so; the others go on as before."""
        seen = self._seen[order] = self._seen.get(order, 0) + out.shape[1]
        lanes = self._machine.lanes
        checked = min(out.shape[1], CHECKED) // lanes * lanes
        if seen < self._worthwhile or not checked or len(self._claimed) >= MOST_NETWORKS:
            return
        mine = object()
        if self._claimed.setdefault(order, mine) is not mine:
            return
        text = partial(code, order.count, order.wanted, mean=order.mean, lanes=lanes)
        (straight,) = self._machine.compile(text, {"straight": 5})
        result, scale = np.empty((len(out), checked), np.float32), order.scale
        straight(addresses.ctypes.data, checked, result.ctypes.data, result.strides[0], scale.ctypes.data)
        if np.array_equal(result, out[:, :checked]):
            self._straight[order] = straight


@lru_cache(maxsize=64)
def _plan(count: int, first: int, last: int, strip: int) -> tuple[Integers, npt.NDArray[np.int32]]:
    """The network's comparators in stages in which none waits for another, each by what it keeps: both values, the
    smaller, the larger. (stages, 4): where these begin and end; (comparators, 2): byte offsets of wires."""
    depth = [0] * count
    entries: list[tuple[int, int, int, int]] = []
    for low, high, small, large in network(count, first, last):
        stage = max(depth[low], depth[high])
        depth[low] = depth[high] = stage + 1
        entries.append((stage, 0 if small and large else 1 if small else 2, low, high))
    entries.sort()
    kinds = [entry[:2] for entry in entries]
    ends = np.searchsorted([4 * stage + kind for stage, kind in kinds], np.arange(4 * max(depth)))
    wires = np.array([entry[2:] for entry in entries], np.int32).reshape(-1, 2)
    return ends.reshape(-1, 4).astype(np.int64), wires * np.int32(4 * strip)


def _addresses(rows: Sequence[Array] | Array) -> Integers:
    """Where each row begins. Whoever uses them keeps `rows`."""
    if isinstance(rows, np.ndarray):
        return rows.ctypes.data + np.arange(len(rows), dtype=np.int64) * rows.strides[0]
    return np.array([row.ctypes.data for row in rows], np.int64)


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(size + LINE, np.uint8)
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + size]
