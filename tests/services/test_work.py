"""What members name is not what this node owns: nobody deletes a blob here by announcing it as a delta."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from primep2p.config import ComputeSection
from primep2p.core import effects as fx
from primep2p.model.errors import BlobLost, PeerError, StoreError, Unavailable
from primep2p.model.ids import Cid, RunId
from primep2p.model.pipeline import Adam, Pipeline
from primep2p.model.records import RoundPolicy, TensorSpec
from primep2p.services.aggregating.compute import Compute
from primep2p.services.runs.claims import Claims
from primep2p.services.runs.work import Work
from primep2p.store.tensors import write_tensors
from primep2p.wire.cid import cid_of

PARAMS, THEIRS, DELTA, STATE = (cid_of(name) for name in (b"params", b"of another run", b"delta", b"state"))


class Blobs:
    """Which blobs are here, and nothing in them."""

    def __init__(self, *held: Cid) -> None:
        self.held = set(held)
        self.durable: set[Cid] = set()

    def has(self, cid: Cid) -> bool:
        return cid in self.held

    def path(self, cid: Cid) -> Path:
        raise PeerError("it is no file of tensors")

    def verify(self, cid: Cid) -> bool:
        return cid in self.held

    def remove(self, cid: Cid, *, unless_durable: bool = False) -> None:
        if not (unless_durable and cid in self.durable):
            self.held.discard(cid)


def work_with(
    blobs: Blobs,
    events: list[fx.Event],
    residuals: Path = Path("/nowhere"),
    *,
    pipeline: Pipeline | None = None,
    tensors: tuple[TensorSpec, ...] = (),
    fetched_bytes: dict[Cid, int] | None = None,
    run: RunId = bytes(32),
    claims: Claims | None = None,
) -> Work:
    """`fetched_bytes` learns how many bytes each blob was allowed."""

    async def fetch(cid: Cid, providers: object, *, max_bytes: int, **_: object) -> None:
        if cid == THEIRS:
            raise Unavailable("nobody has it")
        if fetched_bytes is not None:
            fetched_bytes[cid] = max_bytes
        blobs.held.add(cid)

    async def send(event: fx.Event) -> None:
        events.append(event)

    seams: Any = SimpleNamespace(
        blobs=blobs,
        transfer=SimpleNamespace(fetch=fetch),
        tell=lambda event: None,
        scratch=Path("/nowhere"),
        claims=claims or Claims(),
        residuals=residuals,
        envelopes=SimpleNamespace(peer_id="me"),
        offload=trio.to_thread.run_sync,
        compute=Compute(ComputeSection(), trio.to_thread.run_sync, lambda event: None),
    )
    spec: Any = SimpleNamespace(
        tensors=tensors, params=cid_of(b"initial"), pipeline=pipeline or Pipeline(), policy=RoundPolicy()
    )
    unused: Any = None
    return Work(run, spec, seams, unused, send, unused)


def obtain(delta: Cid, round: int = 1) -> fx.Obtain:
    return fx.Obtain(round, bytes(32), delta, ())


def aggregate(round: int) -> fx.Aggregate:
    return fx.Aggregate(round, bytes(32), PARAMS, None, (DELTA,), (1,), bytes(32))


def test_a_delta_that_was_fetched_goes_with_its_round() -> None:
    async def main() -> None:
        blobs = Blobs()
        work = work_with(blobs, [])
        await work.obtain(obtain(DELTA))
        assert blobs.held == {DELTA}
        await work.clean(1)
        assert blobs.held == set()

    trio.run(main)


def test_a_delta_of_two_runs_goes_with_the_last_of_them_and_one_of_two_rounds_with_the_later() -> None:
    async def main() -> None:
        blobs, claims = Blobs(), Claims()
        first, second = (work_with(blobs, [], run=bytes([each] * 32), claims=claims) for each in (1, 2))
        await first.obtain(obtain(DELTA, round=1))
        await second.obtain(obtain(DELTA, round=7))  # it is here already
        await first.clean(1)
        assert blobs.held == {DELTA}
        await second.obtain(obtain(DELTA, round=9))
        await second.clean(8)
        assert blobs.held == {DELTA}
        await second.clean(9)
        assert blobs.held == set()

    trio.run(main)


def test_a_blob_that_was_here_before_somebody_called_it_a_delta_stays() -> None:
    async def main() -> None:
        blobs = Blobs(PARAMS, THEIRS)
        work = work_with(blobs, [])
        for cid in (PARAMS, THEIRS):
            await work.obtain(obtain(cid))
        await work.clean(1)
        assert blobs.held == {PARAMS, THEIRS}

    trio.run(main)


@pytest.mark.parametrize("over", ["finished", "parted"])
def test_a_run_that_is_over_for_this_node_leaves_no_residuals(tmp_path: Path, over: str) -> None:
    async def main() -> None:
        work = work_with(Blobs(), [], tmp_path)
        kept = tmp_path / bytes(32).hex() / "current"
        kept.parent.mkdir()
        kept.touch()
        if over == "finished":
            with pytest.raises(PeerError):  # there is nothing to evaluate
                await work.evaluate_last(1, PARAMS)
        else:
            await work.part()
        assert not kept.parent.exists()

    trio.run(main)


def test_params_that_somebody_called_a_delta_before_they_came_stay() -> None:
    async def main() -> None:
        blobs = Blobs()
        work = work_with(blobs, [])
        await work.obtain(obtain(PARAMS))
        await work.hold_params(fx.HoldParams(PARAMS, ()), lambda: True)
        await work.clean(1)
        assert blobs.held == {PARAMS}

    trio.run(main)


def test_params_of_another_run_that_somebody_called_a_delta_before_they_came_stay() -> None:
    async def main() -> None:
        blobs = Blobs()
        work = work_with(blobs, [])
        await work.obtain(obtain(PARAMS))
        blobs.durable.add(PARAMS)  # the other run has aggregated them meanwhile
        await work.clean(1)
        assert blobs.held == {PARAMS}

    trio.run(main)


def test_the_state_that_a_head_names_is_fetched_and_stays_whatever_a_delta_is() -> None:
    async def main() -> None:
        blobs, events = Blobs(), list[fx.Event]()
        work = work_with(blobs, events)
        await work.obtain(obtain(STATE))
        await work.hold_optimiser(fx.HoldOptimiser(STATE, ()), lambda: True)
        await work.clean(1)
        assert blobs.held == {STATE}
        assert events[-1] == fx.OptimiserHeld(STATE)

    trio.run(main)


def test_what_a_head_names_may_be_as_large_as_its_file_is_however_many_tensors_it_has(tmp_path: Path) -> None:
    tensors = tuple(TensorSpec(f"layer{number}.{'w' * 40}", "float32", ()) for number in range(20_000))
    state = tuple(TensorSpec(f"{name}/{each.name}", "float32", ()) for name in ("mean", "square") for each in tensors)
    fetched_bytes: dict[Cid, int] = {}

    async def main() -> None:
        work = work_with(Blobs(), [], pipeline=Pipeline(outer=Adam()), tensors=tensors, fetched_bytes=fetched_bytes)
        await work.hold_params(fx.HoldParams(PARAMS, ()), lambda: True)
        await work.hold_optimiser(fx.HoldOptimiser(STATE, ()), lambda: True)

    trio.run(main)
    for cid, specs in ((PARAMS, tensors), (STATE, state)):
        write_tensors(tmp_path / cid, specs, [np.zeros((), np.float32)] * len(specs))
        assert fetched_bytes[cid] == (tmp_path / cid).stat().st_size


def test_a_state_that_nobody_has_is_asked_for_until_the_head_names_another_one() -> None:
    async def main() -> None:
        events: list[fx.Event] = []
        left = iter((True, True, False))
        await work_with(Blobs(), events).hold_optimiser(fx.HoldOptimiser(THEIRS, ()), lambda: next(left))
        assert events == []

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_certified_params_that_are_no_model_stop_the_run_and_not_the_daemon() -> None:
    async def main() -> None:
        events: list[fx.Event] = []
        work = work_with(Blobs(PARAMS, DELTA), events)
        await work.aggregate(aggregate(2))
        assert events == []

    trio.run(main)


class Damaged(Blobs):
    """Finds its blobs damaged when they are wanted; `aside`: and sets them aside."""

    def __init__(self, *held: Cid, aside: bool) -> None:
        super().__init__(*held)
        self._aside = aside

    def path(self, cid: Cid) -> Path:
        if self._aside:
            self.held.discard(cid)
            raise BlobLost("the bytes are not what they should be")
        raise StoreError("the disk does not answer")


async def test_a_blob_that_is_found_damaged_costs_the_node_its_part_and_not_its_life() -> None:
    events: list[fx.Event] = []
    work = work_with(Damaged(PARAMS, DELTA, aside=True), events)
    await work.aggregate(aggregate(1))
    await work.obtain(obtain(DELTA))
    assert events == [fx.Unobtained(bytes(32))]


async def test_a_disk_that_fails_still_stops_the_daemon() -> None:
    work = work_with(Damaged(PARAMS, DELTA, aside=False), [])
    with pytest.raises(StoreError):
        await work.aggregate(aggregate(1))
