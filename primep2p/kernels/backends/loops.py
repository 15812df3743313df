"""The loops of the compiled backend, as LLVM's intermediate representation: for any target, and with the same results
on each, since nothing here allows the compiler to fuse a product into a sum or to change the order of sums.

Every function takes addresses and counts as 64-bit integers and gives nothing. Addresses of rows are a table, so that
rows of a matrix and separate ones are the same here. Vectors are of LANES elements whatever the target has: LLVM cuts
them to its registers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from primep2p.kernels.arrays import BLOCK

__all__ = ["STRIP", "module"]

LANES = 16

CHUNK = BLOCK
"""Columns whose running sums stay in the second-level cache while all rows pass: pieces of rows that fit into the first
level are so short that memory waits at the beginning of each (0.62 of its speed with 2048 columns, 0.85 with these)."""

TOGETHER = 4
"""Rows added in one pass over the running sums, which are loaded and stored so much less often."""

STRIP = 64
"""Columns sorted at a time: 100 rows of them stay in the first-level cache."""

ANY = 1
"""Alignment of what callers give: nothing is promised."""

LINE = 64
"""A cache line, which scratch is aligned to."""

AHEAD_BYTES = 1024
"""So far ahead is fetched what is read in short pieces of many rows, which no CPU follows by itself."""

I32, I64, F32, F64, POINTER = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType(), ir.PointerType()
MANY = ir.VectorType(F32, LANES)

FINITE = ("nnan", "nsz")
"""Smaller and larger of two: neither is NaN, and either of two zeros will do. So each is one instruction anywhere."""


def module(triple: str, layout: str) -> str:
    """A module with the functions `weighted_sum`, `ordered`, `largest` and `rounded`."""
    made = ir.Module()
    made.triple, made.data_layout = triple, layout
    _weighted_sum(made)
    _ordered(made)
    _largest(made)
    _rounded(made)
    return str(made)


class _Body:
    """A function that is being written: its arguments by name, and what its loops are made of."""

    def __init__(self, made: ir.Module, name: str, arguments: str) -> None:
        names = arguments.split()
        function = ir.Function(made, ir.FunctionType(ir.VoidType(), (I64,) * len(names)), name)
        self.at = ir.IRBuilder(function.append_basic_block())
        kind = ir.FunctionType(ir.VoidType(), [POINTER, I32, I32, I32])
        self._prefetch = made.globals.get("llvm.prefetch.p0") or ir.Function(made, kind, "llvm.prefetch.p0")
        self._arguments = dict(zip(names, function.args, strict=True))

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def place(self, base: Any, index: Any, size: int) -> Any:
        """The address base + index * size."""
        return self.at.add(base, self.at.mul(index, I64(size)))

    def load(self, kind: ir.Type, place: Any, align: int) -> Any:
        return self.at.load(self.at.inttoptr(place, POINTER), align=align, typ=kind)

    def store(self, value: Any, place: Any, align: int) -> None:
        self.at.store(value, self.at.inttoptr(place, POINTER), align=align)

    def fetch(self, place: Any) -> None:
        """The cache line with this address, into the second level; any address will do."""
        self.at.call(self._prefetch, [self.at.inttoptr(place, POINTER), I32(0), I32(2), I32(1)])

    def row(self, index: Any) -> Any:
        """The address in the table `rows`."""
        return self.load(I64, self.place(self["rows"], index, 8), 8)

    def spread(self, value: Any) -> Any:
        """A vector of LANES times the same value."""
        none = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        one = self.at.insert_element(none, value, I32(0))
        return self.at.shuffle_vector(one, none, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))

    def least(self, first: Any, second: Any) -> Any:
        return self.at.select(self.at.icmp_signed("<", first, second), first, second)

    @contextmanager
    def loop(self, start: Any, end: Any, step: int = 1, carried: list[Any] | None = None) -> Iterator[Any]:
        """Over start, start + step, ... as long as a whole step fits below `end`. Behind the loop, what it gave is the
        first index that had none. The body may replace what is `carried` from one step to the next and out."""
        before = self.at.block
        head, inside, behind = (self.at.append_basic_block() for _ in range(3))
        self.at.branch(head)
        self.at.position_at_end(head)
        index = self.at.phi(I64)
        values = [self.at.phi(value.type) for value in carried or ()]
        for phi, value in zip(values, carried or (), strict=True):
            phi.add_incoming(value, before)
        if carried is not None:
            carried[:] = values
        following = self.at.add(index, I64(step))
        self.at.cbranch(self.at.icmp_signed("<=", following, end), inside, behind)
        self.at.position_at_end(inside)
        yield index
        index.add_incoming(start, before)
        index.add_incoming(following, self.at.block)
        for phi, value in zip(values, carried or (), strict=True):
            phi.add_incoming(value, self.at.block)
        if carried is not None:
            carried[:] = values
        self.at.branch(head)
        self.at.position_at_end(behind)

    def columns(self, start: Any, end: Any, body: Callable[[Any, int], None], unroll: int = 1) -> None:
        """`body`, told the first column and how many, for vectors of them and then one by one."""
        with self.loop(start, end, LANES * unroll) as column:
            for part in range(unroll):
                body(self.at.add(column, I64(LANES * part)), LANES)
        with self.loop(column, end) as column:
            body(column, 1)


def _weighted_sum(made: ir.Module) -> None:
    """rows: `count` addresses; weights: as many float32; out: `columns` float32."""
    f = _Body(made, "weighted_sum", "rows weights count columns out")

    def add(first: Any, many: int, low: Any, high: Any, *, begins: bool) -> None:
        """Rows first, first + 1, ... of these columns to their running sums, or to nothing where the sum `begins`."""
        indices = [f.at.add(first, I64(i)) for i in range(many)]
        rows = [f.row(index) for index in indices]
        weights = [f.load(F32, f.place(f["weights"], index, 4), 4) for index in indices]
        spread = [f.spread(weight) for weight in weights]

        def body(column: Any, lanes: int) -> None:
            kind, to = MANY if lanes > 1 else F32, f.place(f["out"], column, 4)
            total = None if begins else f.load(kind, to, ANY)
            for row, weight in zip(rows, spread if lanes > 1 else weights, strict=True):
                product = f.at.fmul(f.load(kind, f.place(row, column, 4), ANY), weight)
                total = product if total is None else f.at.fadd(total, product)
            f.store(total, to, ANY)

        f.columns(low, high, body, unroll=2)

    with f.loop(I64(0), f.at.add(f["columns"], I64(CHUNK - 1)), CHUNK) as low:
        high = f.least(f.at.add(low, I64(CHUNK)), f["columns"])
        several = f.at.icmp_signed(">=", f["count"], I64(TOGETHER))
        with f.at.if_else(several) as (then, otherwise):
            with then:
                add(I64(0), TOGETHER, low, high, begins=True)
            with otherwise:
                add(I64(0), 1, low, high, begins=True)
        with f.loop(f.at.select(several, I64(TOGETHER), I64(1)), f["count"], TOGETHER) as row:
            add(row, TOGETHER, low, high, begins=False)
        with f.loop(row, f["count"]) as row:
            add(row, 1, low, high, begins=False)
    f.at.ret_void()


def _ordered(made: ir.Module) -> None:
    """rows: `count` addresses; stages: for each, where its comparators begin in `table` that keep both values, the
    smaller, the larger, and where they end (int64); table: pairs of byte offsets into `scratch` (int32), which holds
    STRIP columns. Then ranks first, first + 1, ..., `wanted` of them, go to `out` in rows `stride` bytes apart; or,
    where `scale` is the address of a float32, one row of their sums from the first on, times that.
    """
    f = _Body(made, "ordered", "rows count columns stages stage_count table scratch first wanted out stride scale")
    smaller, larger = (
        ir.Function(made, ir.FunctionType(MANY, [MANY, MANY]), f"llvm.{name}.v{LANES}f32")
        for name in ("minnum", "maxnum")
    )

    def compare(entry: Any, *, small: bool, large: bool) -> None:
        pair = f.place(f["table"], entry, 8)
        a, b = (f.at.add(f["scratch"], f.at.zext(f.load(I32, f.at.add(pair, I64(4 * i)), 4), I64)) for i in (0, 1))
        for part in range(0, STRIP, LANES):
            to_a, to_b = (f.place(wire, I64(part), 4) for wire in (a, b))
            values = f.load(MANY, to_a, LINE), f.load(MANY, to_b, LINE)
            if small:
                f.store(f.at.call(smaller, values, fastmath=FINITE), to_a, LINE)
            if large:
                f.store(f.at.call(larger, values, fastmath=FINITE), to_b, LINE)

    def copy(source: Any, target: Any, width: Any) -> None:
        def body(column: Any, lanes: int) -> None:
            kind = MANY if lanes > 1 else F32
            f.store(f.load(kind, f.place(source, column, 4), ANY), f.place(target, column, 4), ANY)

        f.columns(I64(0), width, body)

    def finish(low: Any, width: Any) -> None:
        sorted_ = f.place(f["scratch"], f["first"], 4 * STRIP)
        with f.at.if_else(f.at.icmp_signed("==", f["scale"], I64(0))) as (then, otherwise):
            with then, f.loop(I64(0), f["wanted"]) as rank:
                to = f.at.add(f.place(f["out"], low, 4), f.at.mul(rank, f["stride"]))
                copy(f.place(sorted_, rank, 4 * STRIP), to, width)
            with otherwise:
                # The row of sums takes the place of the first rank: that is added to +0.0 before all others.
                zero, scale = ir.Constant(MANY, [0.0] * LANES), f.spread(f.load(F32, f["scale"], 4))
                for part in range(0, STRIP, LANES):
                    sum_ = f.place(sorted_, I64(part), 4)
                    f.store(f.at.fadd(f.load(MANY, sum_, LINE), zero), sum_, LINE)
                with f.loop(I64(1), f["wanted"]) as rank:
                    for part in range(0, STRIP, LANES):
                        sum_ = f.place(sorted_, I64(part), 4)
                        value = f.load(MANY, f.place(sum_, rank, 4 * STRIP), LINE)
                        f.store(f.at.fadd(f.load(MANY, sum_, LINE), value), sum_, LINE)
                for part in range(0, STRIP, LANES):
                    sum_ = f.place(sorted_, I64(part), 4)
                    f.store(f.at.fmul(f.load(MANY, sum_, LINE), scale), sum_, LINE)
                copy(sorted_, f.place(f["out"], low, 4), width)

    with f.loop(I64(0), f.at.add(f["columns"], I64(STRIP - 1)), STRIP) as low:
        width = f.least(I64(STRIP), f.at.sub(f["columns"], low))
        with f.loop(I64(0), f["count"]) as row:
            source = f.place(f.row(row), low, 4)
            for line in range(0, 4 * STRIP, LINE):
                f.fetch(f.at.add(source, I64(AHEAD_BYTES + line)))
            copy(source, f.place(f["scratch"], row, 4 * STRIP), width)
        with f.loop(I64(0), f["stage_count"]) as stage:
            place = f.place(f["stages"], stage, 32)
            both, small, large, end = (f.load(I64, f.at.add(place, I64(8 * i)), 8) for i in range(4))
            with f.loop(both, small) as entry:
                compare(entry, small=True, large=True)
            with f.loop(small, large) as entry:
                compare(entry, small=True, large=False)
            with f.loop(large, end) as entry:
                compare(entry, small=False, large=True)
        finish(low, width)
    f.at.ret_void()


def _largest(made: ir.Module) -> None:
    """out: the largest absolute value of each of `count` rows, float32: bits without the sign are integers in the same
    order."""
    f = _Body(made, "largest", "rows count columns out")
    several = 4  # so many at a time do not wait for each other
    with f.loop(I64(0), f["count"]) as index:
        row = f.row(index)

        def larger(old: Any, column: Any, kind: ir.Type, unsigned: Any) -> Any:
            value = f.at.and_(f.load(kind, f.place(row, column, 4), ANY), unsigned)
            return f.at.select(f.at.icmp_signed(">", value, old), value, old)

        many = ir.VectorType(I32, LANES)
        found = [ir.Constant(many, [0] * LANES)] * several
        unsigned = ir.Constant(many, [0x7FFFFFFF] * LANES)
        with f.loop(I64(0), f["columns"], several * LANES, found) as column:
            found[:] = [
                larger(old, f.at.add(column, I64(LANES * part)), many, unsigned) for part, old in enumerate(found)
            ]
        lanes = [f.at.extract_element(vector, I32(lane)) for vector in found for lane in range(LANES)]
        last = [lanes[0]]
        for lane in lanes[1:]:
            last[0] = f.at.select(f.at.icmp_signed(">", lane, last[0]), lane, last[0])
        with f.loop(column, f["columns"], 1, last) as column:
            last[0] = larger(last[0], column, I32, I32(0x7FFFFFFF))
        f.store(last[0], f.place(f["out"], index, 4), 4)
    f.at.ret_void()


def _rounded(made: ir.Module) -> None:
    """out: rint(row * scale), ties to even, as float64, in rows `stride` bytes apart.

    Adding 1.5 * 2**52 leaves no bits for fractions of anything below 2**51, and rounds as the CPU does: ties to even.
    """
    f = _Body(made, "rounded", "rows scales count columns out stride")
    with f.loop(I64(0), f["count"]) as index:
        row, to = f.row(index), f.at.add(f["out"], f.at.mul(index, f["stride"]))
        scale = f.load(F64, f.place(f["scales"], index, 8), 8)
        spread = f.spread(scale)

        def body(column: Any, lanes: int) -> None:
            kind, wide = (MANY, ir.VectorType(F64, LANES)) if lanes > 1 else (F32, F64)
            shift = ir.Constant(wide, [1.5 * 2**52] * LANES if lanes > 1 else 1.5 * 2**52)
            value = f.at.fpext(f.load(kind, f.place(row, column, 4), ANY), wide)
            scaled = f.at.fmul(value, spread if lanes > 1 else scale)
            f.store(f.at.fsub(f.at.fadd(scaled, shift), shift), f.place(to, column, 8), ANY)

        f.columns(I64(0), f["columns"], body)
    f.at.ret_void()
