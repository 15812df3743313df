"""How libp2p is set up here: TCP, Noise only, Yamux, and a library that keeps to itself."""

import errno
import logging
import socket
from contextlib import suppress
from typing import Any

import psutil
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, new_resource_manager
from libp2p.rcmgr.memory_limits import MemoryConnectionLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from primep2p.config import is_listenable
from primep2p.keys import Identity
from primep2p.model.errors import ConfigError

__all__ = ["build_host", "keep_logs_quiet", "looked_up", "parse_listen", "require_free_port", "resolved"]

_MAX_CONNECTIONS = 1024
_MAX_CONNECTIONS_PER_PEER = 8  # two dials that cross make two, and one may not have noticed yet that another is dead
_MAX_STREAMS = 10_000
_UPGRADE_S = 10.0
_SILENT_S = 10  # many times the pauses of a link that is any good; short beside what a run loses when it waits
_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}

_log = logging.getLogger("primep2p.net.libp2p")


def build_host(identity: Identity, listen: tuple[Multiaddr, ...]) -> Any:
    """A libp2p host that speaks to authenticated peers only. Nothing listens yet."""
    keys = create_new_key_pair(identity.seed)
    host = new_host(
        key_pair=keys,
        # Noise alone: the library's default also takes peers that prove nothing about who they are.
        sec_opt={NOISE: Noise(keys, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt={YAMUX: Yamux},
        transports=[_Tcp()],
        listen_addrs=listen,
        connection_config=ConnectionConfig(
            max_connections=_MAX_CONNECTIONS,
            max_connections_per_peer=1,  # more make a dial wait 250 ms for a failure after it has succeeded
            min_connections=0,
            low_watermark=0,
            high_watermark=_MAX_CONNECTIONS,
            inbound_upgrade_timeout=_UPGRADE_S,
            outbound_upgrade_timeout=_UPGRADE_S,
        ),
        resource_manager=_limits(),
        addrs_factory=resolved,
        disable_identify_address_discovery=True,  # what others say about our address is only their word
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)  # who dials knows when to try again
    return host


def _limits() -> Any:
    """What peers may take. The library's default also shuts everybody out for a minute after five refusals."""
    return new_resource_manager(
        limits=ResourceLimits(max_connections=_MAX_CONNECTIONS, max_streams=_MAX_STREAMS),
        connection_limits=ConnectionLimits(
            max_established_total=_MAX_CONNECTIONS, max_established_per_peer=_MAX_CONNECTIONS_PER_PEER
        ),
        memory_limits=MemoryConnectionLimits(),  # none: training fills the memory, and that is no peer's doing
        enable_circuit_breaker=False,
        enable_graceful_degradation=False,
        enable_metrics=False,
    )


class _Tcp(TCP):  # type: ignore[misc]
    """TCP whose connections end when nothing comes back any more, and whose accepted ones end when they are closed.

    The library keeps the task of each accepted one, and its slot among `max_connections`, until the host stops: a node
    would accept so many connections in its life, and no more.
    """

    async def dial(self, maddr: Multiaddr) -> Any:
        connection = await super().dial(maddr)
        _end_if_silent(connection.stream.stream)
        return connection

    def create_listener(self, handler_function: Any) -> Any:
        async def handle(stream: Any) -> None:
            _end_if_silent(stream.stream)
            with trio.CancelScope() as scope:
                closing = stream.close

                async def close() -> None:
                    try:
                        await closing()
                    finally:
                        scope.cancel()

                stream.close = close
                await handler_function(stream)

        return super().create_listener(handle)


def _end_if_silent(stream: trio.SocketStream) -> None:
    """The connection breaks when the other machine has acknowledged nothing for `_SILENT_S`: it lost its power or its
    network, and did not say so. Else TCP waits for a quarter of an hour, and a partition that has healed goes unnoticed
    for as long again as it lasted, since the pauses between two tries double."""
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),  # for connections on which nothing is under way
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None)), _SILENT_S // 2),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), _SILENT_S // 2),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), _SILENT_S * 1000),
    ]
    with suppress(OSError):  # it is gone already
        for level, option, value in options:
            if option is not None:
                stream.setsockopt(level, option, value)


def parse_listen(addresses: tuple[str, ...]) -> tuple[Multiaddr, ...]:
    """Raises ConfigError for what is not an address to listen on."""
    for address in addresses:
        if not is_listenable(address):
            raise ConfigError(
                f"p2p.listen: {address!r} is not an address to listen on",
                hint="an address looks like /ip4/0.0.0.0/tcp/4650",
            )
    return tuple(map(Multiaddr, addresses))


async def looked_up(maddr: Multiaddr) -> list[Multiaddr]:
    """`maddr`, or what its name stands for on this machine: the library would ask a DNS server, and no hosts file.
    Raises OSError."""
    _, kind, host, _, port = str(maddr).split("/")
    if kind not in _FAMILIES:
        return [maddr]
    found = await trio.socket.getaddrinfo(host, port, family=_FAMILIES[kind], type=socket.SOCK_STREAM)
    families = {socket.AF_INET: "ip4", socket.AF_INET6: "ip6"}
    return [Multiaddr(f"/{families[family]}/{each[0]}/tcp/{port}") for family, _, _, _, each in found]


def require_free_port(maddr: Multiaddr) -> None:
    """Raises ConfigError where nobody can listen on `maddr`.

    The library listens with SO_REUSEPORT: a second daemon on the same port would start, and each get some of the
    other's peers.
    """
    family, host, port = _socket_address(maddr)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            hint = "another program has it; another daemon of yours?" if error.errno == errno.EADDRINUSE else ""
            raise ConfigError(
                f"p2p.listen: cannot listen on port {port} of {host}: {error.strerror}", hint=hint
            ) from error


def resolved(candidates: list[Multiaddr]) -> list[Multiaddr]:
    """The addresses where others can dial: unspecified hosts become those of the interfaces."""
    found: dict[str, Multiaddr] = {}
    for candidate in candidates:
        family, host, port = _socket_address(candidate)
        hosts = _interface_hosts(family) if host in ("0.0.0.0", "::") else [host]
        for each in hosts:
            name = f"/{'ip4' if family == socket.AF_INET else 'ip6'}/{each}/tcp/{port}"
            found.setdefault(name, Multiaddr(name))
    return list(found.values())


def _interface_hosts(family: int) -> list[str]:
    """Those of the interfaces; of loopback only where there is nothing else; no link-local ones, which need a zone."""
    hosts = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == family and "%" not in entry.address and not entry.address.startswith("fe80")
    ]
    outside = [host for host in hosts if not host.startswith("127.") and host != "::1"]
    return outside or hosts or ["127.0.0.1" if family == socket.AF_INET else "::1"]


def _socket_address(maddr: Multiaddr) -> tuple[int, str, int]:
    names = [protocol.name for protocol in maddr.protocols()]
    if names[:2] not in (["ip4", "tcp"], ["ip6", "tcp"]):
        raise ValueError(f"{maddr} is not an address of TCP")
    family = socket.AF_INET if names[0] == "ip4" else socket.AF_INET6
    return family, str(maddr.value_for_protocol(names[0])), int(maddr.value_for_protocol("tcp"))


class _Demote(logging.Handler):
    """The library warns about every peer that goes away: to us that is an event, and its lines are for debugging."""

    def emit(self, record: logging.LogRecord) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: %s", record.name, record.getMessage())


def _is_ours(record: logging.LogRecord) -> bool:
    """A filter of the root logger, on which the library logs in places; records of named loggers do not pass here."""
    if "libp2p" not in record.pathname.replace("\\", "/").split("/"):
        return True
    _log.debug("%s", record.getMessage())
    return False


def keep_logs_quiet() -> None:
    """The library's lines go to `primep2p.net.libp2p` at debug level and nowhere else. Once is enough; more do not
    harm."""
    library = logging.getLogger("libp2p")
    library.propagate = False
    if not any(isinstance(handler, _Demote) for handler in library.handlers):
        library.addHandler(_Demote())
    root = logging.getLogger()
    root.addFilter(_is_ours)  # the same filter is added once
    if not root.handlers:
        # Without any, a call on the root logger would install one that prints.
        root.addHandler(logging.NullHandler())
