"""Sorting networks as straight-line code for LLVM: a vector of each row, all comparators, and what is wanted.

The compiler keeps what it can in registers, which a loop over a table of comparators cannot. It takes about 0.2 ms a
comparator, so this is for shapes that are met again.
"""

from collections.abc import Iterator, Sequence

from primep2p.kernels.backends.network import Comparator, network

__all__ = ["MOST_ROWS", "code"]

AHEAD_BYTES = 1024
"""Rows are read a cache line at a time, one row after another: more streams than a CPU follows by itself. So each is
fetched into the second-level cache so far ahead."""

MOST_ROWS = 128
"""Beyond, the compiler takes seconds."""


def code(count: int, wanted: range, *, mean: bool, lanes: int, triple: str, layout: str) -> str:
    """A module with the function `straight(rows, columns, out, stride, scale)`, as `ordered` in loops.py, for as many
    rows. `columns` is a multiple of `lanes`, and at least that."""
    head = [f'target triple = "{triple}"', f'target datalayout = "{layout}"']
    return "\n".join([*head, *_lines(count, wanted, mean, lanes)])


def _lines(count: int, wanted: range, mean: bool, lanes: int) -> Iterator[str]:
    many = f"<{lanes} x float>"
    yield f"declare {many} @llvm.minnum.v{lanes}f32({many}, {many})"
    yield "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    yield f"declare {many} @llvm.maxnum.v{lanes}f32({many}, {many})"
    yield "define void @straight(ptr %rows, i64 %columns, ptr noalias %out, i64 %stride, ptr %scale) {"
    yield "entry:"
    if mean:
        yield "%factor = load float, ptr %scale, align 4"
        yield f"%one = insertelement {many} zeroinitializer, float %factor, i32 0"
        yield f"%factors = shufflevector {many} %one, {many} zeroinitializer, <{lanes} x i32> zeroinitializer"
    yield "br label %loop"
    yield "loop:"
    yield "%column = phi i64 [0, %entry], [%following, %loop]"
    for row in range(count):
        yield f"%table{row} = getelementptr ptr, ptr %rows, i64 {row}"
        yield f"%row{row} = load ptr, ptr %table{row}, align 8"
        yield f"%from{row} = getelementptr float, ptr %row{row}, i64 %column"
        yield f"%value{row} = load {many}, ptr %from{row}, align 1"
        yield f"%ahead{row} = getelementptr i8, ptr %from{row}, i64 {AHEAD_BYTES}"
        yield f"call void @llvm.prefetch.p0(ptr %ahead{row}, i32 0, i32 2, i32 1)"
    yield from _sorted(count, wanted, mean, many)
    yield f"%following = add i64 %column, {lanes}"
    yield "%goes_on = icmp slt i64 %following, %columns"
    yield "br i1 %goes_on, label %loop, label %end"
    yield "end:"
    yield "ret void"
    yield "}"


def _sorted(count: int, wanted: range, mean: bool, many: str) -> Iterator[str]:
    """Comparators, and results where they are ready: what a result needs stands before it and no sooner."""
    comparators = network(count, wanted.start, wanted.stop)
    wires = [f"%value{row}" for row in range(count)]
    total = "zeroinitializer"
    for rank, steps in zip(wanted, _by_need(comparators, wanted), strict=True):
        for step in steps:
            low, high, small, large = comparators[step]
            pair = f"({many} {wires[low]}, {many} {wires[high]})"
            kind = many[1:].split()[0]
            if small:
                yield f"%small{step} = call nnan nsz {many} @llvm.minnum.v{kind}f32{pair}"
            if large:
                yield f"%large{step} = call nnan nsz {many} @llvm.maxnum.v{kind}f32{pair}"
            wires[low], wires[high] = f"%small{step}", f"%large{step}"
        if mean:
            yield f"%sum{rank} = fadd {many} {total}, {wires[rank]}"
            total = f"%sum{rank}"
        else:
            yield from _stored(wires[rank], rank - wanted.start, many)
    if mean:
        yield f"%mean = fmul {many} {total}, %factors"
        yield from _stored("%mean", 0, many)


def _stored(value: str, row: int, many: str) -> Iterator[str]:
    yield f"%offset{row} = mul i64 %stride, {row}"
    yield f"%result{row} = getelementptr i8, ptr %out, i64 %offset{row}"
    yield f"%to{row} = getelementptr float, ptr %result{row}, i64 %column"
    yield f"store {many} {value}, ptr %to{row}, align 1"


def _by_need(comparators: Sequence[Comparator], wanted: range) -> Iterator[list[int]]:
    """For each wanted rank, the comparators that it depends on and none before it does, in an order that works: depth
    first, so that what is put in order is used soon."""
    writer: dict[int, int] = {}
    needs: list[list[int]] = []
    for step, (low, high, _, _) in enumerate(comparators):
        needs.append([writer[wire] for wire in (low, high) if wire in writer])
        writer[low] = writer[high] = step
    done: set[int] = set()
    for rank in wanted:
        steps: list[int] = []
        waiting = [writer[rank]] if rank in writer else []
        while waiting:
            step = waiting[-1]
            missing = [need for need in needs[step] if need not in done]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if step not in done:
                done.add(step)
                steps.append(step)
        yield steps
