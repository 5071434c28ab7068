# SPDX-License-Identifier: Apache-2.0
"""IP packets from a capture file, or from an interface as they pass.

A packet is what lies behind the link layer, from the IP header on, and may be cut
off behind the TCP header. What is not IP at all comes along: `Packet.parse` says so.

Files are pcap and pcapng, in either byte order and any resolution of time. A pcapng
is read by the link type and the clock of its first interface, as dpkt does. Link
types: https://www.tcpdump.org/linktypes.html. Interfaces: packet(7).
"""

import io
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import dpkt

from cloud_toa.errors import ToaError

ANY = "any"
"""In place of an interface's name: all of them."""

_VLAN_TAGS = {0x8100, 0x88A8, 0x9100}
_IP_VERSIONS = {0x0800: 4, 0x86DD: 6}
_NO_PROTOCOL = -1
# By link type: the header's length, and where in it the EtherType is, in bytes.
_LINK_LAYERS = {
    0: (4, _NO_PROTOCOL),  # BSD loopback
    1: (14, 12),  # Ethernet
    12: (0, _NO_PROTOCOL),  # raw IP, as some systems number it
    14: (0, _NO_PROTOCOL),
    101: (0, _NO_PROTOCOL),  # raw IP
    108: (4, _NO_PROTOCOL),  # OpenBSD loopback
    113: (16, 14),  # Linux cooked
    228: (0, _NO_PROTOCOL),  # raw IPv4
    229: (0, _NO_PROTOCOL),  # raw IPv6
    276: (20, 0),  # Linux cooked, version 2
}
_LINK_TYPE_MASK = 0xFFFF  # the bits above say how long an Ethernet checksum is

_MAX_RECORD = 1 << 24
"""Bytes. No packet is longer (libpcap's limit is 256 KiB): the file is damaged there."""

_YEAR_10000 = 253402300800

_ETH_P_ALL = 3
_ARPHRD_LOOPBACK = 772
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_HEADERS = 512
"""Bytes of a live packet that are copied: enough for IP, its extensions and TCP."""
_BUFFER = 1 << 23
"""Bytes of packets that may wait to be read, as the kernel counts: some 10,000 of them."""


class Captured(NamedTuple):
    """One packet: when it passed (seconds since 1970), and its bytes from IP on."""

    time: float
    data: bytes


class CaptureError(ToaError):
    """A file or an interface that packets can't be read from (any further)."""


class _Reader(Protocol):
    def __iter__(self) -> Iterator[tuple[float, bytes]]: ...
    def datalink(self) -> int: ...


class _DamagedError(Exception):
    """The file ends inside a record, or has a length that can't be."""


_UNREADABLE = (_DamagedError, dpkt.dpkt.Error, struct.error, OSError, ValueError)


class _Exact:
    """A file for dpkt, which itself does not notice that the end cuts a packet off."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._ended = False

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_RECORD:
            raise _DamagedError
        data = self._file.read(size)
        # Nothing at all is right where a record would begin; then dpkt asks no more.
        if self._ended or 0 < len(data) < size:
            raise _DamagedError
        self._ended = size > 0 and not data
        return data

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)


def from_file(path: Path) -> Iterator[Captured]:
    """The packets of a pcap or pcapng file, in its order.

    Raises:
        CaptureError: the file can't be opened or is no capture of a known link
            type; or, behind the last whole packet, that it is damaged from there on.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CaptureError(f"can't read {str(path)!r}: {error.strerror}") from None
    with file:
        try:
            reader: _Reader = dpkt.pcap.UniversalReader(_Exact(file))
        except _UNREADABLE:
            raise CaptureError(
                f"{str(path)!r} is not a pcap or pcapng file: write one with tcpdump -w"
            ) from None
        link = reader.datalink() & _LINK_TYPE_MASK
        if link not in _LINK_LAYERS:
            raise CaptureError(
                f"{str(path)!r} has packets of link type {link}, not IP: "
                "capture on an interface with IP, or with tcpdump -i any"
            )
        try:
            for when, frame in reader:
                if not 0 <= when < _YEAR_10000:
                    raise _DamagedError
                yield Captured(float(when), network_layer(link, frame))
        except _UNREADABLE:
            raise CaptureError(
                f"{str(path)!r} is cut off or damaged: capture again for what follows"
            ) from None


def network_layer(link: int, frame: bytes) -> bytes:
    """What follows a link-layer header and its VLAN tags."""
    length, at = _LINK_LAYERS[link]
    if at == _NO_PROTOCOL:
        return frame[length:]
    return _untag(int.from_bytes(frame[at : at + 2], "big"), frame[length:])


def _untag(protocol: int, data: bytes) -> bytes:
    while protocol in _VLAN_TAGS and len(data) >= 4:
        protocol, data = int.from_bytes(data[2:4], "big"), data[4:]
    return data


def _untag_live(protocol: int, data: bytes) -> bytes:
    # Linux since 2024 names the innermost protocol, though tags may still be in front.
    version = _IP_VERSIONS.get(protocol)
    if version is None:
        return _untag(protocol, data)
    while data and data[0] >> 4 != version:
        data = data[4:]
    return data


class Live:
    """The packets of an interface, or of `ANY`, from now on. Needs CAP_NET_RAW.

    They end when none has come for ``quiet`` seconds, if that is given.

    Raises:
        CaptureError: no such interface, not allowed, or it went down.
    """

    def __init__(self, interface: str, quiet: float | None = None) -> None:
        names = [name for _, name in socket.if_nameindex()]
        if interface not in (ANY, *names):
            raise CaptureError(f"no interface {interface!r}: name one of {ANY}, {', '.join(names)}")
        self.interface = interface
        try:
            # Protocol 0 receives nothing until bind, so nothing of other interfaces either.
            protocol = socket.htons(_ETH_P_ALL) if interface == ANY else 0
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, protocol)
        except PermissionError:
            raise CaptureError(
                f"reading packets from {interface!r} needs root (CAP_NET_RAW): run it with sudo"
            ) from None
        self._socket.settimeout(quiet)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):  # CAP_NET_ADMIN
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        if interface != ANY:
            self._socket.bind((interface, _ETH_P_ALL))

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __iter__(self) -> Iterator[Captured]:
        while True:
            try:
                data, told, _, address = self._socket.recvmsg(
                    _HEADERS, socket.CMSG_SPACE(_TIMESPEC.size)
                )
            except TimeoutError:
                return
            except OSError as error:
                raise CaptureError(
                    f"can't read from {self.interface!r} any more: {error.strerror}"
                ) from None
            _, protocol, direction, hardware, _ = address
            # Loopback shows each packet twice, once going out and once coming in.
            if (direction, hardware) != (socket.PACKET_OUTGOING, _ARPHRD_LOOPBACK):
                seconds, nanoseconds = _TIMESPEC.unpack(told[0][2])
                yield Captured(seconds + nanoseconds / 1e9, _untag_live(protocol, data))

    def missed(self) -> int:
        """Packets that passed too fast to be read since the last call."""
        counts = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("II", counts)[1])
