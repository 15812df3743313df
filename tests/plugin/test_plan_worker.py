"""Plans in the process that runs them: a graph that crashes, hangs or lies costs that, and the daemon nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import msgspec
import numpy as np
import pytest
import trio

from primep2p.model.errors import PluginError
from primep2p.plugin.discovery import PLAN_FILE
from primep2p.plugin.process import Worker
from primep2p.wire.codec import encode
from primep2p.wire.plans import PlanFile, open_plan, read_plan
from tests.plugin.test_plan import EXAMPLE
from tests.wire.graphs import BATCH as POINTS
from tests.wire.graphs import GRAPHS, OWNER, SCALAR, SUM, WEIGHT, graph, node, sealed

pytestmark = pytest.mark.alone

RUN_FLIPS = 5
"""Flipped graphs that this package reads, and MLX then computes with: each may take a process down."""


@pytest.fixture(scope="module")
def digits() -> bytes:
    """The example's plan."""
    if "CI" not in os.environ:
        pytest.importorskip("mlx.core", reason="MLX has no wheels for this machine", exc_type=ImportError)
    from primep2p.cli.offline.planning import loaded
    from primep2p.trainers.tracing import trace
    from primep2p.wire.plans import seal_plan

    made = trace(loaded(EXAMPLE, "Digits"), name="digits", owner=OWNER.peer_id)
    return seal_plan(made.plan, made.graphs, OWNER)


@asynccontextmanager
async def working(raw: bytes, directory: Path) -> AsyncIterator[Worker]:
    """A worker that runs the plan in `raw`, on a few digits that are none."""
    random = np.random.default_rng(1)
    data = directory / "data.npz"
    np.savez(data, x=random.random((40, 64), np.float32), y=random.integers(0, 10, 40))

    def furnish(scratch: Path) -> None:
        (scratch / PLAN_FILE).write_bytes(raw)

    worker = Worker(
        "plan:test", plugins={}, config={}, data=data, directory=directory / "run", silent_s=20, furnish=furnish
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        yield worker
        nursery.cancel_scope.cancel()


def with_train(raw: bytes, train: bytes) -> bytes:
    """The same plan with another graph to train, signed anew: what an owner of bad will could give out."""
    opened = open_plan(raw, OWNER)
    graphs = tuple(train if kind == "train" else each for kind, each in opened.raw.items())
    refs = tuple(
        msgspec.structs.replace(ref, size_bytes=len(each), sha256=sha256(each).digest())
        for ref, each in zip(opened.record.graphs, graphs, strict=True)
    )
    return encode(PlanFile(OWNER.seal(msgspec.structs.replace(opened.record, graphs=refs)).raw, graphs))


async def test_a_plan_trains_in_a_process_of_its_own(digits: bytes, tmp_path: Path) -> None:
    async with working(digits, tmp_path) as worker:
        first = await worker.init(1)
        assert [(each.name, each.shape) for each in first.tensors][:2] == [("hidden", (64, 64)), ("hidden_bias", (64,))]
        trained = await worker.train(1, 1, first.params, deadline_s=60)
        assert trained.examples == 36
        assert (await worker.evaluate(1, 1, first.params)).keys() == {"accuracy", "loss"}


async def test_a_plan_that_must_not_run_is_refused_in_the_process_too(digits: bytes, tmp_path: Path) -> None:
    kernel = graph([WEIGHT, POINTS, SCALAR], [3, 4], [node(3, "CustomKernel", [0], b"", WEIGHT), SUM])
    for raw, said in (
        (sealed({**GRAPHS, "train": kernel}), "uses 'CustomKernel', which no plan may"),
        (digits[:-1], "no plan, or a damaged one"),
    ):
        async with working(raw, tmp_path) as worker:
            with pytest.raises(PluginError, match=said):
                await worker.init(1)


async def test_flipped_bits_in_a_graph_are_refused_or_cost_the_process(digits: bytes, tmp_path: Path) -> None:
    """Dozens are refused when they are read; of those that are not, some go as far as they get in MLX."""
    random, train = Random(1), open_plan(digits, OWNER).raw["train"]
    async with working(digits, tmp_path) as worker:
        params = (await worker.init(1)).params
        refused, readable = 0, []
        while refused < 50 or len(readable) < RUN_FLIPS:
            bit = random.randrange(8 * len(train))
            raw = with_train(
                digits, train[: bit // 8] + bytes([train[bit // 8] ^ 1 << bit % 8]) + train[bit // 8 + 1 :]
            )
            try:
                read_plan(raw)
            except PluginError:
                refused += 1
            else:
                readable.append(raw)
        for raw in readable[:RUN_FLIPS]:
            async with working(raw, Path(mkdtemp(dir=tmp_path))) as other:
                with suppress(PluginError):  # anything else would be the daemon's own failure
                    await other.train(1, 1, params, deadline_s=20)
        assert (await worker.train(1, 1, params, deadline_s=60)).examples == 36, "another run's plan goes on"
