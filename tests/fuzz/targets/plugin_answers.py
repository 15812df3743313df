"""plugin/frames and child: what a trainer's process writes into the daemon's pipe."""

from typing import Any, get_args

import trio
from trio.testing import memory_stream_pair

from primep2p.plugin import frames
from primep2p.plugin.child import Child, Fault
from primep2p.plugin.process import check_metrics
from primep2p.plugin.stopwatch import Stopwatch
from tests.fuzz.declared import samples
from tests.fuzz.kit import virtual
from tests.fuzz.surface import Shape, Surface

ANSWERS = get_args(frames.Answer)


class Ended:
    """The process, of which `Child` asks only how it ended."""

    returncode = 1

    async def wait(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.returncode


def fuzz(data: bytes) -> None:
    """Answers, then one Fault."""
    for answer in virtual(_said, data):
        assert isinstance(answer, ANSWERS)
        again = next(frames.FrameReader().feed(frames.encode(answer)))
        assert frames.encode(frames.decode_answer(again)) == frames.encode(answer)
        if isinstance(answer, frames.Trained | frames.Evaluated):
            try:
                check_metrics(answer.metrics)
            except ValueError:
                continue


async def _said(data: bytes) -> list[frames.Answer]:
    here, there = memory_stream_pair()
    process: Any = Ended()
    pipe: Any = here
    child = Child(process, pipe)
    clock, got = Stopwatch(), list[frames.Answer]()
    await there.send_all(data)
    await there.aclose()
    try:
        while True:
            got.append(await child.answer(1.0, clock.now() + 1.0, clock))
    except Fault:
        return got


def corpus() -> list[bytes]:
    whole = [frames.encode(sample) for type_ in ANSWERS for sample in samples(type_)]
    return [b"".join(whole), *whole, (2**32 - 1).to_bytes(4, "big")]


SURFACE = Surface(fuzz, corpus, Shape(framed=True))
