# SPDX-License-Identifier: Apache-2.0
"""TCP segments, and the builders of IPv4 and IPv6 packets around them, by scapy."""

import struct
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, IPOption, in4_chksum
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    in6_chksum,
)
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from cloud_toa.option import Kinds

KINDS = Kinds((254,), (254,), (28,))
TIMESTAMPS = bytes.fromhex("0101080a11223344aabbccdd")


def tcp(options: bytes = b"", payload: bytes = b"", reserved: int = 0, **fields: Any) -> bytes:
    """A segment with these very bytes of options; its checksum is for a builder to write."""
    header = bytearray(bytes(TCP(sport=40000, dport=443, chksum=0, **fields)))
    header[12] = (5 + len(options) // 4) << 4 | reserved
    return bytes(header) + options + payload


def v4(segment: bytes, protocol: int = 6, **fields: Any) -> bytes:
    ip = IP(src="10.9.0.1", dst="10.9.0.2", proto=protocol, **fields)
    return bytes(ip / Raw(summed(segment, in4_chksum(6, ip, segment))))


def v4_options(segment: bytes) -> bytes:
    return v4(segment, options=[IPOption(b"\x94\x04\x00\x00"), IPOption(b"\x01")])


def v6(segment: bytes, protocol: int = 6, extensions: tuple[Scapy, ...] = ()) -> bytes:
    ip = IPv6(src="2001:db8::1", dst="2001:db8::2")
    for extension in extensions:
        ip /= extension
    ip.lastlayer().nh = protocol
    return bytes(ip / Raw(summed(segment, checksum_v6(ip.lastlayer(), segment))))


def v6_extended(segment: bytes) -> bytes:
    padding = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    routing = IPv6ExtHdrRouting(segleft=0, addresses=["2001:db8::3"])
    return v6(segment, extensions=(IPv6ExtHdrHopByHop(), padding, routing))


def checksum_v6(layer: Scapy, segment: bytes) -> int:
    # scapy has no type for it.
    return int(in6_chksum(6, layer, segment))  # type: ignore[no-untyped-call]


def summed(segment: bytes, checksum: int) -> bytes:
    return segment[:16] + struct.pack(">H", checksum) + segment[18:]


BUILDERS = [v4, v4_options, v6, v6_extended]
each_builder = pytest.mark.parametrize("build", BUILDERS)
