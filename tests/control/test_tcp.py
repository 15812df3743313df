"""The TCP door: who proves to know a token comes in, and nobody else learns anything."""

import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from primep2p.config import load
from primep2p.control.async_client import Client
from primep2p.control.calls.daemon import DaemonStatus, DaemonStop
from primep2p.control.client import BlockingClient
from primep2p.control.door import ADDRESS, TOKEN_FILE
from primep2p.control.handlers import NodeHandlers
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import KNOCK_S, MAX_CONNECTIONS, MAX_KNOCKS, ControlServer, TcpDoor
from primep2p.control.tokens import NAMES, Tokens
from primep2p.model.errors import CallError, ConfigError, Unavailable
from tests.control.fake_node import PEER, FakeNode


@dataclass
class Serving:
    node: FakeNode
    home: Path
    port: int

    def env(self, access: str = "write") -> dict[str, str]:
        return {ADDRESS: f"127.0.0.1:{self.port}", TOKEN_FILE: str(self.home / NAMES[access])}

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(home: Path, knock_s: float = KNOCK_S) -> AsyncIterator[Serving]:
    node = FakeNode(home)
    path = socket_path(home, env={"XDG_RUNTIME_DIR": str(home)})
    door = TcpDoor("127.0.0.1", 0, Tokens.of(home), knock_s)
    server = ControlServer(path, NodeHandlers(node), link=link_path(home), door=door)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield Serving(node, home, server.port)
        nursery.cancel_scope.cancel()


async def test_who_knows_the_token_may_ask_everything_and_who_knows_the_other_one_may_read(tmp_path):
    async with serving(tmp_path) as it:
        async with Client.open(Path("/none"), it.env("read")) as reader:
            assert (await reader.call(DaemonStatus())).peer_id == PEER
            with pytest.raises(CallError, match=r"daemon\.stop changes something, and this token only lets"):
                await reader.call(DaemonStop())
        assert not it.node.stopped.is_set()

        def ask() -> None:
            with BlockingClient(Path("/none"), env=it.env()) as client:
                client.call(DaemonStop())

        await trio.to_thread.run_sync(ask)
        assert it.node.stopped.is_set()


def test_tokens_are_made_once_differ_and_are_their_owners_alone(tmp_path):
    made = Tokens.of(tmp_path)
    assert Tokens.of(tmp_path) == made
    assert made.by_access["read"] != made.by_access["write"]
    for access, token in made.by_access.items():
        assert stat.S_IMODE((tmp_path / NAMES[access]).stat().st_mode) == 0o600
        assert token.hex() not in repr(made)
    (tmp_path / "control.token").chmod(0o644)
    with pytest.raises(ConfigError, match="is open to others"):
        Tokens.of(tmp_path)


async def test_a_wrong_token_is_refused_by_both_clients(tmp_path):
    async with serving(tmp_path) as it:
        (tmp_path / "wrong").write_text("ab" * 32)
        wrong = {**it.env(), TOKEN_FILE: str(tmp_path / "wrong")}
        with pytest.raises(CallError, match="this proves no token"):
            async with Client.open(tmp_path, wrong):
                pass
        with pytest.raises(CallError, match="this proves no token"):
            await trio.to_thread.run_sync(lambda: BlockingClient(tmp_path, env=wrong))


@pytest.mark.parametrize(
    "knock",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b'{"jsonrpc":"2.0","id":1,"method":"daemon.stop"}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"authenticate","params":{"proof":"","nonce":""}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"authenticate","params":{"proof":"\xc3\xa9","nonce":""}}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"authenticate","params":[]}\n',
        b'{"jsonrpc":"2.0","id":1,"method":"authenticate"}\n{"jsonrpc":"2.0","id":2,"method":"daemon.stop"}\n',
        b"x" * 5000,
        b"\xff\x00\n",
    ],
)
async def test_who_says_anything_else_first_is_turned_away(tmp_path, knock):
    async with serving(tmp_path) as it, await it.connect() as stream:
        await stream.send_all(knock)
        said = b""
        with trio.fail_after(5):
            try:
                while received := await stream.receive_some():
                    said += received
            except trio.BrokenResourceError:
                pass  # reset, since it had said more than anybody wanted to read
        challenge, *answers = [json.loads(line) for line in said.splitlines()]
        assert challenge["method"] == "challenge"
        assert all("error" in answer for answer in answers)
        assert not it.node.stopped.is_set()


async def test_a_proof_that_was_overheard_opens_nothing_a_second_time(tmp_path):
    async with serving(tmp_path) as it:
        heard: list[bytes] = []

        async def relay(victim: trio.SocketStream) -> None:
            async with await it.connect() as daemon:
                await victim.send_all(bytes(await daemon.receive_some()))
                heard.append(bytes(await victim.receive_some()))

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, relay, 0)
            port = listeners[0].socket.getsockname()[1]
            with pytest.raises(Unavailable, match="no daemon answers"):
                async with Client.open(tmp_path, {**it.env(), ADDRESS: f"127.0.0.1:{port}"}):
                    pass
            nursery.cancel_scope.cancel()
        for _ in range(2):  # for another challenge, and for another port than the victim's
            async with await it.connect() as thief:
                await thief.receive_some()
                await thief.send_all(heard[0])
                assert b"this proves no token" in await thief.receive_some()


async def test_whoever_took_the_port_is_found_out_and_learns_no_token(tmp_path):
    heard: list[bytes] = []

    async def pretend(victim: trio.SocketStream) -> None:
        await victim.send_all(b'{"jsonrpc":"2.0","method":"challenge","params":{"nonce":"00"}}\n')
        heard.append(bytes(await victim.receive_some()))
        await victim.send_all(b'{"jsonrpc":"2.0","id":0,"result":{"proof":"00","access":"write"}}\n')
        await victim.receive_some()

    tokens = Tokens.of(tmp_path)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, pretend, 0)
        port = listeners[0].socket.getsockname()[1]
        env = {ADDRESS: f"127.0.0.1:{port}", TOKEN_FILE: str(tmp_path / NAMES["write"])}
        with pytest.raises(Unavailable, match="is not the daemon whose token this is"):
            async with Client.open(tmp_path, env):
                pass
        with pytest.raises(Unavailable, match="is not the daemon whose token this is"):
            await trio.to_thread.run_sync(lambda: BlockingClient(tmp_path, env=env))
        nursery.cancel_scope.cancel()
    assert tokens.by_access["write"].hex().encode() not in b"".join(heard)


async def test_strangers_who_say_nothing_leave_room_for_others_at_once(tmp_path):
    async with serving(tmp_path) as it:
        silent = [await it.connect() for _ in range(MAX_CONNECTIONS + MAX_KNOCKS)]
        with trio.fail_after(KNOCK_S / 2):
            async with Client.open(tmp_path, it.env()) as client:
                assert (await client.call(DaemonStatus())).peer_id == PEER
        for stream in silent:
            await stream.aclose()


async def test_a_stranger_who_says_nothing_is_sent_away_when_its_time_is_over(tmp_path):
    async with serving(tmp_path, knock_s=0.1) as it, await it.connect() as stream:
        with trio.fail_after(5):
            while await stream.receive_some():
                pass


@pytest.mark.parametrize("place", ["0.0.0.0:4651", "192.0.2.1:4651", "127.0.0.1", "[::1:4651", "::1:4651", "x:1", ":1"])
def test_the_door_is_on_this_machine_only(tmp_path, place):
    with pytest.raises(ConfigError, match=r"control\.tcp must be a port of the loopback interface"):
        load(env={"PRIMEP2P__CONTROL__TCP": place}, home=tmp_path)
    with pytest.raises(ConfigError, match="is no port of this machine"):
        BlockingClient(tmp_path, env={ADDRESS: place, TOKEN_FILE: ""})


def test_what_is_missing_for_the_door_is_said(tmp_path):
    with pytest.raises(ConfigError, match="PRIMEP2P_TOKEN_FILE is not"):
        BlockingClient(tmp_path, env={ADDRESS: "127.0.0.1:1"})
    with pytest.raises(Unavailable, match="cannot read the token"):
        BlockingClient(tmp_path, env={ADDRESS: "127.0.0.1:1", TOKEN_FILE: "/none"})
    (tmp_path / "short").write_text("ab")
    with pytest.raises(Unavailable, match="holds no token"):
        BlockingClient(tmp_path, env={ADDRESS: "127.0.0.1:1", TOKEN_FILE: str(tmp_path / "short")})
    Tokens.of(tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and not listened on: nobody else gets it meanwhile
        env = {ADDRESS: f"127.0.0.1:{unused.getsockname()[1]}", TOKEN_FILE: str(tmp_path / NAMES["read"])}
        with pytest.raises(Unavailable, match="no daemon answers at 127"):
            BlockingClient(tmp_path, env=env)
