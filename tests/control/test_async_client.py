"""The async client under both of the loops that people run: the same stories, each against a served fake node."""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from primep2p.control.async_client import MOST_WAITING, Client
from primep2p.control.calls.daemon import DaemonStatus, DaemonStop, PeersList
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.runs import RunCreate, RunList, RunShow
from primep2p.control.handlers import NodeHandlers
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import ControlServer
from primep2p.model.errors import CallError, PluginError, PrimeError, Unavailable
from primep2p.model.views.events import RunFinished, StepChanged, TrainingReported
from primep2p.run_config import RunConfig
from tests.control.fake_node import PEER, RUN, FakeNode

LIMIT_S = 60.0
SLOW = RunCreate(config=RunConfig(name="slow", trainer="mlp"))


class Served:
    """A fake node that answers from a thread of its own, so that the client may have any loop."""

    def __init__(self, node: FakeNode, token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
        self.node = node
        self.home = node.home
        self._token = token
        self._scope = scope

    def at(self, act: Callable[..., Any], *arguments: object) -> Any:
        """What `act` gives, in the node's own thread."""
        done: Future[Any] = Future()

        def do() -> None:
            try:
                done.set_result(act(*arguments))
            except Exception as error:
                done.set_exception(error)

        self._token.run_sync_soon(do)
        return done.result(LIMIT_S)

    def go(self) -> None:
        """At once, and every connection with it."""
        self.at(self._scope.cancel)


@contextmanager
def served(home: Path) -> Iterator[Served]:
    begun: Future[Served] = Future()

    async def main() -> None:
        node = FakeNode(home)
        path = socket_path(home, env={"XDG_RUNTIME_DIR": str(home)})
        server = ControlServer(path, NodeHandlers(node), link=link_path(home))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            begun.set_result(Served(node, trio.lowlevel.current_trio_token(), nursery.cancel_scope))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    it = begun.result(LIMIT_S)
    try:
        yield it
    finally:
        with suppress(trio.RunFinishedError):  # the story ended it
            it.go()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


Story = Callable[[Served], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def under(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story under one of the loops."""

    def run(story: Story) -> None:
        async def bounded(it: Served) -> None:
            with anyio.fail_after(LIMIT_S):
                await story(it)

        with served(tmp_path) as it:
            anyio.run(bounded, it, backend=request.param)

    return run


def test_calls_are_answered_one_after_another(under):
    async def story(it: Served) -> None:
        async with Client.open(it.home) as client:
            assert (await client.call(DaemonStatus())).peer_id == PEER
            assert [run.name for run in await client.call(RunList())] == ["digits"]
            assert (await client.call(PeersList()))[0].connected
            assert (await client.call(DaemonStop())).pid == os.getpid()

    under(story)


def test_calls_run_at_the_same_time_and_each_has_its_own_answer(under):
    async def story(it: Served) -> None:
        names: list[str] = []

        async def create() -> None:
            names.append((await client.call(SLOW)).name)

        async with Client.open(it.home) as client, anyio.create_task_group() as group:
            group.start_soon(create)
            assert (await client.call(DaemonStatus())).peer_id == PEER
            assert names == []
            it.at(it.node.gate.set)
        assert names == ["slow"]

    under(story)


def test_a_stream_carries_events_from_when_it_is_entered_until_its_end(under):
    async def story(it: Served) -> None:
        async with Client.open(it.home) as client, client.stream(EventsWatch(run=RUN)) as events:
            it.at(it.node.emit, TrainingReported(run=RUN, round=1, step=1, steps=2, loss=0.5))
            it.at(it.node.emit, RunFinished(run=RUN, round=3))
            assert [type(event) async for event in events] == [TrainingReported, RunFinished]

    under(story)


def test_a_stream_that_is_not_read_ends_and_the_others_of_its_client_go_on(under):
    async def story(it: Served) -> None:
        event = StepChanged(run=RUN, round=1, view=0, step="collect")
        async with Client.open(it.home) as client, client.stream(EventsWatch()) as events:
            for _ in range(MOST_WAITING + 1):
                it.at(it.node.emit, event)
                assert (await client.call(DaemonStatus())).peer_id == PEER  # what was sent before has arrived
            for _ in range(MOST_WAITING):
                await anext(events)
            with pytest.raises(Unavailable, match=f"more than {MOST_WAITING} events were not read"):
                await anext(events)
            assert (await client.call(DaemonStatus())).peer_id == PEER

    under(story)


def test_what_the_daemon_refuses_is_raised_as_whose_fault_it_is(under):
    async def story(it: Served) -> None:
        async with Client.open(it.home) as client:
            with pytest.raises(CallError, match="there is no run zz"):
                await client.call(RunShow(run="zz"))
            with pytest.raises(PluginError) as plugin:
                await client.call(RunCreate(config=RunConfig(name="x", trainer="broken")))
            assert plugin.value.stderr == "Traceback: no"
            with pytest.raises(CallError, match="there is no run zz"):
                async with client.stream(EventsWatch(run="zz")):
                    pass

    under(story)


def test_what_the_body_raises_comes_out_as_it_is(under):
    async def story(it: Served) -> None:
        async with Client.open(it.home) as client:
            await client.call(RunShow(run="zz"))

    with pytest.raises(CallError, match="there is no run zz"):
        under(story)


def test_who_waits_when_the_daemon_goes_is_told_and_so_is_who_asks_afterwards(under):
    async def story(it: Served) -> None:
        told: list[PrimeError] = []

        async def wait_for_an_answer() -> None:
            with pytest.raises(Unavailable, match="the daemon closed the connection") as error:
                await client.call(SLOW)
            told.append(error.value)

        async with Client.open(it.home) as client, client.stream(EventsWatch()) as events:
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for_an_answer)
                assert (await client.call(DaemonStatus())).peer_id == PEER
                it.go()
                with pytest.raises(Unavailable, match="the daemon closed the connection"):
                    await anext(events)
            assert len(told) == 1
            with pytest.raises(Unavailable, match="the daemon closed the connection"):
                await client.call(DaemonStatus())

    under(story)


def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(under):
    async def story(it: Served) -> None:
        async with Client.open(it.home) as client:
            for patience_s in (0.0, 0.05):  # before a byte of it is sent, and while it waits for its answer
                with anyio.move_on_after(patience_s) as patience:
                    await client.call(SLOW)
                assert patience.cancelled_caught
                assert (await client.call(DaemonStatus())).peer_id == PEER

    under(story)


def test_a_call_that_is_cancelled_while_it_is_sent_leaves_no_half_line(under):
    """A line larger than what the socket takes at once, to a daemon that does not read for a while."""

    async def story(it: Served) -> None:
        fat = RunCreate(config=RunConfig(name="slow", trainer="mlp", trainer_config={"words": ["x" * 1000] * 900}))
        resting, rested = threading.Event(), threading.Event()

        def rest() -> None:
            resting.set()
            rested.wait(LIMIT_S)

        async with Client.open(it.home) as client:
            assert (await client.call(DaemonStatus())).peer_id == PEER
            thread = threading.Thread(target=it.at, args=(rest,))
            thread.start()
            resting.wait(LIMIT_S)
            with anyio.move_on_after(0.05) as patience:
                await client.call(fat)
            assert patience.cancelled_caught
            rested.set()
            assert (await client.call(DaemonStatus())).peer_id == PEER
            thread.join(LIMIT_S)

    under(story)


def test_an_answer_that_takes_longer_than_its_call_may_is_given_up(under):
    class Hasty(RunCreate, frozen=True):
        """The same call, of somebody with little patience."""

        deadline_s = 0.05
        __orig_bases__ = RunCreate.__orig_bases__

    async def story(it: Served) -> None:
        async with Client.open(it.home) as client:
            with pytest.raises(Unavailable, match="does not answer in time"):
                await client.call(Hasty(config=SLOW.config))
            assert (await client.call(DaemonStatus())).peer_id == PEER

    under(story)


def test_where_no_daemon_runs_the_command_that_starts_it_is_named(under, tmp_path):
    async def story(it: Served) -> None:
        with pytest.raises(Unavailable, match="no daemon runs for "):
            async with Client.open(tmp_path / "elsewhere"):
                pass

    under(story)
