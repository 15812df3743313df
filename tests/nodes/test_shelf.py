"""Models under names among whole nodes: published, pulled from whoever has them, rolled back, announced again."""

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import trio
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from primep2p.core.references import RunRef
from primep2p.model.errors import CallError, PeerError, Unavailable
from primep2p.model.records import RoundPolicy
from primep2p.model.shelf import ModelRecord
from primep2p.model.views.events import ModelNotPulled, ModelPulled, ModelPulling
from primep2p.services.models.naming import Naming
from primep2p.services.models.predicting import IDLE_S, KEPT_ANSWERS
from tests.nodes.world import Scenario, SimNode, World, simulate

POLICY = RoundPolicy(rounds=0, first_members=2, min_updates=2)
W = np.array([1, 2, 3], np.float32)

BOUND_S = 40.0
"""Of the clock, which is virtual: nodes are connected by then, and have told the directory what they have to."""


def told(root: Path, story: Callable[[World], Awaitable[None]], nodes: int = 3) -> World:
    return simulate(Scenario(seed=5, nodes=nodes, policy=POLICY), root, story)


def file_of(root: Path, values: np.ndarray) -> Path:
    path = root / f"{values[0]:g}.safetensors"
    save_file({"w": values}, path)
    return path


def size(path: str) -> int:
    """Of a file; 0 where there is none."""
    return Path(path).stat().st_size if Path(path).exists() else 0


async def publish(node: SimNode, values: np.ndarray = W, name: str = "line", label: str = "") -> str:
    """A model of a file; its whole name."""
    path = file_of(node.world.root, values)
    await node.alive.shelf.publish_file(path, name, label, trainer="sim", trainer_config={}, metrics={"loss": 0.5})
    return f"{node.peer}/{name}"


async def connected(world: World, *nodes: SimNode) -> None:
    for node in nodes:
        if node.node is None:
            await node.start()
    await trio.sleep(BOUND_S)


def test_a_model_is_pulled_from_whoever_has_it_after_its_owner_went(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, holder, late = world.nodes
        await connected(world, holder, owner)
        model = await publish(owner)
        await holder.alive.shelf.pull(model)
        await trio.sleep(BOUND_S)
        await owner.stop()
        await connected(world, holder, late)
        (listed,) = await late.alive.shelf.models(owner.peer)
        assert (listed.name, listed.here) == ("line", [])
        detail = await late.alive.shelf.show(model)
        assert detail.announced
        assert [(each.version, each.here, each.certified) for each in detail.versions] == [("1", False, "no run")]
        told_of = late.alive.events.watch(kinds=["model-pulling", "model-pulled", "model-not-pulled"])
        found = await late.alive.shelf.pull(f"{model}@latest")
        assert [type(await anext(told_of)) for _ in range(2)] == [ModelPulling, ModelPulled]
        with pytest.raises(CallError):
            await late.alive.shelf.pull(f"{model}@no-such")
        refused = await anext(told_of)
        assert isinstance(refused, ModelNotPulled)
        assert refused.asked == f"{model}@no-such"
        np.testing.assert_array_equal(load_file(found.path)["w"], W)
        await holder.stop()
        assert (await late.alive.shelf.path(model)).path == found.path
        (kept,) = await late.alive.shelf.models()
        assert (kept.owner, kept.name, kept.own, kept.here) == (owner.peer, "line", False, ["1"])

    told(tmp_path, story)


def test_a_runs_checkpoint_is_published_and_checked_by_who_knows_its_chain(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, stranger = world.nodes
        await world.found(owner, [member])
        await world.until_round(2, [owner, member])
        shelf = owner.alive.shelf
        detail = await shelf.publish_run(RunRef(world.run[:8], 2), "line")
        (version,) = detail.versions
        assert (version.version, version.run, version.round, version.certified) == ("2", world.run, 2, "certified")
        assert version.header == owner.certified[2].hex()
        assert version.metrics.keys() == {"loss"}
        await connected(world, owner, stranger)
        model = f"{owner.peer}/line"
        assert (await member.alive.shelf.show(model)).versions[0].certified == "certified"
        assert (await stranger.alive.shelf.show(model)).versions[0].certified == "unknown"
        pulled = await stranger.alive.shelf.pull(model)
        there = load_file((await shelf.path(f"{world.run}@2")).path)
        np.testing.assert_array_equal(load_file(pulled.path)["w"], there["w"])
        assert pulled.run == world.run
        assert (await shelf.path("line@2")).cid == (await shelf.path(world.run[:10] + "@2")).cid == pulled.cid

    told(tmp_path, story)


def test_rolling_back_is_seen_by_others_and_no_version_goes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        await publish(owner, 2 * W)
        assert (await reader.alive.shelf.show(model)).latest == "2"
        await owner.alive.shelf.roll_back("line", "1")
        detail = await reader.alive.shelf.show(model)
        assert (detail.latest, [each.version for each in detail.versions]) == ("1", ["1", "2"])
        found = await reader.alive.shelf.pull(model)
        np.testing.assert_array_equal(load_file(found.path)["w"], W)
        assert found.model == f"{model}@1"

    told(tmp_path, story)


def test_a_restarted_owner_announces_its_names_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        await owner.stop()
        world.network._values.clear()  # as after a day
        world.network._providers.clear()
        with pytest.raises((CallError, Unavailable)):
            await reader.alive.shelf.show(model)
        await owner.start()
        await trio.sleep(BOUND_S)
        await reader.alive.shelf.pull(model)

    told(tmp_path, story)


def test_what_is_published_alone_is_announced_when_somebody_comes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await owner.start()
        model = await publish(owner)
        assert not (await owner.alive.shelf.show("line")).announced
        await connected(world, owner, reader)
        await trio.sleep(BOUND_S)
        await reader.alive.shelf.pull(model)
        assert (await owner.alive.shelf.show("line")).announced

    told(tmp_path, story)


def test_an_older_record_that_comes_back_changes_nothing_even_after_a_restart(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        old = dict(world.network._values)
        await publish(owner, 2 * W)
        assert (await reader.alive.shelf.show(model)).latest == "2"
        await reader.stop()
        world.network._values.update(old)
        await connected(world, owner, reader)
        assert (await reader.alive.shelf.show(model)).latest == "2"

    told(tmp_path, story)


class _Slow:
    """A host whose directory gives `raw`, once `answers` is set."""

    def __init__(self, raw: bytes) -> None:
        self.directory = self
        self.asked, self.answers = trio.Event(), trio.Event()
        self._raw = raw

    async def get(self, owner: str, key: str) -> bytes:
        self.asked.set()
        await self.answers.wait()
        return self._raw


def test_an_older_record_that_comes_while_a_newer_one_is_learnt_does_not_undo_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        shelf, slow = reader.alive.shelf, _Slow(world.network._values[owner.peer, "model:line"])
        naming = Naming(dataclasses.replace(reader.alive._seams, host=slow), shelf._store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(naming.meaning, owner.peer, "line")
            await slow.asked.wait()
            await publish(owner, 2 * W)
            assert (await shelf.show(model)).latest == "2"
            slow.answers.set()
        known = await naming.known(owner.peer, "line")
        assert known is not None
        assert known.latest == "2"

    told(tmp_path, story)


def test_a_record_that_its_owner_did_not_sign_is_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, liar, reader = world.nodes
        await connected(world, owner, liar, reader)
        model = await publish(owner)
        await publish(liar, 2 * W)
        values = world.network._values
        values[owner.peer, "model:line"] = values[liar.peer, "model:line"]
        with pytest.raises(CallError, match="there is no model"):
            await reader.alive.shelf.show(model)

    told(tmp_path, story)


def test_two_records_of_one_number_are_told_of_and_all_take_the_same_one(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, first, second = world.nodes
        await connected(world, owner, first, second)
        model, key, values = await publish(owner), (owner.peer, "model:line"), world.network._values
        older = await owner.alive.shelf.show("line")
        await publish(owner, 2 * W)
        newer, signed = await owner.alive.shelf.show("line"), values[key]
        twin = owner.alive._seams.envelopes.seal(ModelRecord("line", newer.sequence, older.catalog)).raw
        ends, contradictions = [], []
        for node, order in ((first, (signed, twin)), (second, (twin, signed))):
            told = node.alive.events.watch(kinds=["model-contradicted"])
            for values[key] in order:
                offered = (await node.alive.shelf.show(model)).latest
            ends.append(offered)
            with trio.fail_after(1):
                contradictions.append(await anext(told))
        assert ends[0] == ends[1]
        assert [event.model for event in contradictions] == [model, model]

    told(tmp_path, story)


def test_a_model_that_is_removed_is_gone_for_others_and_its_bytes_here(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        await publish(owner, W, name="same")
        found = await reader.alive.shelf.pull(model)
        gone = await owner.alive.shelf.remove("line")
        assert gone.freed_bytes == 0, "another model has the same params"
        assert await owner.alive.shelf.models() != []
        with pytest.raises(CallError, match="was removed by its owner"):
            await reader.alive.shelf.show(model)
        assert [each.name for each in await reader.alive.shelf.models(owner.peer)] == ["same"]
        assert (await owner.alive.shelf.remove("same")).freed_bytes > 0
        assert (await reader.alive.shelf.path(model)).path == found.path, "what was pulled stays"
        bytes_here = size(found.path)
        assert (await reader.alive.shelf.remove(model)).freed_bytes == bytes_here > 0
        assert size(found.path) == 0
        with pytest.raises(Unavailable):
            await reader.alive.shelf.path(model)

    told(tmp_path, story)


def test_a_run_keeps_the_params_of_a_model_that_is_removed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, member, _ = world.nodes
        await world.found(owner, [member])
        await world.until_round(1, [owner])
        await owner.alive.shelf.publish_run(RunRef(world.run, 1), "line")
        assert (await owner.alive.shelf.remove("line")).freed_bytes == 0
        assert size((await owner.alive.shelf.path(f"{world.run}@1")).path) > 0

    told(tmp_path, story)


def test_params_that_are_not_what_the_catalog_says_are_refused_and_not_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        shelf = owner.alive.shelf
        model = await publish(owner)
        catalog = await shelf._naming.own("line")
        assert catalog is not None
        lies = replace(catalog, versions=(replace(catalog.versions[0], schema=bytes(32)),))
        await shelf._naming.announce("line", lies)
        with pytest.raises(PeerError, match="other tensors than their owner signed"):
            await reader.alive.shelf.pull(model)
        assert await reader.alive.shelf.models() == []
        assert not reader.alive._seams.blobs.has(catalog.versions[0].params)

    told(tmp_path, story)


def test_a_catalog_that_names_what_this_node_has_for_another_purpose_takes_nothing_from_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        liar, reader, _ = world.nodes
        await connected(world, liar, reader)
        model = await publish(liar)
        mine = (await reader.alive.shelf.show(await publish(reader, 2 * W, "mine"))).catalog
        catalog = await liar.alive.shelf._naming.own("line")
        assert catalog is not None
        size_bytes = reader.alive._seams.blobs.path(mine).stat().st_size
        lies = replace(catalog.versions[0], params=mine, size_bytes=size_bytes)
        await liar.alive.shelf._naming.announce("line", replace(catalog, versions=(lies,)))
        with pytest.raises(PeerError):
            await reader.alive.shelf.pull(model)
        assert reader.alive._seams.blobs.has(mine)

    told(tmp_path, story)


def test_a_model_is_asked_where_it_was_pulled_with_no_run(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, reader, _ = world.nodes
        await connected(world, owner, reader)
        model = await publish(owner)
        with pytest.raises(Unavailable, match="not on this node") as caught:
            await reader.alive.shelf.predict(model, tmp_path / "inputs")
        assert caught.value.hint == f"have it with: primep2p model pull {model}"
        await reader.alive.shelf.pull(model)
        save_file({"x": np.eye(3, dtype=np.float32)}, tmp_path / "inputs")
        for _ in range(2):
            answer = await reader.alive.shelf.predict(model, tmp_path / "inputs")
            np.testing.assert_array_equal(load_file(answer.path)["y"], W)
        assert answer.model == f"{model}@1"
        assert reader.alive.runs() == []

    told(tmp_path, story)


def test_the_newest_answers_stay_and_a_process_that_nobody_asks_goes(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        (node, *_) = world.nodes
        await node.start()
        await publish(node)
        save_file({"x": np.eye(3, dtype=np.float32)}, tmp_path / "inputs")
        paths = [
            Path((await node.alive.shelf.predict("line", tmp_path / "inputs")).path) for _ in range(KEPT_ANSWERS + 2)
        ]
        assert [path.exists() for path in paths] == [False] * 2 + [True] * KEPT_ANSWERS
        asked = node.alive.shelf._predicting._asked
        assert asked is not None
        assert not asked.gone.is_set()
        await trio.sleep(IDLE_S + 1)
        assert asked.gone.is_set()
        await node.alive.shelf.predict("line", tmp_path / "inputs")

    told(tmp_path, story)


def test_an_owner_that_lost_its_disk_goes_on_from_what_the_directory_has(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        owner, holder, _ = world.nodes
        await connected(world, holder, owner)
        model = await publish(owner)
        await holder.alive.shelf.pull(model)
        await trio.sleep(BOUND_S)
        await owner.stop()
        owner.home = world.root / "new-disk"
        await connected(world, holder, owner)
        await publish(owner, 2 * W)
        detail = await holder.alive.shelf.show(model)
        assert [each.version for each in detail.versions] == ["1", "2"]

    told(tmp_path, story)
