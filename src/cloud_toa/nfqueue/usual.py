# SPDX-License-Identifier: Apache-2.0
"""From the usual message of a queue straight to its verdict: one reading, one writing. Pure.

Nearly every packet that is queued is IPv4 without IP options or IPv6 without extension
headers, from a client's address, with room for the option, in a message as the output
hook sends it. Python's time goes by the number of things it touches, so here they are
few. Whatever is different in any way is left to `queue.parse`, `segment` and
`Queue.replace`, which say the same of a usual message, more slowly.

Nothing is summed up again: a checksum changes by what was added to the words under it
(RFC 1624, equation 3), so data is not even looked at. Three facts about that arithmetic,
which is modulo 65,535, make it short: words may stay in the host's byte order, since to
swap bytes is to multiply by 256 (RFC 1071, section 2B); a longer number in that order is
congruent to the sum of its words, as 65,536 is congruent to 1; and a checksum's negation
turns adding into subtracting.

The option is written in front of the others, at an even offset, so that the words behind
it stay words.

Source: linux/net/netfilter/nfnetlink_queue.c, nfqnl_build_packet_message, Linux 3.8 to 6.18.
"""

import sys
from struct import Struct

from cloud_toa.nfqueue.segment import FASTOPEN_PORT, SMALL, SMC_PORT, PathMtu
from cloud_toa.option import EXPERIMENTAL, V4_LENGTH, V6_LENGTH
from cloud_toa.packet import TCP

# A message: nlmsghdr with length and type; the packet's id in NFQA_PACKET_HDR, then
# NFQA_IFINDEX_OUTDEV; the head of NFQA_PAYLOAD.
_MESSAGE = "=IH18x4s12xHH"
_MESSAGE_LENGTH = 44
_PACKET, _PAYLOAD = 3 << 8, 10

# A verdict: nlmsghdr's length, what is always the same, the packet's id, NFQA_PAYLOAD's head.
_VERDICT = "=I24s4sHH"
_VERDICT_LENGTH = 36
_ALWAYS = Struct("=HHIIBB2sHH4s")
_VERDICT_TYPE, _REQUEST = 3 << 8 | 1, 1
_VERDICT_HDR, _VERDICT_HDR_LENGTH = 2, 12
_ACCEPT = (1).to_bytes(4, "big")
_ATTRIBUTE = 4
"""Bytes of an attribute's head, which its length includes."""
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

# Version and IHL, TOS, length, id, fragment, TTL, protocol, checksum, source, destination; then
# TCP: port, destination's port to acknowledgement, data offset, flags and window, checksum, urgent.
_TCP = "H10sB3sH2s"
_V4 = f"BsH2sHsBHI4s{_TCP}"
_V4_DATA = _MESSAGE_LENGTH + 40
_read_v4, _write_v4 = Struct(_MESSAGE + _V4).unpack_from, Struct(f"{_VERDICT}{_V4}BBHI").pack
# Version, class and flow label, length, next header, hop limit, source in halves, destination.
_V6 = f"4sHBsQQ16s{_TCP}"
_V6_DATA = _MESSAGE_LENGTH + 60
_read_v6, _write_v6 = Struct(_MESSAGE + _V6).unpack_from, Struct(f"{_VERDICT}{_V6}BBHQQ").pack

_PLAIN_V4 = 0x45
_LEAST_OFFSET = 5 << 4
"""The data offset's byte, in whose upper half is the header's length in 32-bit words."""
_MOST_V4, _MOST_V6 = 0xFF - V4_LENGTH * 4, 0xFF - V6_LENGTH * 4
"""With more, there is no room for the option."""
_LARGEST = 65534
"""Bytes of a packet; 65,535 is 0 in this arithmetic."""
_LEAST_V6_MTU = 1280

_SWAP = 256 if sys.byteorder == "little" else 1
"""A 16-bit number in network order, read in the host's: multiply by this, modulo 65,535."""
_FRAGMENT = 0x3FFF * _SWAP % 0xFFFF

# Lengths: of the packet's attribute, less the message's; of the packet with the option, less the
# message's; of the whole verdict, less that.
_SIZE = _ATTRIBUTE - _MESSAGE_LENGTH
_WITH_V4, _WITH_V6 = V4_LENGTH - _MESSAGE_LENGTH, V6_LENGTH - _MESSAGE_LENGTH


class Usual:
    """Reads messages of the queue ``number``, and writes options of these kinds."""

    def __init__(self, number: int, kind_v4: int, kind_v6: int, path_mtu: PathMtu) -> None:
        self._always = _ALWAYS.pack(
            _VERDICT_TYPE, _REQUEST, 0, 0, 0, 0, number.to_bytes(2, "big"),
            _VERDICT_HDR_LENGTH, _VERDICT_HDR, _ACCEPT,
        )  # fmt: skip
        self._kinds = kind_v4, kind_v6
        # To the packet's sum come: the pseudo-header's length, the data offset (in the upper half
        # of its word), and the option, whose first word is kind and length.
        self._added_v4, self._added_v6 = (
            (length + (length << 10) + (kind << 8 | length)) * _SWAP
            for kind, length in ((kind_v4, V4_LENGTH), (kind_v6, V6_LENGTH))
        )
        magic = {port * _SWAP % 0xFFFF for port in (FASTOPEN_PORT, SMC_PORT)}
        self._magic_v4, self._magic_v6 = (
            magic if kind == EXPERIMENTAL else set[int]() for kind in (kind_v4, kind_v6)
        )
        self._path_mtu = path_mtu

    def verdict(self, memory: bytearray, at: int) -> bytes:
        """The verdict on the message at ``at``: its packet with the option, padded to 4 bytes.

        Empty where the message is not usual. ``memory`` may have anything behind it, and
        must go on for 128 bytes at least.
        """
        if memory[at + _MESSAGE_LENGTH] == _PLAIN_V4:
            return self._verdict_v4(memory, at)
        return self._verdict_v6(memory, at)

    def _verdict_v4(self, memory: bytearray, at: int) -> bytes:
        (
            length, message, packet, size, name,
            first, tos, total, ident, fragment, ttl, protocol, ip_sum, source, destination,
            port, middle, offset, flags, tcp_sum, urgent,
        ) = _read_v4(memory, at)  # fmt: skip
        written = length + _WITH_V4
        if (
            message != _PACKET
            or name != _PAYLOAD
            or size != length + _SIZE
            or total != (written - V4_LENGTH) * _SWAP % 0xFFFF
            or protocol != TCP
            or fragment & _FRAGMENT
            or not _LEAST_OFFSET <= offset <= _MOST_V4
            or (offset >> 2) + 28 > written
            or port in self._magic_v4
            or (written > SMALL and written > min(self._path_mtu(destination), _LARGEST))
        ):
            return b""
        return (
            _write_v4(
                written + _VERDICT_LENGTH, self._always, packet, written + _ATTRIBUTE, _PAYLOAD,
                first, tos, written * _SWAP % 0xFFFF, ident, fragment, ttl, protocol,
                (ip_sum - V4_LENGTH * _SWAP) % 0xFFFF, source, destination,
                port, middle, offset + 32, flags,
                (tcp_sum - self._added_v4 - port - source) % 0xFFFF, urgent,
                self._kinds[0], V4_LENGTH, port, source,
            )
            + memory[at + _V4_DATA : at + length]
            + _PADDING[written & 3]
        )  # fmt: skip

    def _verdict_v6(self, memory: bytearray, at: int) -> bytes:
        (
            length, message, packet, size, name,
            first, total, protocol, hops, high, low, destination,
            port, middle, offset, flags, tcp_sum, urgent,
        ) = _read_v6(memory, at)  # fmt: skip
        written = length + _WITH_V6
        if (
            message != _PACKET
            or name != _PAYLOAD
            or size != length + _SIZE
            or first[0] >> 4 != 6
            or total != (written - V6_LENGTH - 40) * _SWAP % 0xFFFF
            or protocol != TCP
            or not _LEAST_OFFSET <= offset <= _MOST_V6
            or (offset >> 2) + 60 > written
            or port in self._magic_v6
            or (written > _LEAST_V6_MTU and written > min(self._path_mtu(destination), _LARGEST))
        ):
            return b""
        return (
            _write_v6(
                written + _VERDICT_LENGTH, self._always, packet, written + _ATTRIBUTE, _PAYLOAD,
                first, (written - 40) * _SWAP % 0xFFFF, protocol, hops, high, low,
                destination, port, middle, offset + 80, flags,
                (tcp_sum - self._added_v6 - port - high - low) % 0xFFFF, urgent,
                self._kinds[1], V6_LENGTH, port, high, low,
            )
            + memory[at + _V6_DATA : at + length]
            + _PADDING[written & 3]
        )  # fmt: skip
