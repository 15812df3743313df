"""Calls a second over one connection to a daemon, all on one core, and what a command costs as a whole process.

    python benches/control.py --json

`one_by_one` waits for each answer; `at_once` keeps 32 requests under way; `beside_a_flood` is one by one while another
client sends as fast as it can. Client and daemon share one core where the system can pin them (Linux).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import anyio
import psutil

from primep2p.cli.swarm.daemons import Daemon, Settings, Swarm
from primep2p.control.async_client import Client
from primep2p.control.calls.daemon import DaemonStatus
from primep2p.control.client import BlockingClient
from primep2p.control.jsonrpc import request_line
from primep2p.control.place import find_socket

UNDER_WAY = 32


def measure(seconds: float, commands: int) -> dict[str, float]:
    """All figures of one daemon without a run."""
    with tempfile.TemporaryDirectory() as base, Swarm(Path(base), [Settings()]) as swarm:
        swarm.start()
        [daemon] = swarm.daemons
        figures = {"status_command_p50_s": statistics.median(_command_s(daemon) for _ in range(commands))}
        for pid in (daemon.pid, os.getpid()):
            _pin(pid)
        figures["one_by_one_per_s"] = _one_by_one(daemon, seconds)
        figures["at_once_per_s"] = anyio.run(_at_once, daemon, seconds)
        stop = threading.Event()
        flood = threading.Thread(target=_flood, args=(daemon, stop))
        flood.start()
        figures["beside_a_flood_per_s"] = _one_by_one(daemon, seconds)
        stop.set()
        flood.join()
    return {name: round(figure, 3) for name, figure in figures.items()}


def _pin(pid: int) -> None:
    process = psutil.Process(pid)
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity([0])


def _command_s(daemon: Daemon) -> float:
    began_at = time.perf_counter()
    command = [sys.executable, "-m", "primep2p.cli.main", "status", "--json", "--home", str(daemon.home)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_at


def _one_by_one(daemon: Daemon, seconds: float) -> float:
    with BlockingClient(daemon.home) as client:
        began_at, calls = time.perf_counter(), 0
        while (took_s := time.perf_counter() - began_at) < seconds:
            client.call(DaemonStatus())
            calls += 1
    return calls / took_s


async def _at_once(daemon: Daemon, seconds: float) -> float:
    calls = 0
    async with Client.open(daemon.home) as client, anyio.create_task_group() as group:
        until = time.perf_counter() + seconds

        async def ask() -> None:
            nonlocal calls
            while time.perf_counter() < until:
                await client.call(DaemonStatus())
                calls += 1

        for _ in range(UNDER_WAY):
            group.start_soon(ask)
    return calls / seconds


def _flood(daemon: Daemon, stop: threading.Event) -> None:
    lines = request_line(1, DaemonStatus.name, {}) * 1000
    with socket.socket(socket.AF_UNIX) as flooding:
        flooding.connect(str(find_socket(daemon.home)))
        flooding.setblocking(False)
        waiting = lines
        while not stop.is_set():
            with suppress(BlockingIOError):
                waiting = waiting[flooding.send(waiting) :] or lines
            try:
                flooding.recv(2**20)
            except BlockingIOError:
                time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--commands", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.seconds, arguments.commands)
    print(json.dumps(figures) if arguments.json else "\n".join(f"{name:22} {each:g}" for name, each in figures.items()))


if __name__ == "__main__":
    main()
