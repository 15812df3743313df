"""A network of namespaces on this machine: each host has its own, and all are plugged into a switch in one more.

All traffic stays inside, and all of it is gone with the context. Takes root, `ip` and `tc`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

__all__ = ["Refused", "Wires"]

SUBNET = "10.77.0"


class Refused(Exception):
    """This machine does not let a test make such a network; says why."""


class Wires:
    """`count` hosts, 10.77.0.1 and so on; as a context.

    Every packet takes `delay_s` from one to another, or is lost: by `tc netem`, or where the kernel has none by a
    process that stands in for it.
    """

    def __init__(self, count: int, *, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self._hub = f"pp2p-{os.getpid()}"
        self._delay_s = delay_s
        self._loss = loss
        self._relay: subprocess.Popen[str] | None = None
        self.spaces = [f"{self._hub}-{number}" for number in range(count)]
        self.hosts = [f"{SUBNET}.{number + 1}" for number in range(count)]

    def __enter__(self) -> Self:
        """Raises Refused."""
        if os.geteuid() != 0:
            raise Refused("making network namespaces takes root")
        for tool in ("ip", "tc"):
            if shutil.which(tool) is None:
                raise Refused(f"there is no `{tool}` on this machine (package iproute2)")
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Whatever is there goes; links go with their namespaces."""
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
        for space in (*self.spaces, self._hub):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

    def under(self, number: int) -> Sequence[str]:
        """The command that runs another one on that host."""
        return ("ip", "netns", "exec", self.spaces[number])

    def part(self, numbers: Iterable[int]) -> None:
        """These hosts hear each other, and nobody else; nor does anybody hear them. Nothing tells them so."""
        for number in numbers:
            self._in_hub("link", "set", f"port{number}", "master", "switch1")

    def heal(self) -> None:
        """All hear all again."""
        for number in range(len(self.spaces)):
            self._in_hub("link", "set", f"port{number}", "master", "switch0")

    def _make(self) -> None:
        for space in (self._hub, *self.spaces):
            _run("ip", "netns", "add", space)
        if self._delay_s or self._loss:
            try:
                _run("tc", "-n", self._hub, "qdisc", "add", "dev", "lo", "root", "netem")
            except Refused as refused:
                print(f"{refused}: a process stands in for it")
                self._plug_into_relay()
                return
        self._plug_into_bridge()
        if self._delay_s or self._loss:
            netem = ("netem", "delay", f"{self._delay_s * 1000:g}ms", "loss", f"{self._loss:.2%}")
            for space in self.spaces:
                _run("tc", "-n", space, "qdisc", "add", "dev", "eth0", "root", *netem)

    def _plug_into_bridge(self) -> None:
        for switch in ("switch0", "switch1"):
            self._in_hub("link", "add", switch, "type", "bridge")
            self._in_hub("link", "set", switch, "up")
        for number, space in enumerate(self.spaces):
            port = f"port{number}"
            self._in_hub("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._in_hub("link", "set", port, "master", "switch0", "up")
            self._set_up(number)

    def _plug_into_relay(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("relay.py"))]
        command = [*program, str(self._delay_s), str(self._loss), *self.spaces]
        self._relay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._relay.stdout is not None
        if (said := self._relay.stdout.readline()) != "plugged\n":
            raise Refused(f"no devices for a switch in a process: {said}{self._relay.stdout.read()}")
        for number in range(len(self.spaces)):
            self._set_up(number)

    def _set_up(self, number: int) -> None:
        space = self.spaces[number]
        _run("ip", "-n", space, "addr", "add", f"{self.hosts[number]}/24", "dev", "eth0")
        for interface in ("eth0", "lo"):
            _run("ip", "-n", space, "link", "set", interface, "up")

    def _in_hub(self, *command: str) -> None:
        _run("ip", "-n", self._hub, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"`{' '.join(command)}` is refused here: {done.stderr.strip()}")
