"""A switch that is slow and loses packets: what `tc netem` does, on a kernel that has no netem.

    python relay.py DELAY_S LOSS NAMESPACE...

Each namespace gets a device `eth0`, whose other end is this process. It says "plugged" when all are there, and they go
with it. Host n of 10.77.0.0/24 is in the n-th namespace.
"""

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

MAX_PACKET_BYTES = 1 << 16


def plug(space: str) -> int:
    """A new device in the namespace; what is sent to it is read here, one packet at a time."""
    with open(f"/var/run/netns/{space}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {space}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", b"eth0", IFF_TUN | IFF_NO_PI))
    return device


def relay(devices: list[int], delay_s: float, loss: float) -> None:
    """For ever."""
    chance = random.Random(1)
    under_way: deque[tuple[float, int, bytes]] = deque()  # the delay is the same for all, and so they stay in order
    readable = select.poll()
    for device in devices:
        readable.register(device, select.POLLIN)
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for device, _ in readable.poll(None if wait_s is None else wait_s * 1000):
            packet = os.read(device, MAX_PACKET_BYTES)
            if packet[0] >> 4 == 4 and 0 < packet[19] <= len(devices) and chance.random() >= loss:
                under_way.append((time.monotonic() + delay_s, devices[packet[19] - 1], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, device, packet = under_way.popleft()
            os.write(device, packet)


if __name__ == "__main__":
    plugged = [plug(space) for space in sys.argv[3:]]
    print("plugged", flush=True)
    relay(plugged, float(sys.argv[1]), float(sys.argv[2]))
