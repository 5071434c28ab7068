# SPDX-License-Identifier: Apache-2.0
"""What a host's kernel has in memory for its connections, before, at most during, and after."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from cloud_toa import kmod
from cloud_toa.isolation import Namespace

Sample = dict[str, int]
"""``slab``: bytes of all the kernel's objects. ``half_open``: objects for connections whose
handshake is not complete; the kernel keeps some spare ones. ``buffers``: bytes of TCP's. These are
the whole machine's. ``sockets``: the host's TCP sockets, listening and orphaned ones too.
``entries``: clients that toa.ko keeps."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAUSE = 0.1
_HALF_OPEN = "request_sock_TCP"


def sample(host: Namespace) -> Sample:
    """What there is now."""
    slab = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:")
    )
    with host.entered():
        lines = Path("/proc/thread-self/net/sockstat").read_text().splitlines()
        lines += Path("/proc/thread-self/net/sockstat6").read_text().splitlines()
    words = {line.split()[0]: line.split() for line in lines}
    tcp = words["TCP:"]
    # name <active_objs> ...
    objects = [line.split()[:2] for line in Path("/proc/slabinfo").read_text().splitlines()]
    module = kmod.status()
    return {
        "slab": 1024 * int(slab.split()[1]),
        "half_open": sum(int(count) for name, count in objects if name.startswith(_HALF_OPEN)),
        "buffers": _PAGE * int(tcp[tcp.index("mem") + 1]),
        "sockets": int(tcp[tcp.index("inuse") + 1]) + int(words["TCP6:"][2]),
        "entries": module.entries if module else 0,
    }


def most(host: Namespace, until: Callable[[], bool]) -> Sample:
    """The most of each that there is, until something is so."""
    found = sample(host)
    while not until():
        found = {name: max(found[name], number) for name, number in sample(host).items()}
        time.sleep(_PAUSE)  # nothing tells when memory grows
    return found
