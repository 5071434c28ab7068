# SPDX-License-Identifier: Apache-2.0
"""A way from the edge to the origin that takes its time, without netem: two TUN devices."""

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace

FAR = "10.10.0.2"
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001


@contextmanager
def far_origin(lab: Lab, seconds: float) -> Iterator[str]:
    """The origin's address ``FAR``; packets to it are this late, and their answers are not."""
    subprocess.run(["modprobe", "tun"], check=False)  # built in here and there
    here, there = _device(lab.edge, "far"), _device(lab.origin, "near")
    lab.edge.ip("link set far up", f"route add {FAR}/32 dev far")
    lab.origin.ip(f"address add {FAR}/32 dev near", "link set near up")
    for namespace, device in ((lab.origin, "near"), (lab.origin, "all")):
        namespace.sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
    end, ends = os.pipe()
    relay = threading.Thread(target=_relay, args=(here, there, end, seconds))
    relay.start()
    try:
        yield FAR
    finally:
        os.close(ends)
        relay.join()
        for fd in (here, there, end):
            os.close(fd)


def _device(namespace: Namespace, name: str) -> int:
    with namespace.entered():
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TUN_NO_PI))
    return device


def _relay(here: int, there: int, end: int, seconds: float) -> None:
    """Carry packets until ``end`` is closed; a wait this short is a look at the clock."""
    under_way: deque[tuple[float, bytes]] = deque()
    while True:
        ready, _, _ = select.select([here, end], [], [], 0 if under_way else None)
        if end in ready:
            return
        if ready:
            under_way.append((time.monotonic() + seconds, os.read(here, 1 << 16)))
        while under_way and under_way[0][0] <= time.monotonic():
            os.write(there, under_way.popleft()[1])
