"""Plans on a node: a trainer is given them only whole, signed and of a trusted owner; who joins fetches first."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from primep2p.control.calls.plans import PlanAdd
from primep2p.control.jsonrpc import MAX_LINE_BYTES
from primep2p.model.errors import PluginError, Unavailable
from primep2p.model.ids import Cid, PeerId
from primep2p.model.plans import MAX_PLAN_BYTES, trainer_of_plan
from primep2p.model.views.events import LogLine
from primep2p.services.training.plans import FETCH_S, PlanFiles, Plans
from primep2p.store.db import Store, open_store
from tests.wire.graphs import GRAPHS, OWNER, TRAIN, sealed
from tests.wire.samples import envelopes

ME = envelopes(number=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "home", fsync=False)) as store:
        yield store


def files(store: Store, *trust: PeerId) -> PlanFiles:
    return PlanFiles(ME, store.blobs, trust)


def added(store: Store, raw: bytes, scratch: Path) -> Cid:
    """The CID of any bytes, checked or not."""
    (scratch / "blob").write_bytes(raw)
    return store.blobs.add(scratch / "blob", durable=True)


class Members:
    """A transfer from members that hold `raw`, or hold nothing."""

    def __init__(self, store: Store, scratch: Path, raw: bytes = b"") -> None:
        self.provided: list[Cid] = []
        self.asked: list[tuple[Cid, Sequence[PeerId], int, bool]] = []
        self._store, self._scratch, self._raw = store, scratch, raw

    async def fetch(self, cid: Cid, providers: Sequence[PeerId], *, max_bytes: int, durable: bool = False) -> None:
        self.asked.append((cid, providers, max_bytes, durable))
        if not self._raw:
            await trio.sleep_forever()
        added(self._store, self._raw, self._scratch)

    async def provide(self, cid: Cid) -> None:
        self.provided.append(cid)


async def inline(function, *arguments):  # type: ignore[no-untyped-def]
    return function(*arguments)


def node(
    store: Store, members: Members, scratch: Path, *trust: PeerId, has_mlx: bool = True
) -> tuple[Plans, list[LogLine]]:
    told: list[LogLine] = []
    plans = Plans(
        files(store, *trust), members, scratch=scratch, offload=inline, tell=told.append, has_mlx=lambda: has_mlx
    )
    return plans, told


def test_a_plan_of_a_trusted_owner_is_put_where_its_trainer_reads_it(store: Store, tmp_path: Path) -> None:
    raw = sealed()
    cid = added(store, raw, tmp_path)
    files(store, OWNER.peer_id).place(trainer_of_plan(cid), tmp_path / "plan")
    assert (tmp_path / "plan").read_bytes() == raw


def test_one_s_own_plan_is_trusted(store: Store, tmp_path: Path) -> None:
    cid = added(store, sealed(sealer=ME), tmp_path)
    assert files(store).trusted(cid)[1].record.owner == ME.peer_id


def test_a_plan_of_somebody_else_is_refused_with_the_line_that_would_allow_it(store: Store, tmp_path: Path) -> None:
    other = envelopes(number=3).peer_id
    cid = added(store, sealed(), tmp_path)
    with pytest.raises(PluginError, match=f"'sum' of {OWNER.peer_id}, whom this node does not trust") as refused:
        files(store, other).place(trainer_of_plan(cid), tmp_path / "plan")
    both = ", ".join(f'"{peer}"' for peer in sorted((other, OWNER.peer_id)))
    assert f"write trust = [{both}] under [plans] in node.toml" in refused.value.hint
    assert not (tmp_path / "plan").exists()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (sealed(sealer=envelopes(network="another")), "not signed by its owner"),
        (sealed()[:-1], "no plan, or a damaged one"),
        (sealed().replace(TRAIN, TRAIN.replace(b"Add", b"Tan")), "other bytes than its owner signed"),
        (sealed({**GRAPHS, "train": TRAIN.replace(b"Add", b"Fdd")}), "uses 'Fdd', which no plan may"),
        (bytes(MAX_PLAN_BYTES + 1), "larger than the"),
    ],
    ids=["another network", "cut", "another graph", "not allowed", "too large"],
)
def test_what_is_wrong_with_a_plan_keeps_it_from_its_trainer(
    store: Store, tmp_path: Path, raw: bytes, said: str
) -> None:
    cid = added(store, raw, tmp_path)
    with pytest.raises(PluginError, match=said):
        files(store, OWNER.peer_id).place(trainer_of_plan(cid), tmp_path / "plan")
    if len(raw) <= MAX_PLAN_BYTES:
        with pytest.raises(PluginError):
            files(store).add(raw, tmp_path)


def test_a_plan_that_is_gone_is_the_trainer_s_failure(store: Store, tmp_path: Path) -> None:
    cid = added(store, sealed(), tmp_path)
    store.blobs.remove(cid)
    with pytest.raises(PluginError, match="the plan is not here"):
        files(store, OWNER.peer_id).place(trainer_of_plan(cid), tmp_path / "plan")


async def test_a_plan_that_is_added_is_told_of_and_served(store: Store, tmp_path: Path) -> None:
    members = Members(store, tmp_path)
    plans, _ = node(store, members, tmp_path)
    view = await plans.add(sealed())
    assert members.provided == [view.cid]
    assert (view.trusted, view.params, view.batch) == (False, {"weight": "float32[3]"}, {"x": "float32[3]"})
    assert view.primitives == {"Add": 1, "RandomBits": 1, "Reduce": 2}


async def test_a_newcomer_fetches_the_plan_before_it_joins(store: Store, tmp_path: Path) -> None:
    raw = sealed()
    cid = added(store, raw, tmp_path)
    store.blobs.remove(cid)
    members = Members(store, tmp_path, raw)
    plans, told = node(store, members, tmp_path, OWNER.peer_id)
    with pytest.raises(Unavailable, match="is not on this node"):
        await plans.check(trainer_of_plan(cid))
    await plans.obtain(trainer_of_plan(cid), ["a member"])
    assert members.asked == [(cid, ["a member"], MAX_PLAN_BYTES, True)]
    assert members.provided == [cid]
    assert not told
    await plans.check(trainer_of_plan(cid))


async def test_a_newcomer_is_told_that_it_does_not_trust_the_owner(store: Store, tmp_path: Path) -> None:
    cid = added(store, sealed(), tmp_path)
    plans, _ = node(store, Members(store, tmp_path, sealed()), tmp_path)
    with pytest.raises(PluginError, match="whom this node does not trust"):
        await plans.obtain(trainer_of_plan(cid), [])


async def test_a_newcomer_without_mlx_is_told_that_it_only_votes(store: Store, tmp_path: Path) -> None:
    cid = added(store, sealed(), tmp_path)
    plans, told = node(store, Members(store, tmp_path, sealed()), tmp_path, OWNER.peer_id, has_mlx=False)
    await plans.obtain(trainer_of_plan(cid), [])
    [line] = told
    assert line.level == "warning"
    assert "votes on the models of a run with a plan, and trains nothing" in line.sentence


def test_members_that_do_not_give_the_plan_are_not_waited_for_for_ever(store: Store, tmp_path: Path) -> None:
    cid = added(store, sealed(), tmp_path)

    async def main() -> float:
        plans, _ = node(store, Members(store, tmp_path), tmp_path, OWNER.peer_id)
        began = trio.current_time()
        with pytest.raises(Unavailable, match="no member gives the plan"):
            await plans.obtain(trainer_of_plan(cid), [])
        return trio.current_time() - began

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == pytest.approx(FETCH_S)


def test_the_largest_plan_fits_into_one_request() -> None:
    assert len(msgspec.json.encode(PlanAdd(content=bytes(MAX_PLAN_BYTES)))) < MAX_LINE_BYTES - 1024
