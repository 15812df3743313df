"""Ports, and who can be reached: as much as one machine can tell, with no server to ask."""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module

import psutil

from primep2p.cli.doctor.finding import Finding, Scene
from primep2p.cli.render.printing import many
from primep2p.model.errors import ConfigError
from primep2p.model.views.node import NodeStatus

__all__ = ["bootstrap", "ports", "reachability"]

DIAL_S = 3.0
"""A peer on the other side of the earth answers within half a second."""

AT_ONCE = 16


def ports(scene: Scene) -> Iterator[Finding]:
    """Whether a daemon could listen where it is told to, or does."""
    try:
        transport = import_module("primep2p.net.libp2p_transport")
    except ImportError:
        return  # libp2p is broken, which has been said
    held = _held(scene.daemon) if scene.daemon else set()
    for address, maddr in zip(scene.config.p2p.listen, transport.parse_listen(scene.config.p2p.listen), strict=True):
        if scene.daemon and (_port(address) in held or not _port(address)):
            said = f"{address} is this node's own: its daemon runs, pid {scene.daemon.pid}"
            yield Finding(what="port", state="ok", said=said)
            continue
        try:
            transport.require_free_port(maddr)
        except ConfigError as error:
            taken = "stop the program that has it, another daemon perhaps, or set p2p.listen to another port"
            fix = taken if error.hint else "set p2p.listen to an address of this machine"
            yield Finding(what="port", state="fault", said=error.sentence.removeprefix("p2p.listen: "), fix=fix)
        else:
            yield Finding(what="port", state="ok", said=f"{address} is free")


def _held(daemon: NodeStatus) -> set[int]:
    """The ports that a daemon listens on: what it announces may be others."""
    ports = {_port(address) for address in daemon.addresses}
    with suppress(psutil.Error):
        found = psutil.Process(daemon.pid).net_connections("tcp")
        ports |= {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    return ports


def bootstrap(scene: Scene) -> Iterator[Finding]:
    """Whether somebody answers where peers to meet first are said to be."""
    wanted = scene.config.p2p.bootstrap
    if not wanted:
        said = "no peer to meet first is named: others have to dial this node"
        yield Finding(what="bootstrap", state="note", said=said, fix="set p2p.bootstrap, unless this node is the first")
        return
    connected = set(scene.daemon.connected) if scene.daemon else set()
    met = [address for address in wanted if address.rpartition("/")[2] in connected]
    dialled = dict(zip(wanted, _dial_all(wanted), strict=True))
    for address in wanted:
        if address in met:
            yield Finding(what="bootstrap", state="ok", said=f"{address} is connected")
        elif not dialled[address]:
            said = f"{address} answers; whether it is that peer, a daemon finds out"
            yield Finding(what="bootstrap", state="ok", said=said)
        else:
            said = f"{address} does not answer: {dialled[address]}"
            fix = "see that its daemon runs and its port is open; another address may be in its `primep2p status`"
            alone = not met and all(dialled.values())
            yield Finding(what="bootstrap", state="fault" if alone else "note", said=said, fix=fix)


def reachability(scene: Scene) -> Iterator[Finding]:
    """Whether others could dial this node. Only they can know: what is told from here is what speaks against it."""
    announced = scene.config.p2p.announce
    if not announced:
        yield from _unannounced(scene)
        return
    for address, failure in zip(announced, _dial_all(announced), strict=True):
        if scene.daemon is None:
            said = f"{address} is announced; whether it leads here shows when a daemon runs"
            yield Finding(what="announce", state="ok", said=said)
        elif failure:
            said = f"{address} is announced, and does not answer from here: {failure}"
            fix = "forward the port to this machine; some routers only take dials from outside: have a peer try"
            yield Finding(what="announce", state="note", said=said, fix=fix)
        else:
            yield Finding(what="announce", state="ok", said=f"{address} answers from here")


def _unannounced(scene: Scene) -> Iterator[Finding]:
    addresses = scene.daemon.addresses if scene.daemon else list(scene.config.p2p.listen)
    hosts = [_host(address) for address in addresses]
    connected = len(scene.daemon.connected) if scene.daemon else 0
    peers = f", and {many(connected, 'peer')} {'is' if connected == 1 else 'are'} connected" if scene.daemon else ""
    fix = "forward a port and set p2p.announce; without, this node dials out, to peers that can be dialled"
    if all(_is_of("is_loopback", host) for host in hosts):
        yield Finding(
            what="reachable", state="note", said=f"only from this machine: it listens on loopback{peers}", fix=fix
        )
    elif scene.daemon and all(_is_of("is_private", host) for host in hosts):
        yield Finding(
            what="reachable", state="note", said=f"from its own network: its addresses are private{peers}", fix=fix
        )
    else:
        yield Finding(what="reachable", state="ok", said=f"nothing here speaks against it; peers can tell{peers}")


def _dial_all(addresses: Iterable[str]) -> list[str]:
    """For each why it does not answer; empty where it does."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_dial, addresses))


def _dial(address: str) -> str:
    try:
        socket.create_connection((_host(address), _port(address)), DIAL_S).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _host(address: str) -> str:
    return address.split("/")[2]


def _port(address: str) -> int:
    return int(address.split("/")[4])


def _is_of(kind: str, host: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), kind))
    except ValueError:
        return False  # a name
