"""The daemon and its peers, for people."""

from typing import Any

from primep2p.cli.render.printing import SHORT, cells, columns, duration, many, mib, print_table, say, yes
from primep2p.cli.render.runs import print_runs
from primep2p.model.views.node import OTHER_KERNELS, NodeStatus, PeerView

__all__ = [
    "show_calls",
    "show_peers",
    "show_started",
    "show_status",
]


def show_status(status: NodeStatus) -> None:
    """The daemon at a glance."""
    say(f"peer      {status.peer_id}")
    say(f"daemon    {status.version}, pid {status.pid}, up {duration(status.uptime_s)}, {mib(status.rss_bytes)}")
    say(f"network   {status.network}")
    say(f"home      {status.home}")
    for index, address in enumerate(status.addresses):
        say(f"{'' if index else 'listens':10}{address}")
    if status.backend:
        say(f"computes  with {status.backend}, {many(status.threads, 'thread')}")
    say(f"peers     {len(status.connected)} connected")
    if not status.same_kernels:
        say(f"kernels   {OTHER_KERNELS}")
    if status.runs:
        say()
        print_runs(status.runs)


def show_started(status: NodeStatus, status_command: str) -> None:
    """The daemon that has this terminal now, and how to go on."""
    show_status(status)
    say(f"Ctrl-C stops it; in another terminal: {status_command}")


def show_peers(peers: list[PeerView]) -> None:
    """A peer a row."""
    if not peers:
        say("no peers yet; p2p.bootstrap in node.toml names some to meet")
        return
    table = columns("!peer", "connected", "runs")
    for peer in peers:
        runs = " ".join(run[:SHORT] for run in peer.runs)
        table.add_row(*cells((peer.peer, yes(peer.connected), runs or "-")))
    print_table(table)
    for peer in peers:
        for fault in peer.faults:
            say(f"accused   {peer.peer}: {fault}")


def show_calls(document: dict[str, Any]) -> None:
    """A call a row, of an OpenRPC document."""
    table = columns("!call", "access", "params", "does")
    for method in document["methods"]:
        params = " ".join(param["name"] + ("" if param["required"] else "?") for param in method["params"])
        access = " ".join(tag["name"] for tag in method["tags"])
        table.add_row(*cells((method["name"], access, params or "-", method["summary"])))
    print_table(table)
