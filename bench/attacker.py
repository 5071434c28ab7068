# SPDX-License-Identifier: Apache-2.0
"""A host on the origin's own network, which may send anything.

::

    edge     10.9.0.1  fd09::1 ---.
    origin   10.9.0.2  fd09::2 --- switch
    attacker                   ---'

Edge and origin are at a switch instead of a cable, so what is sent in the edge's name is
answered to the edge, as it would be, and not to the attacker. The origin has a way to everywhere:
without one, its kernel would not even answer a random source. It leads to the edge, which
forwards nothing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.isolation import Namespace

DEVICE = "eth0"
"""The attacker's and the origin's."""
_SWITCH = "switch"


@dataclass(frozen=True)
class Link:
    """A device: its hardware address, and packets since it is there."""

    address: bytes
    sent: int
    received: int


@contextmanager
def attacker(lab: Lab) -> Iterator[Namespace]:
    """Have such a host at the lab's origin.

    Before anything uses the cable between edge and origin, which is taken away.
    """
    host, switch = Namespace("attacker"), Namespace(_SWITCH)
    try:
        lab.origin.ip(f"link del {DEVICE}")
        lab.origin.ip(
            *_plugged(lab.origin, DEVICE, ORIGIN),
            *(f"route add default via {address}" for address in EDGE_TO_ORIGIN.values()),
        )
        lab.edge.ip(*_plugged(lab.edge, "to-origin", EDGE_TO_ORIGIN))
        lab.edge.sysctl("net.ipv4.ip_forward", 0)
        host.ip(*_plugged(host, DEVICE, {}))
        ports = [each.name for each in (lab.origin, lab.edge, host)]
        switch.ip(
            f"link add {_SWITCH} type bridge",
            f"link set {_SWITCH} up",
            *(f"link set {port} master {_SWITCH} up" for port in ports),
        )
        yield host
    finally:
        host.remove()
        switch.remove()


def link(host: Namespace) -> Link:
    """What the host's kernel says of its device."""
    (shown,) = json.loads(host.run("ip", "-json", "-statistics", "link", "show", DEVICE))
    counted = shown["stats64"]
    return Link(
        bytes.fromhex(shown["address"].replace(":", "")),
        counted["tx"]["packets"],
        counted["rx"]["packets"],
    )


def _plugged(host: Namespace, device: str, addresses: dict[int, str]) -> list[str]:
    """Lines of ip for a cable from a host to the switch, whose end has the host's name."""
    return [
        f"link add {device} type veth peer name {host.name} netns {_SWITCH}",
        *(
            # An address that is still being probed for duplicates can't be bound to.
            f"address add {address}/{'64' if version == 6 else '24'} dev {device}"
            + " nodad" * (version == 6)
            for version, address in addresses.items()
        ),
        f"link set {device} up",
    ]
