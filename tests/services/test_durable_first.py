"""What a run sends is on its disk before; and a disk that fails at any write stops the run there, to go on from what is
durable. One member of a run of one, so that all of a round stands in one batch of effects, on a real store."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from primep2p.config import ComputeSection, TrainWhenSection
from primep2p.core import effects as fx
from primep2p.core.admission import join_of
from primep2p.core.chain import header_hash
from primep2p.core.pen import entry_of
from primep2p.core.votes import slot_of
from primep2p.model.errors import StoreError
from primep2p.model.ids import Hash
from primep2p.model.journal import Moved, Signed
from primep2p.model.messages import OverlayMessage
from primep2p.model.records import Header, Join, RoundPolicy, Vote
from primep2p.plugin.process import Trained
from primep2p.services.aggregating.compute import Compute
from primep2p.services.runs.rounds import RunService
from primep2p.services.seams import Seams
from primep2p.services.training.machine import LocalMachine
from primep2p.services.training.resting import Resting
from primep2p.store.db import Store, open_store
from primep2p.store.seam import RunRow, StoredCheckpoint
from primep2p.store.tensors import write_tensors
from primep2p.tasks import TaskStatus
from primep2p.wire.codec import decode
from tests.core.kit import KERNELS, member, records_in, run_spec

T = TypeVar("T")
ROUNDS = 2
ME = member(0)
TENSORS = run_spec().record.tensors


class Cut(StoreError):
    """The power went."""


class Runs:
    """The store's runs, with a power cut before or after one of its writes."""

    def __init__(self, store: Store, cut_at: int, *, after: bool) -> None:
        self._runs = store.runs
        self._cut_at, self._after = cut_at, after
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)

    def append(self, run: Hash, round: int, entries: list[bytes]) -> None:
        self._write(lambda: self._runs.append(run, round, entries))

    def commit(self, run: Hash, round: int, stored: StoredCheckpoint) -> None:
        self._write(lambda: self._runs.commit(run, round, stored))

    def _write(self, write: Callable[[], None]) -> None:
        self.writes += 1
        if self.writes == self._cut_at and not self._after:
            raise Cut("before a write")
        write()
        if self.writes == self._cut_at:
            raise Cut("after a write")


class World:
    """One home, and what left it in all lives of its node."""

    def __init__(self, home: Path, service: type[RunService] = RunService) -> None:
        self.home = home
        self._service = service
        initial = home / "initial.safetensors"
        write_tensors(initial, TENSORS, [np.zeros(2, np.float32)])
        store = open_store(home)
        params = store.blobs.add(initial, durable=True)
        policy = RoundPolicy(rounds=ROUNDS, first_members=1, min_updates=1)
        spec = run_spec(policy=policy).record
        self.spec = ME.seal(msgspec.structs.replace(spec, params=params))
        join = join_of(ME, self.spec, round=0, addresses=(), kernels=KERNELS)
        self.row = RunRow(self.spec.hash, self.spec.raw, join.raw, None, 0)
        store.close()
        self.slots: dict[object, Hash] = {}
        self.sent: list[str] = []
        self.lives = 0

    def check(self, store: Store, message: OverlayMessage) -> None:
        """Every record of this node's own that leaves is in the journal, with what it rests on."""
        for raw in records_in(message):
            opened = ME.open_any(raw)
            if isinstance(opened.record, Join):
                continue
            slot = slot_of(opened.record)
            assert self.slots.setdefault(slot, opened.hash) == opened.hash
            round: int = opened.record.round  # type: ignore[attr-defined]
            entries = [entry_of(entry) for entry in store.runs.entries(self.spec.hash, round)]
            assert any(isinstance(entry, Signed) and entry.envelope == raw for entry in entries)
            if isinstance(opened.record, Vote) and opened.record.step == "precommit" and round > 0:
                proofs = {header_hash(entry.header) for entry in entries if isinstance(entry, Moved)}
                assert opened.record.header in proofs
            self.sent.append(type(opened.record).__name__)

    def live(self, cut_at: int = 0, *, after: bool = False) -> int:
        """One life: to the end of the run or to the power cut. Returns the number of writes; 0 where it was cut."""
        self.lives += 1
        store = open_store(self.home)
        runs, is_cut = Runs(store, cut_at, after=after), False
        try:
            trio.run(self._main, store, runs, clock=MockClock(autojump_threshold=0))
        except* Cut:
            is_cut = True
        finally:
            store.close()
        return 0 if is_cut else runs.writes

    async def _main(self, store: Store, runs: Runs) -> None:
        service = self._service(self.row, self.spec, self._seams(store, runs), lambda report: Trainer(self))
        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                await nursery.start(service.run)
                while service.head is None or not service.head.is_last:
                    await service.head_changed()
                nursery.cancel_scope.cancel()

    def _seams(self, store: Store, runs: Runs) -> Seams:
        async def offload(function: Callable[..., T], /, *arguments: Any) -> T:
            await trio.lowlevel.checkpoint()
            return function(*arguments)

        async def nothing(*_: object, **__: object) -> None:
            return

        @asynccontextmanager
        async def silence(_: str) -> AsyncIterator[AsyncIterator[object]]:
            send, receive = trio.open_memory_channel[object](0)
            async with send, receive:
                yield receive

        overlay: Any = SimpleNamespace(
            attach=nothing,
            want=lambda *_: None,
            know=lambda *_: None,
            end_conversation=lambda _: None,
            send=lambda peers, message: self.check(store, message),
        )
        host: Any = SimpleNamespace(subscribe=silence, publish=nothing, connected=frozenset())
        unused: Any = None
        return Seams(
            envelopes=ME,
            host=host,
            blobs=store.blobs,
            runs=runs,  # type: ignore[arg-type]
            overlay=overlay,
            book=unused,
            sync=unused,
            transfer=SimpleNamespace(fetch=nothing, provide=nothing),
            tell=lambda event: None,
            offload=offload,
            compute=Compute(ComputeSection(), offload, lambda event: None),
            gate=Resting(TrainWhenSection(), LocalMachine(), trio.to_thread.run_sync),
            unix_time=lambda: 0.0,
            scratch=self.home,
            residuals=self.home / "residuals",
            keep_updates=10,
            addresses=lambda: (),
        )


class Trainer:
    """Comes to something else in each life of its node."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def prepare(self) -> None:
        return

    async def train(self, round: int, params: Path) -> Trained:
        path = self._world.home / f"delta-{round}.safetensors"
        write_tensors(path, TENSORS, [np.full(2, self._world.lives, np.float32)])
        return Trained(delta=path, examples=10, metrics={}, seconds=0.1)

    async def evaluate(self, round: int, params: Path) -> dict[str, float]:
        return {}

    def pause(self) -> None:
        """Nobody does."""

    def resume(self) -> None:
        """Nobody does."""


@pytest.fixture
def worlds(tmp_path: Path) -> Callable[[], World]:
    def make() -> World:
        home = tmp_path / str(len(list(tmp_path.iterdir())))
        home.mkdir()
        return World(home)

    return make


def certified(world: World) -> list[Header]:
    store = open_store(world.home)
    chain = [decode(Header, stored.checkpoint.header) for stored in store.runs.chain(world.spec.hash, 0, 100)]
    store.close()
    return chain


def test_everything_is_durable_before_it_is_sent(worlds: Callable[[], World]) -> None:
    world = worlds()
    writes = world.live()
    records = len(world.slots)
    assert records == 2 + 5 * ROUNDS  # proposal and vote of checkpoint 0; then update, list, proposal and two votes
    assert writes < records + ROUNDS + 1  # entries that stand together are written together
    assert [header.round for header in certified(world)] == list(range(ROUNDS + 1))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_power_cut_at_any_write_loses_nothing_and_signs_nothing_twice(
    worlds: Callable[[], World], after: bool
) -> None:
    for cut_at in range(1, worlds().live() + 1):
        world = worlds()
        assert world.live(cut_at, after=after) == 0
        before = certified(world)
        assert world.live() > 0 or len(before) == ROUNDS + 1
        chain = certified(world)
        assert chain[: len(before)] == before
        assert [header.round for header in chain] == list(range(ROUNDS + 1))


class SendsFirst(RunService):
    """Writes what it has sent."""

    async def _flush(self, entries: dict[int, list[bytes]], waiting: list[fx.Effect]) -> None:
        await super()._flush({}, waiting)
        await super()._flush(entries, [])


def test_a_driver_that_sends_first_is_caught(tmp_path: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        World(tmp_path, SendsFirst).live()
    assert caught.group_contains(AssertionError)
