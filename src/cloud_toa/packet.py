# SPDX-License-Identifier: Apache-2.0
"""An IPv4 or IPv6 packet with TCP in it: take an option in or out, checksums right.

Works on whole packets as bytes, from the IP header on. The option goes in front
of those that are there: behind them, an End of Option List could hide it. Pure.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers), RFC 9293
(TCP, its checksum over a pseudo-header), RFC 1071 (the Internet checksum).
"""

import array
import sys
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from cloud_toa.errors import ToaError
from cloud_toa.option import MAX_OPTIONS, IPAddress, Kinds, is_toa, options

TCP = 6
_TCP_HEADER = 20
_IPV6_HEADER = 40
_MAX_PACKET = 65535
_ROUTING = 43
_EXTENSIONS = {0, _ROUTING, 60}  # hop-by-hop, routing, destination options
_FRAGMENT = 44
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


class PacketError(ToaError, ValueError):
    """Not a whole, unfragmented IP packet with a TCP header."""


class NoRoomError(PacketError):
    """The TCP header or the packet has no room for the option."""


@dataclass(frozen=True)
class Packet:
    """Where the parts of a packet lie. Offsets are in bytes from its start.

    ``data`` ends with the IP packet: what a link layer padded it with is cut off. A
    packet from a capture may end before, but not inside the TCP header.
    """

    data: bytes
    tcp: int
    length: int

    @classmethod
    def parse(cls, data: bytes, cut: bool = False) -> "Packet":
        """Find the TCP header. ``cut`` allows for a capture without all of the payload.

        Raises:
            PacketError: too short, not IP, a fragment, not TCP, or lengths that lie.
        """
        version = data[0] >> 4 if data else 0
        if version == 4:
            packet = _parse_v4(data)
        elif version == 6:
            packet = _parse_v6(data)
        else:
            raise PacketError("not an IPv4 or IPv6 packet")
        if not cut and len(packet.data) < packet.length:
            raise PacketError(
                f"the IP header says {packet.length} bytes, the packet has {len(data)}"
            )
        if len(packet.data) < packet.tcp + _TCP_HEADER:
            raise PacketError("the TCP header is cut short")
        if not packet.tcp + _TCP_HEADER <= packet.payload <= len(packet.data):
            raise PacketError("the TCP data offset points outside the packet")
        return packet

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.data[0] >> 4

    @property
    def payload(self) -> int:
        """Where the TCP payload begins."""
        return self.tcp + (self.data[self.tcp + 12] >> 4) * 4

    @property
    def options(self) -> bytes:
        """The TCP options, padding included: 0 to 40 bytes."""
        return self.data[self.tcp + _TCP_HEADER : self.payload]

    @property
    def flags(self) -> int:
        """The TCP flags as bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ..."""
        return self.data[self.tcp + 13]

    @cached_property
    def source(self) -> tuple[IPAddress, int]:
        """Source address and port."""
        ip = self._address(12, 8)
        return ip, int.from_bytes(self.data[self.tcp : self.tcp + 2], "big")

    @cached_property
    def destination(self) -> tuple[IPAddress, int]:
        """Destination address and port."""
        ip = self._address(16, 24)
        return ip, int.from_bytes(self.data[self.tcp + 2 : self.tcp + 4], "big")

    def _address(self, v4: int, v6: int) -> IPAddress:
        if self.version == 4:
            return IPv4Address(self.data[v4 : v4 + 4])
        return IPv6Address(self.data[v6 : v6 + 16])


def insert(packet: Packet, option: bytes) -> bytes:
    """The packet with ``option`` in front of its TCP options.

    Raises:
        ValueError: the option's length is not a multiple of 4.
        NoRoomError: more than 40 bytes of options, or more than 65,535 of packet.
    """
    if len(option) % 4:
        raise ValueError("an option goes in by whole 32-bit words")
    if len(packet.options) + len(option) > MAX_OPTIONS:
        raise NoRoomError(f"{len(packet.options)} of {MAX_OPTIONS} option bytes are taken")
    return _with_options(packet, option + packet.options)


def strip(packet: Packet, kinds: Kinds) -> bytes:
    """The packet without its first TOA; as it is where it has none.

    An option whose length is not a multiple of 4 is replaced by padding.
    """
    for at, kind, option in options(packet.options):
        if option and is_toa(kind, option, kinds):
            padding = b"\x01" * (len(option) % 4 and len(option))
            rest = packet.options[at + len(option) :]
            return _with_options(packet, packet.options[:at] + padding + rest)
    return packet.data


def checksum(data: bytes) -> int:
    """The Internet checksum: the ones' complement of the ones' complement sum of words."""
    words = array.array("H", data + b"\0" * (len(data) % 2))
    if sys.byteorder == "little":
        words.byteswap()
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def checksums_valid(data: bytes) -> bool:
    """Whether the IPv4 header's and the TCP checksum are right.

    Raises:
        PacketError: not a packet that this module understands.
    """
    packet = Packet.parse(data)
    segment = packet.data[packet.tcp :]
    if packet.version == 4 and checksum(packet.data[: packet.tcp]):
        return False
    return not checksum(_pseudo_header(packet.data, len(segment)) + segment)


def _parse_v4(data: bytes) -> Packet:
    if len(data) < _TCP_HEADER:
        raise PacketError("the IPv4 header is cut short")
    header, total = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
    if not 20 <= header <= total:
        raise PacketError("the IPv4 header's lengths contradict each other")
    if int.from_bytes(data[6:8], "big") & 0x3FFF:
        raise PacketError("a fragment: it holds only a part of the TCP segment")
    if data[9] != TCP:
        raise PacketError(f"IP protocol {data[9]} is not TCP")
    return Packet(data[:total], header, total)


def _parse_v6(data: bytes) -> Packet:
    if len(data) < _IPV6_HEADER:
        raise PacketError("the IPv6 header is cut short")
    total = _IPV6_HEADER + int.from_bytes(data[4:6], "big")
    following, at = data[6], _IPV6_HEADER
    while following in _EXTENSIONS:
        if at + 8 > min(total, len(data)):
            raise PacketError("an IPv6 extension header is cut short")
        if following == _ROUTING and data[at + 3]:
            # Its checksum is over the last destination, which lies in this header.
            raise PacketError("an IPv6 routing header with segments left")
        following, at = data[at], at + (data[at + 1] + 1) * 8
    if following == _FRAGMENT:
        raise PacketError("a fragment: it holds only a part of the TCP segment")
    if following != TCP:
        raise PacketError(f"IP protocol {following} is not TCP")
    return Packet(data[:total], at, total)


def _with_options(packet: Packet, replaced: bytes) -> bytes:
    tcp = packet.tcp
    header = bytearray(packet.data[tcp : tcp + _TCP_HEADER])
    header[12] = (header[12] & 15) | (5 + len(replaced) // 4) << 4
    header[16:18] = b"\0\0"
    segment = bytes(header) + replaced + packet.data[packet.payload :]
    network = bytearray(packet.data[:tcp])
    length = tcp + len(segment)
    if packet.version == 4:
        if length > _MAX_PACKET:
            raise NoRoomError(f"the packet would have {length} bytes")
        network[2:4] = length.to_bytes(2, "big")
        network[10:12] = b"\0\0"
        network[10:12] = checksum(bytes(network)).to_bytes(2, "big")
    else:
        if length - _IPV6_HEADER > _MAX_PACKET:
            raise NoRoomError(f"the packet would have {length} bytes")
        network[4:6] = (length - _IPV6_HEADER).to_bytes(2, "big")
    total = checksum(_pseudo_header(bytes(network), len(segment)) + segment)
    return bytes(network) + segment[:16] + total.to_bytes(2, "big") + segment[18:]


def _pseudo_header(network: bytes, length: int) -> bytes:
    if network[0] >> 4 == 4:
        return network[12:20] + bytes((0, TCP)) + length.to_bytes(2, "big")
    return network[8:40] + length.to_bytes(4, "big") + bytes((0, 0, 0, TCP))
