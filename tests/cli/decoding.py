# SPDX-License-Identifier: Apache-2.0
"""The decode command, packets that name a client and what it lists of them."""

import subprocess
import sys
from collections.abc import Callable

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

DECODE = (sys.executable, "-m", "cloud_toa", "decode")
UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

V4 = IP(src="10.9.0.1", dst="10.9.0.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
TOA_V4 = (254, bytes.fromhex("934dcb0071de"))
TOA_V6 = (254, bytes.fromhex("cbfd20010db800000000ec99108ddb5b5fab"))
WHEN = 1700000000.25

FROM_V4 = {
    "time": WHEN,
    "source": "10.9.0.1:40000",
    "destination": "10.9.0.2:80",
    "flags": "S",
    "client": "203.0.113.222:37709",
}
FROM_V6 = {
    "time": WHEN,
    "source": "[2001:db8::1]:40000",
    "destination": "[2001:db8::2]:80",
    "flags": "PA",
    "client": "[2001:db8::ec99:108d:db5b:5fab]:52221",
}


def tcp(option: tuple[int, bytes] | None = TOA_V4, flags: str = "S", sport: int = 40000) -> TCP:
    return TCP(sport=sport, dport=80, flags=flags, options=[option] if option else [])


PACKET_V4 = V4 / tcp()
PACKET_V6 = V6 / tcp(TOA_V6, "PA") / Raw(b"hello")


def run(*arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = (*before, *DECODE, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def refused(*arguments: str, before: tuple[str, ...] = ()) -> str:
    """The one line on standard error of a command that does nothing else."""
    done = run(*arguments, before=before)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cloud-toa")
    return done.stderr.partition(": ")[2].rstrip("\n")


def ethernet(inner: Packet) -> bytes:
    return bytes(Ether() / inner)


LINK_LAYERS: dict[str, tuple[int, Callable[[Packet], bytes]]] = {
    "ethernet": (1, ethernet),
    "vlan": (1, lambda inner: bytes(Ether() / Dot1Q(vlan=7) / inner)),
    "stacked vlans": (1, lambda inner: bytes(Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=8) / inner)),
    "padded ethernet": (1, lambda inner: ethernet(inner).ljust(120, b"\xfe")),
    "linux cooked": (113, lambda inner: bytes(CookedLinux() / inner)),
    "linux cooked 2": (276, lambda inner: bytes(CookedLinuxV2() / inner)),
    "vlan in linux cooked 2": (276, lambda inner: bytes(CookedLinuxV2() / Dot1Q() / inner)),
    "raw": (101, bytes),
    "raw as 12": (12, bytes),
    "raw as 14": (14, bytes),
    "null, little-endian": (0, lambda inner: b"\x1e\0\0\0" + bytes(inner)),
    "null, big-endian": (0, lambda inner: b"\0\0\0\x02" + bytes(inner)),
    "loop": (108, lambda inner: b"\0\0\0\x02" + bytes(inner)),
}
