import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from primep2p.control.async_client import MOST_WAITING, Client
from primep2p.control.calls.daemon import DaemonStatus, DaemonStop, Discover, PeersList
from primep2p.control.calls.events import EventsWatch
from primep2p.control.calls.models import ModelPathOf
from primep2p.control.calls.runs import RunBan, RunCreate, RunInvite, RunJoin, RunList, RunShow
from primep2p.control.client import BlockingClient
from primep2p.control.connection import MAX_CALLS, MAX_STREAMS, MAX_UNREAD_BYTES
from primep2p.control.handlers import NodeHandlers
from primep2p.control.handlers.references import parse_join, parse_start
from primep2p.control.jsonrpc import MAX_LINE_BYTES, InternalError, LineBuffer
from primep2p.control.openrpc import discover
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import ControlServer
from primep2p.model.errors import CallError, ConfigError, PluginError, Unavailable
from primep2p.model.records import RoundPolicy
from primep2p.model.views.events import RunFinished, StepChanged, TrainingReported
from primep2p.run_config import RunConfig
from primep2p.services.runs.origins import Start
from primep2p.services.watching.recent import MOST_BYTES
from primep2p.wire.token import write_token
from tests.control.fake_node import PEER, RUN, TOKEN, FakeNode

DIGITS = RunConfig(name="digits", trainer="mlp", trainer_config={"epochs": 1, "layers": [64, 32]})


class Serving:
    """A served fake node."""

    def __init__(self, node: FakeNode, server: ControlServer, path: Path, nursery: trio.Nursery) -> None:
        self.node = node
        self.server = server
        self.path = path
        self.nursery = nursery

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(str(self.path))


@asynccontextmanager
async def serving(tmp_path: Path, handlers: type[NodeHandlers] = NodeHandlers, **seams: Any) -> AsyncIterator[Serving]:
    node = FakeNode(tmp_path)
    path = socket_path(tmp_path, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    server = ControlServer(path, handlers(node), link=link_path(tmp_path), **seams)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield Serving(node, server, path, nursery)
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, line: bytes) -> dict[str, object]:
    await stream.send_all(line + b"\n")
    return await read_line(stream)


async def read_line(stream: trio.SocketStream) -> dict[str, object]:
    received = b""
    while not received.endswith(b"\n"):
        more = await stream.receive_some(65_536)
        assert more, f"closed after {received!r}"
        received += more
    return json.loads(received)


async def test_every_call_reaches_its_verb_and_brings_its_answer_back(tmp_path):
    async with serving(tmp_path) as it, Client.open(tmp_path) as client:
        assert (await client.call(DaemonStatus())).peer_id == PEER
        assert (await client.call(RunCreate(config=DIGITS))).name == "digits"
        assert it.node.created == [DIGITS]
        assert (await client.call(RunJoin(run=f"{RUN}@7:{'cd' * 32}"))).run == RUN
        assert it.node.joined == [(RUN, (7, bytes.fromhex("cd" * 32)), None)]
        made = await client.call(RunInvite(run=RUN[:4], uses=3, rounds=9))
        assert (made.token, made.uses, made.until) == (write_token(TOKEN), 3, 11)
        assert (await client.call(RunJoin(run=RUN, invite=made.token))).run == RUN
        assert it.node.joined[1:] == [(RUN, None, TOKEN)]
        await client.call(RunBan(run=RUN[:4], peer=PEER))
        assert it.node.banned == [(RUN[:4], PEER)]
        await client.call(RunCreate(origin=f"{RUN[:8]}@7"))
        assert it.node.continued == [(Start(RUN[:8], 7), None)]
        assert [run.name for run in await client.call(RunList())] == ["digits"]
        assert (await client.call(RunShow(run=RUN[:4]))).quorum == 3
        assert (await client.call(ModelPathOf(model=RUN))).model == f"{RUN}@3"
        assert (await client.call(PeersList()))[0].connected
        assert "events.watch" in [method["name"] for method in (await client.call(Discover()))["methods"]]
        assert (await client.call(DaemonStop())).pid == os.getpid()
        assert it.node.stopped.is_set()


PIN = (7, bytes.fromhex("cd" * 32))
TEXT = write_token(TOKEN)


def test_an_invite_stands_in_place_of_the_id_or_beside_it_with_a_pin_or_without():
    assert parse_join(RUN) == (RUN, None, None)
    assert parse_join(TEXT) == parse_join(RUN, invite=TEXT) == parse_join(TEXT, invite=TEXT) == (RUN, None, TOKEN)
    pinned = f"@7:{'cd' * 32}"
    assert parse_join(RUN + pinned, invite=TEXT) == parse_join(TEXT + pinned) == (RUN, PIN, TOKEN)
    assert parse_join(TEXT, pin=pinned[1:]) == (RUN, PIN, TOKEN)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cd" * 32, "", TEXT), "the invite is for run abababababab, and not for cdcdcdcdcdcd"),
        ((TEXT, "", TEXT + "A"), "two different invites are given"),
        ((TEXT[1:],), "'rimep2p-invi…' is not the id of a run: that has 64 hexadecimal digits"),
    ],
)
def test_an_invite_for_something_else_is_refused_without_showing_it(arguments, sentence):
    with pytest.raises(CallError) as refused:
        parse_join(*arguments)
    assert refused.value.sentence == sentence


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("ab12", Start("ab12")),
        ("ab12@7", Start("ab12", 7)),
        (f"{RUN}@7:{'cd' * 32}", Start(RUN, *PIN)),
    ],
)
def test_a_run_starts_from_an_id_a_round_of_it_or_a_pin(text, start):
    assert parse_start(text) == start


@pytest.mark.parametrize("text", ["ab@", "ab@x", "ab@7:", "ab@7:cd", "ab@-1", f"ab@{'1' * 16}", "ab@7:" + "zz" * 32])
def test_what_is_no_checkpoint_is_said_to_be_none(text):
    with pytest.raises(CallError, match="is not a checkpoint"):
        parse_start(text)


async def test_a_run_with_neither_settings_nor_an_origin_is_refused(tmp_path):
    async with serving(tmp_path) as it, Client.open(tmp_path) as client:
        with pytest.raises(CallError, match="a run needs a config, or an origin"):
            await client.call(RunCreate())
        with pytest.raises(CallError, match=r"params\.uses must be"):
            await client.call(RunInvite(run=RUN, uses=0))
        assert it.node.created == []


async def test_a_record_of_the_run_crosses_the_socket_with_the_names_of_its_fields(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream:
        line = b'{"jsonrpc":"2.0","id":1,"method":"run.create","params":{"config":{"name":"x","trainer":"mlp",'
        answer = await ask(stream, line + b'"policy":{"rounds":5}}}}')
        assert "error" not in answer
        assert it.node.created[0].policy == RoundPolicy(rounds=5)


async def test_the_blocking_client_speaks_the_same_protocol(tmp_path):
    def commands() -> None:
        with BlockingClient(tmp_path) as client:
            assert client.call(DaemonStatus()).peer_id == PEER
            with pytest.raises(CallError, match="there is no run zz"):
                client.call(RunShow(run="zz"))
            assert client.call(RunList())[0].round == 3

    async with serving(tmp_path):
        await trio.to_thread.run_sync(commands)


async def test_the_blocking_client_streams_until_the_run_is_finished(tmp_path):
    seen: list[object] = []

    def watch() -> None:
        with BlockingClient(tmp_path) as client:
            seen.extend(client.stream(EventsWatch(run=RUN)))

    async with serving(tmp_path) as it, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, watch)
        await it.node.events.watching.wait()
        it.node.emit(RunFinished(run=RUN, round=3, at_s=1.5))
    assert seen == [RunFinished(run=RUN, round=3, at_s=1.5, cursor="fake-1")]


async def test_a_stream_carries_every_kind_of_number_and_ends(tmp_path):
    async with (
        serving(tmp_path) as it,
        Client.open(tmp_path) as client,
        client.stream(EventsWatch(run=RUN, kinds=("training-reported",))) as events,
    ):
        it.node.emit(TrainingReported(run=RUN, round=1, step=1, steps=2, loss=float("nan")))
        it.node.emit(TrainingReported(run=RUN, round=1, step=2, steps=2, loss=0.5))
        it.node.emit(RunFinished(run=RUN, round=1))
        assert [event.loss async for event in events] == [None, 0.5]


async def test_leaving_a_connection_cancels_its_streams(tmp_path):
    async with serving(tmp_path) as it:
        async with Client.open(tmp_path) as client, client.stream(EventsWatch()):
            assert not it.node.events.unwatched.is_set()
        await it.node.events.unwatched.wait()


async def test_calls_on_one_connection_run_at_the_same_time(tmp_path):
    async with serving(tmp_path) as it, Client.open(tmp_path) as client, trio.open_nursery() as nursery:
        answered = trio.Event()

        async def create() -> None:
            await client.call(RunCreate(config=RunConfig(name="slow", trainer="mlp")))
            answered.set()

        nursery.start_soon(create)
        assert (await client.call(DaemonStatus())).peer_id == PEER
        assert not answered.is_set()
        it.node.gate.set()
        await answered.wait()


async def test_a_call_under_way_is_carried_out_after_its_caller_left(tmp_path):
    async with serving(tmp_path) as it:
        async with await it.connect() as stream:
            call = {"jsonrpc": "2.0", "id": 1, "method": "run.create"}
            call["params"] = {"config": {"name": "slow", "trainer": "mlp"}}
            await stream.send_all(json.dumps(call).encode() + b"\n")
            await ask(stream, b'{"jsonrpc":"2.0","id":2,"method":"run.list"}')
        it.node.gate.set()
        await it.server.idle()
        assert [run.name for run in it.node.created] == ["slow"]


async def test_an_answer_is_on_its_way_before_idle_returns(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream:
        await stream.send_all(b'{"jsonrpc":"2.0","id":1,"method":"daemon.stop"}\n')
        await it.node.stopped.wait()
        await it.server.idle()
        it.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert (await read_line(stream))["result"] == {"pid": os.getpid()}


async def test_errors_keep_whose_fault_they_are_across_the_socket(tmp_path):
    async with serving(tmp_path), Client.open(tmp_path) as client:
        with pytest.raises(PluginError) as plugin:
            await client.call(RunCreate(config=RunConfig(name="x", trainer="broken")))
        assert (plugin.value.sentence, plugin.value.stderr, plugin.value.hint) == (
            "the trainer raised",
            "Traceback: no",
            "look at it",
        )
        with pytest.raises(CallError, match="there is no run zz") as call:
            await client.call(RunShow(run="zz"))
        assert call.value.hint == "see: primep2p run list"
        assert call.value.__notes__ == [call.value.hint]  # in a traceback too
        with pytest.raises(CallError, match="there is no run zz"):
            async with client.stream(EventsWatch(run="zz")):
                pass


async def test_a_bug_in_a_handler_is_answered_and_the_daemon_lives(tmp_path):
    async with serving(tmp_path), Client.open(tmp_path) as client:
        with pytest.raises(InternalError, match="internal error: ZeroDivisionError"):
            await client.call(RunCreate(config=RunConfig(name="x", trainer="bug")))
        assert (await client.call(DaemonStatus())).peer_id == PEER


@pytest.mark.parametrize(
    ("line", "number", "sentence"),
    [
        (b"hello", -32700, "not JSON"),
        (b"\xff\xfe", -32700, "not JSON"),
        (b"[" * 5000, -32600, "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc":"2.0","id":1,"method":"run.list","params":' + b"[" * 5000, -32700, "not JSON"),
        (b"[]", -32600, "not a JSON-RPC 2.0 request"),
        (b'{"jsonrpc":"2.0","method":"run.list"}', -32600, "missing required field `id`"),
        (b'{"jsonrpc":"1.0","id":1,"method":"run.list"}', -32600, "Invalid enum value '1.0'"),
        (b'{"jsonrpc":"2.0","id":1,"method":"run.lst"}', -32601, "there is no call 'run.lst'"),
        (b'{"jsonrpc":"2.0","id":1,"method":"run.show"}', -32602, "run.show: params.run is missing"),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"run.show","params":{"run":"a","rnu":1}}',
            -32602,
            "run.show: params.rnu is not known: did you mean run?",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"run.create","params":'
            b'{"config":{"name":"x","trainer":"t","policy":{"roudns":1}}}}',
            -32602,
            "run.create: params.config.policy.roudns is not known: did you mean rounds?",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"run.create","params":'
            b'{"config":{"name":"x","trainer":"t","policy":{"min_updates":9}}}}',
            -32602,
            "run.create: policy.min_updates must not be above policy.first_members, which is 4",
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"run.join","params":{"run":"xyz"}}',
            -32000,
            "'xyz' is not the id of a run",
        ),
    ],
)
async def test_what_is_no_call_gets_an_error_and_the_connection_goes_on(tmp_path, line, number, sentence):
    async with serving(tmp_path) as it, await it.connect() as stream:
        error = (await ask(stream, line))["error"]
        assert isinstance(error, dict)
        assert error["code"] == number
        assert sentence in error["message"]
        assert error["data"]["code"] == "call"
        assert (await ask(stream, b'{"jsonrpc":"2.0","id":9,"method":"run.list"}'))["id"] == 9


async def test_a_line_beyond_the_limit_closes_its_connection_only(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream, Client.open(tmp_path) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_quietly, stream, b"x" * (MAX_LINE_BYTES + 2))
            assert "connection is closed" in str((await read_line(stream))["error"])
        assert await stream.receive_some(1) == b""
        assert (await other.call(DaemonStatus())).peer_id == PEER


async def send_quietly(stream: trio.SocketStream, sent: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.send_all(sent)


async def test_a_reader_that_stops_reading_is_told_what_it_missed_and_the_others_miss_nothing(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as slow:
        await ask(slow, b'{"jsonrpc":"2.0","id":1,"method":"events.watch"}')
        fat = StepChanged(run=RUN, round=1, view=0, step="x" * 4096)
        async with Client.open(tmp_path) as other, other.stream(EventsWatch()) as events:
            for _ in range(3 * MOST_BYTES // 4096):  # its socket takes some of them
                it.node.emit(fat)
                assert isinstance(await anext(events), StepChanged)
        heard = [event async for event in rest_of(slow, it.node.events.cursor)]
        [missed] = [event for event in heard if event["event"] == "events-missed"]
        assert missed["count"] + len(heard) - 1 == 3 * MOST_BYTES // 4096


async def rest_of(stream: trio.SocketStream, last: str) -> AsyncIterator[dict[str, Any]]:
    """Events until the one with that cursor."""
    lines, event = LineBuffer(MAX_LINE_BYTES), {}
    while event.get("cursor") != last:
        for line in lines.feed(await stream.receive_some(65_536)):
            event = json.loads(line)["params"]["event"]
            yield event


async def test_a_stream_that_is_not_read_ends_and_the_others_of_its_client_go_on(tmp_path):
    async with serving(tmp_path) as it, Client.open(tmp_path) as client, client.stream(EventsWatch()) as events:
        event = StepChanged(run=RUN, round=1, view=0, step="collect")
        for _ in range(MOST_WAITING + 1):
            it.node.emit(event)
            assert (await client.call(DaemonStatus())).peer_id == PEER  # what was sent before has arrived
        for _ in range(MOST_WAITING):
            await anext(events)
        with pytest.raises(Unavailable, match=f"more than {MOST_WAITING} events were not read"):
            await anext(events)
        assert (await client.call(DaemonStatus())).peer_id == PEER


def test_the_client_is_public_and_nobody_else_waits_for_trio():
    ask = "import sys, primep2p; print('trio' in sys.modules); from primep2p import Client; print(Client.__module__)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "primep2p.sdk.client"]


async def test_too_many_streams_are_refused_and_calls_beside_them_are_answered(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream:
        for number in range(MAX_STREAMS):
            await ask(stream, b'{"jsonrpc":"2.0","id":%d,"method":"events.watch"}' % number)
        answer = await ask(stream, b'{"jsonrpc":"2.0","id":"one more","method":"events.watch"}')
        assert "streams are open on this connection" in str(answer["error"])
        assert (await ask(stream, b'{"jsonrpc":"2.0","id":"a call","method":"run.list"}'))["result"]


async def test_the_socket_is_its_owners_alone_and_gone_afterwards(tmp_path):
    async with serving(tmp_path) as it:
        assert stat.S_IMODE(it.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(it.path.parent.stat().st_mode) == 0o700
        assert link_path(tmp_path).readlink() == it.path
    assert not it.path.exists()
    assert not link_path(tmp_path).is_symlink()
    with pytest.raises(Unavailable) as gone:
        BlockingClient(tmp_path)
    assert gone.value.sentence == f"no daemon runs for {tmp_path}"


async def test_another_users_connection_is_refused(tmp_path):
    async with serving(tmp_path, uid_of=lambda connection: 12_345) as it, await it.connect() as stream:
        assert await stream.receive_some(1) == b""


async def test_a_client_that_went_before_the_kernel_was_asked_who_it_is_harms_nobody(tmp_path):
    asked = []

    def uid_of(connection):
        asked.append(connection)
        if len(asked) == 1:
            raise OSError(errno.ENOTCONN, "Socket is not connected")
        return os.getuid()

    async with serving(tmp_path, uid_of=uid_of) as it:
        async with await it.connect() as stream:
            assert await stream.receive_some(1) == b""
        async with Client.open(tmp_path) as client:
            assert (await client.call(DaemonStatus())).peer_id == PEER


async def test_the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_is_not(tmp_path):
    path = socket_path(tmp_path, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    path.parent.mkdir(mode=0o700)
    with trio.socket.socket(trio.socket.AF_UNIX) as dead:
        await dead.bind(str(path))
    async with serving(tmp_path) as it:
        second = ControlServer(it.path, NodeHandlers(it.node))
        with pytest.raises(Unavailable, match="another daemon answers"):
            await second.run()
        async with Client.open(tmp_path) as client:
            assert (await client.call(DaemonStatus())).peer_id == PEER


async def test_a_socket_directory_that_is_a_link_or_open_to_others_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").mkdir(mode=0o700)
    (tmp_path / "open").chmod(0o755)
    for name, sentence in (("link", "is a link or a file"), ("open", "is open to others")):
        with pytest.raises(ConfigError, match=sentence):
            await ControlServer(tmp_path / name / "x.sock", NodeHandlers(FakeNode(tmp_path))).run()


def test_a_socket_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"longer than the \d+ bytes"):
        socket_path(tmp_path, f"/{'x' * 120}/control.sock")


def test_homes_do_not_share_a_socket_and_a_long_home_still_has_a_short_one(tmp_path):
    first, second = (socket_path(tmp_path / ("x" * 200) / name, env={}) for name in ("a", "b"))
    assert first != second
    assert first.parent == Path(f"/tmp/primep2p-{os.getuid()}")


async def test_who_asks_a_lot_and_reads_nothing_is_answered_no_further(tmp_path):
    answered = 0

    class Counting(NodeHandlers):
        async def answer(self, call):
            nonlocal answered
            answered += 1
            return await super().answer(call)

    async with serving(tmp_path, handlers=Counting) as it, await it.connect() as greedy:
        greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}\n'
        with trio.move_on_after(2):
            await greedy.send_all(asked * 20_000)
            pytest.fail("all of it was read")
        answer_bytes = len(msgspec.json.encode(discover()))
        in_the_kernel = 2**20
        assert answered <= (MAX_UNREAD_BYTES + in_the_kernel) / answer_bytes + MAX_CALLS
        async with Client.open(tmp_path) as other:
            assert (await other.call(DaemonStatus())).peer_id == PEER


@pytest.mark.parametrize("flood", [b"garbage\n", b"\n", b'{"jsonrpc":"2.0","id":1,"method":"run.list"}\n', b"{" * 64])
async def test_while_one_client_floods_each_call_of_another_is_soon_answered(tmp_path, flood):
    """Soon: before the flood has had a few dozen more of its own."""
    answered = 0

    async def read(stream: trio.SocketStream) -> None:
        nonlocal answered
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while received := await stream.receive_some():
                answered += received.count(b"\n")

    async def write(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await stream.send_all(flood * 1000)

    async with serving(tmp_path) as it, Client.open(tmp_path) as client, trio.open_nursery() as nursery:
        stream = await it.connect()
        nursery.start_soon(read, stream)
        nursery.start_soon(write, stream)
        waits = []
        for _ in range(20):
            before = answered
            await client.call(DaemonStatus())
            waits.append(answered - before)
        nursery.cancel_scope.cancel()
        await stream.aclose()
    assert sorted(waits)[10] <= 4 * MAX_CALLS


async def test_many_calls_sent_at_once_are_all_answered(tmp_path):
    async with serving(tmp_path) as it, await it.connect() as stream:
        lines = [b'{"jsonrpc":"2.0","id":%d,"method":"run.list"}\n' % number for number in range(10 * MAX_CALLS)]
        said = bytearray()

        async def read() -> None:
            while said.count(b"\n") < len(lines):
                said.extend(await stream.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await stream.send_all(b"".join(lines))
        answers = [json.loads(line) for line in said.splitlines()]
        assert {answer["id"] for answer in answers} == set(range(len(lines)))
        assert all("result" in answer for answer in answers)
