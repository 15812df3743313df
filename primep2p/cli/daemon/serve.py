"""The daemon's process: a node, its control socket, its log, and the signals that end it."""

import os
import signal
from collections.abc import Callable
from typing import Protocol

import structlog
import trio

import primep2p.cli.daemon.build as building
from primep2p.cli.daemon.logs import configure_logs, told
from primep2p.config import NodeConfig, loopback_port
from primep2p.control.handlers import NodeHandlers, NodeVerbs
from primep2p.control.place import link_path, socket_path
from primep2p.control.server import ControlServer, TcpDoor
from primep2p.control.tokens import Tokens
from primep2p.model.views.node import NodeStatus
from primep2p.tasks import TaskStatus

__all__ = ["RunnableNode", "serve", "serve_node"]

LAST_ANSWERS_S = 0.5
"""How long a stopping daemon waits for answers on their way, that of `daemon.stop` among them."""

log = structlog.get_logger("primep2p.daemon")


class RunnableNode(NodeVerbs, Protocol):
    """A node with its life."""

    @property
    def stopped(self) -> trio.Event:
        """Set by `stop`."""
        ...

    async def run(self, *, task_status: TaskStatus[None] = ...) -> None: ...


def serve(config: NodeConfig, ready: Callable[[NodeStatus], None], *, console: bool) -> None:
    """Runs the daemon of `config` until it is stopped by a call or a signal; `ready` hears when it answers calls.
    Raises PrimeError, alone or in a group."""
    configure_logs(config.home, config.log, console=console)
    with building.build(config) as node:
        trio.run(serve_node, node, config, ready)
    log.info("stopped")


async def serve_node(node: RunnableNode, config: NodeConfig, ready: Callable[[NodeStatus], None]) -> None:
    """A node with its control socket, until it is stopped."""
    path = socket_path(config.home, config.control.socket)
    server = ControlServer(path, NodeHandlers(node), link=link_path(config.home), door=_door(config))
    with told(node.events.tell):
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, node)
            nursery.start_soon(_end_when_stopped, node, server, nursery.cancel_scope)
            await nursery.start(node.run)
            await nursery.start(server.run)
            status = node.status()
            log.info("ready", peer=status.peer_id, addresses=status.addresses, pid=status.pid, home=status.home)
            ready(status)


def _door(config: NodeConfig) -> TcpDoor | None:
    """Raises ConfigError."""
    place = loopback_port(config.control.tcp)
    return TcpDoor(*place, Tokens.of(config.home)) if place else None


async def _stop_on_signal(node: RunnableNode, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if node.stopped.is_set():
                os._exit(130)  # asked twice: what is durable is durable
            log.info("stopping", signal=signal.Signals(number).name)
            node.stop()


async def _end_when_stopped(node: RunnableNode, server: ControlServer, scope: trio.CancelScope) -> None:
    await node.stopped.wait()
    with trio.move_on_after(LAST_ANSWERS_S):
        await server.idle()
    scope.cancel()
