# SPDX-License-Identifier: Apache-2.0
"""Put the client into a packet's TCP options, fast. Pure but for the path's MTU.

What `packet.insert` does, for the packets that a load balancer's host itself sends: IPv4
without IP options and IPv6 without extension headers. Nothing is summed up again: a
checksum changes by what was added to the words under it (RFC 1624, equation 3), so the
data is not even looked at. Other packets are left to `packet.insert`.

The option is written in front of the others, at an even offset, so that the words behind
it stay words.
"""

from collections.abc import Callable
from struct import Struct

from cloud_toa import packet
from cloud_toa.errors import ToaError
from cloud_toa.option import V4_LENGTH, V6_LENGTH, Client, encode
from cloud_toa.packet import SYN, NoRoomError, Packet

__all__ = ["LeftAloneError", "NoRoomError", "Writer"]

# Version and IHL, TOS, length, id, fragment, TTL, protocol, checksum, source, destination; ports,
# sequence, acknowledgement, data offset, flags, window, checksum, urgent pointer.
_V4 = Struct("!BBHHHBBHI4sHHIIBBHHH")
# Version, class and flow, length, next header, hop limit, source, destination; TCP as above.
_V6 = Struct("!IHBB8H16sHHIIBBHHH")
_OPTION_V4 = Struct("!BBHI")
_OPTION_V6 = Struct("!BBH8H")
_V4_HEADERS = 40
_V6_HEADERS = 60
_WORDS = {V4_LENGTH: Struct("!4H"), V6_LENGTH: Struct("!10H")}

_PLAIN_V4 = 0x45
_FRAGMENT = 0x3FFF
_LEAST_HEADER, _FULL_HEADER = 5 << 4, 15 << 4
"""The data offset's byte, in whose upper half is the header's length in 32-bit words."""
_MAX_LENGTH = 65535
_SMALL = 552
"""Bytes that every IPv4 path takes, as Linux believes no less (net.ipv4.route.min_pmtu)."""

_EXPERIMENTAL = 254
_FASTOPEN_MAGIC = b"\xf9\x89"
_SMC_MAGIC = b"\xe2\xd4\xc3\xd9"

Data = bytes | bytearray
Parts = tuple[Data, Data]

PathMtu = Callable[[bytes], int]
"""The path's MTU in bytes to an address of 4 or 16 bytes."""


class LeftAloneError(ToaError):
    """A packet that can only go as it is: no TCP that we understand, or Linux would misread it."""


class Writer:
    """Writes options of these kinds."""

    def __init__(self, kind_v4: int, kind_v6: int, path_mtu: PathMtu) -> None:
        self._kind_v4 = kind_v4
        self._kind_v6 = kind_v6
        self._path_mtu = path_mtu

    def write(self, data: Data, at: int, end: int, named: bytes = b"") -> Parts:
        """The packet ``data[at:end]`` with an option: the one given, else of its own source.

        The packet's checksums must be complete, and are believed.

        Returns:
            Two parts: the headers with the option, and what is behind it.

        Raises:
            NoRoomError: the header is full, or the path's MTU would be exceeded.
            LeftAloneError: it must go as it is.
        """
        version = data[at] >> 4 if end > at else 0
        if version == 4 and end - at >= _V4_HEADERS:
            return self._write_v4(data, at, end, named)
        if version == 6 and end - at >= _V6_HEADERS:
            return self._write_v6(data, at, end, named)
        return self._write_other(bytes(data[at:end]), named)

    def _write_v4(self, data: Data, at: int, end: int, option: bytes) -> Parts:
        (
            first, tos, total, ident, fragment, ttl, protocol, ip_sum, source, destination,
            port, to_port, sequence, acked, offset, flags, window, tcp_sum, urgent,
        ) = _V4.unpack_from(data, at)  # fmt: skip
        if (
            first != _PLAIN_V4
            or protocol != packet.TCP
            or fragment & _FRAGMENT
            or total != end - at
            or offset < _LEAST_HEADER
        ):
            return self._write_other(bytes(data[at:end]), option)
        if option:
            added = sum(_WORDS[len(option)].unpack(option))
        else:
            option = _OPTION_V4.pack(self._kind_v4, V4_LENGTH, port, source)
            added = (self._kind_v4 << 8) + V4_LENGTH + port + (source >> 16) + (source & 0xFFFF)
        length = len(option)
        total += length
        if (offset & 0xF0) + length * 4 > _FULL_HEADER or total > _MAX_LENGTH:
            raise NoRoomError
        if total > _SMALL and total > self._path_mtu(destination):
            raise NoRoomError
        if flags & SYN:
            _check_magic(option)
        ip_sum = (ip_sum ^ 0xFFFF) + length
        # The pseudo-header's length, the data offset (in the upper half of its word), the option.
        tcp_sum = (tcp_sum ^ 0xFFFF) + length + (length << 10) + added
        tcp_sum = (tcp_sum & 0xFFFF) + (tcp_sum >> 16)
        return (
            _V4.pack(
                first, tos, total, ident, fragment, ttl, protocol,
                (ip_sum & 0xFFFF) + (ip_sum >> 16) ^ 0xFFFF, source, destination,
                port, to_port, sequence, acked, offset + length * 4, flags, window,
                (tcp_sum & 0xFFFF) + (tcp_sum >> 16) ^ 0xFFFF, urgent,
            )
            + option,
            data[at + _V4_HEADERS : end],
        )  # fmt: skip

    def _write_v6(self, data: Data, at: int, end: int, option: bytes) -> Parts:
        (
            first, total, protocol, hops, a, b, c, d, e, f, g, h, destination,
            port, to_port, sequence, acked, offset, flags, window, tcp_sum, urgent,
        ) = _V6.unpack_from(data, at)  # fmt: skip
        if protocol != packet.TCP or total + 40 != end - at or offset < _LEAST_HEADER:
            return self._write_other(bytes(data[at:end]), option)
        if option:
            added = sum(_WORDS[len(option)].unpack(option))
        else:
            option = _OPTION_V6.pack(self._kind_v6, V6_LENGTH, port, a, b, c, d, e, f, g, h)
            added = (self._kind_v6 << 8) + V6_LENGTH + port + a + b + c + d + e + f + g + h
        length = len(option)
        total += length
        if (offset & 0xF0) + length * 4 > _FULL_HEADER or total > _MAX_LENGTH:
            raise NoRoomError
        if total > _SMALL and total + 40 > self._path_mtu(destination):
            raise NoRoomError
        if flags & SYN:
            _check_magic(option)
        tcp_sum = (tcp_sum ^ 0xFFFF) + length + (length << 10) + added
        tcp_sum = (tcp_sum & 0xFFFF) + (tcp_sum >> 16)
        return (
            _V6.pack(
                first, total, protocol, hops, a, b, c, d, e, f, g, h, destination,
                port, to_port, sequence, acked, offset + length * 4, flags, window,
                (tcp_sum & 0xFFFF) + (tcp_sum >> 16) ^ 0xFFFF, urgent,
            )
            + option,
            data[at + _V6_HEADERS : end],
        )  # fmt: skip

    def _write_other(self, data: bytes, option: bytes) -> Parts:
        try:
            parsed = Packet.parse(data)
            option = option or encode(Client(*parsed.source), self._kind_v4, self._kind_v6)
            written = packet.insert(data, option)
        except NoRoomError:
            raise
        except ToaError as error:
            raise LeftAloneError(str(error)) from error
        if len(written) > self._path_mtu(parsed.destination[0].packed):
            raise NoRoomError
        if parsed.flags & SYN:
            _check_magic(option)
        return written, b""


def _check_magic(option: bytes) -> None:
    """Refuse what Linux reads in a SYN as Fast Open or SMC (design: kind 254 is experimental)."""
    if option[0] == _EXPERIMENTAL and (option[2:4] == _FASTOPEN_MAGIC or option[2:6] == _SMC_MAGIC):
        raise LeftAloneError("Linux would read this SYN's option as its own")
