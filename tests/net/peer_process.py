"""A host in a process of its own, to be killed: `python -m tests.net.peer_process NAME LISTEN [BOOTSTRAP...]`.

Prints its addresses, and what it hears on the topic "news"; publishes its name there; echoes /test/echo/1.
"""

import sys

import trio

from primep2p.net.host import Stream
from primep2p.net.libp2p_host import LibP2PHost
from tests.net.conftest import identity


async def echo(stream: Stream) -> None:
    while piece := await stream.read(65536):
        await stream.write(piece)


async def main(name: str, listen: str, *bootstrap: str) -> None:
    host = LibP2PHost(identity(name), (listen,), bootstrap, "test")
    host.handle("/test/echo/1", echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        print("listening", *host.addresses, flush=True)
        async with host.subscribe("news") as news:
            nursery.start_soon(publish, host, name)
            async for heard in news:
                print("heard", heard.payload.decode(), flush=True)


async def publish(host: LibP2PHost, name: str) -> None:
    while True:
        await host.publish("news", name.encode())
        await trio.sleep(0.2)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
