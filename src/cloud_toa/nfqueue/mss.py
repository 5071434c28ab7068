# SPDX-License-Identifier: Apache-2.0
"""The part of the table that lowers the MSS in an origin's SYN-ACK. Pure.

A packet with the option must not exceed the path's MTU, or it is lost. So the load
balancer's host is told a smaller MSS than the origin offers: what the device's MTU
leaves, and the origin's own less the option's length, whichever is less (nftables
never raises an MSS).

Sources: RFC 9293, section 3.7.1 (the MSS counts data, not options); nft(8), EXTENSION
HEADER STATEMENT; Linux 4.14.
"""

from collections.abc import Mapping
from itertools import pairwise

from cloud_toa.option import V4_LENGTH, V6_LENGTH

CHAIN = "syn_ack"

_IPV4_HEADERS = 40
_IPV6_HEADERS = 60
_LEAST_MTU = 256
"""Bytes. Below it no MSS would be left; nothing that carries TCP has so little."""

# nftables can't subtract, so a map has the result for each range of values. Narrow where an
# MSS usually is, for MTUs of 1,500 or 9,000 with or without tunnels; elsewhere, a start is at
# most a quarter below.
_STARTS = (
    140, 180, 230, 290, 370, 460, 536, 640, 800, 1000, *range(1200, 1500, 20), 1700, 2000, 2400,
    3000, 3700, 4300, 5200, 6500, 8000, *range(8860, 9000, 20), 10000, 12500, 15500, 19000, 23500,
    29000, 36000, 45000, 55000, 65480, 65536,
)  # fmt: skip


def maps(mtus: Mapping[str, int]) -> str:
    """The maps: what each device allows (``mtus`` in bytes), and what is a little less."""
    text = [_map(name, elements, flags="") for name, elements in devices(mtus).items()]
    for length in (V4_LENGTH, V6_LENGTH):
        ranges = pairwise(_STARTS)
        elements = ", ".join(f"{low}-{high - 1} : {low - length}" for low, high in ranges)
        text.append(_map(f"less_{length}", elements, flags="flags interval"))
    return "\n".join(text)


def devices(mtus: Mapping[str, int]) -> dict[str, str]:
    """Elements of the maps that depend on the devices, by the map's name."""
    taken = {
        "mss_ipv4": _IPV4_HEADERS + V4_LENGTH,
        "mss_ipv4_named": _IPV4_HEADERS + V6_LENGTH,
        "mss_ipv6": _IPV6_HEADERS + V6_LENGTH,
    }
    wide = [
        (name, min(mtu, 65535))
        for name, mtu in sorted(mtus.items())
        if mtu >= _LEAST_MTU and _writable(name)
    ]
    return {
        name: ", ".join(f'"{device}" : {mtu - headers}' for device, mtu in wide)
        for name, headers in taken.items()
    }


def chain(named: str) -> str:
    """The chain for SYN-ACKs; ``named`` matches those whose client may be of either family."""
    rules = [*_lower("meta nfproto ipv6", "mss_ipv6", V6_LENGTH)]
    if named:
        rules += _lower(named, "mss_ipv4_named", V6_LENGTH)
    rules += _lower("", "mss_ipv4", V4_LENGTH)
    lines = "\n".join(f"    {rule}" for rule in rules)
    return f"  chain {CHAIN} {{\n{lines}\n  }}"


def _writable(device: str) -> bool:
    """Whether nft's language has a way to write this name; Linux allows nearly every byte.

    Without a device's MTU, the origin's own MSS is lowered all the same.
    """
    return device.isprintable() and '"' not in device and not device.endswith("*")


def _lower(match: str, device_map: str, length: int) -> tuple[str, str, str]:
    size = "tcp option maxseg size"
    # The device's comes second: what was lowered for it must not be lowered again.
    return (
        f"{match} {size} set {size} map @less_{length}",
        f"{match} {size} set iifname map @{device_map}",
        f"{match} return",
    )


def _map(name: str, elements: str, flags: str) -> str:
    filled = f"elements = {{ {elements} }}" if elements else ""
    return f"""  map {name} {{
    typeof {"iifname" if not flags else "tcp option maxseg size"} : tcp option maxseg size
    {flags}
    {filled}
  }}"""
