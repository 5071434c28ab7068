# SPDX-License-Identifier: Apache-2.0
"""A TCP client by hand, packet by packet, so that any bytes can stand in its options.

Its addresses belong to no host: the lab's kernels neither answer nor reset for it.
"""

import itertools
import socket
import struct
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace
from cloud_toa.packet import ACK, FIN, PSH, RST, SYN, Packet, checksum

_MSS = bytes.fromhex("020405b4")
_ETH_P_ALL = 3
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_ports = itertools.cycle(range(10000, 60000))


End = tuple[Namespace, str]
"""Of a cable: a host and its device."""


class Wire:
    """The cable to the origin, seen from the edge, or another; and hand-made hosts on it."""

    def __init__(self, lab: Lab, near: End | None = None, far: End | None = None) -> None:
        self._far, self._device = far or (lab.origin, "eth0")
        self.socket = _on(*(near or (lab.edge, "to-origin")), socket.htons(_ETH_P_ALL))
        self.socket.settimeout(120)
        self._mac: bytes = self.socket.getsockname()[4]
        with _on(self._far, self._device, 0) as there:
            self._header = there.getsockname()[4] + self._mac

    def close(self) -> None:
        self.socket.close()

    def hosts(self, *addresses: str) -> None:
        """Let the host at the far end find these addresses on the cable."""
        at = f"lladdr {self._mac.hex(':')} dev {self._device}"
        self._far.ip(*(f"neigh replace {address} {at}" for address in addresses))

    def send(self, packet: bytes) -> None:
        self.socket.send(self._header + struct.pack("!H", _ETHERTYPE[packet[0] >> 4]) + packet)

    def receive(self, source: tuple[str, int], destination: tuple[str, int]) -> Packet:
        """The next packet of this direction that the origin sends."""
        while True:
            frame, about = self.socket.recvfrom(65535)
            if about[2] == socket.PACKET_OUTGOING or frame[12:14] not in (b"\x08\0", b"\x86\xdd"):
                continue
            if frame[23 if frame[12] == 8 else 20] != socket.IPPROTO_TCP:
                continue
            packet = Packet.parse(frame[14:])
            if (str(packet.source[0]), packet.source[1]) == source and (
                str(packet.destination[0]),
                packet.destination[1],
            ) == destination:
                return packet


@dataclass
class RawClient:
    """One connection to the origin. ``timestamp`` echoes are left out: none is offered."""

    wire: Wire
    source: str
    server: tuple[str, int]
    port: int = field(default_factory=lambda: next(_ports))
    sequence: int = 1000
    acknowledged: int = 0

    def open(self, syn: bytes = b"", ack: bytes | None = b"") -> None:
        """Shake hands, with these options behind the MSS in the SYN, and in the ACK.

        ``ack`` None leaves the ACK out: the first data completes the handshake.
        """
        options = syn if len(syn) > 36 else _MSS + syn
        self._send(SYN, options)
        answer = self.wire.receive(self.server, (self.source, self.port))
        assert answer.flags & (SYN | ACK) == SYN | ACK
        self.sequence += 1
        self.acknowledged = _number(answer, 4) + 1
        if ack is not None:
            self._send(ACK, ack)

    def data(self, payload: bytes, options: bytes = b"") -> None:
        self._send(ACK | PSH, options, payload)
        self.sequence += len(payload)

    def finish(self) -> None:
        self._send(FIN | ACK)

    def reset(self) -> None:
        self._send(RST | ACK)

    def _send(self, flags: int, options: bytes = b"", payload: bytes = b"") -> None:
        self.wire.send(
            segment(
                (self.source, self.port), self.server, flags, self.sequence, self.acknowledged,
                options, payload,
            )
        )  # fmt: skip


def segment(
    source: tuple[str, int],
    destination: tuple[str, int],
    flags: int,
    sequence: int,
    acknowledged: int,
    options: bytes,
    payload: bytes = b"",
) -> bytes:
    """An IP packet with a TCP segment; options are padded with End of Option List."""
    options += bytes(-len(options) % 4)
    here, there = _packed(source[0]), _packed(destination[0])
    offset = 5 + len(options) // 4
    header = struct.pack(
        "!HHIIBBHHH", source[1], destination[1], sequence, acknowledged, offset << 4, flags,
        65000, 0, 0,
    )  # fmt: skip
    tcp = header + options + payload
    if len(here) == 4:
        pseudo = here + there + struct.pack("!BBH", 0, 6, len(tcp))
        network = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0)
        network += here + there
        network = network[:10] + checksum(network).to_bytes(2, "big") + network[12:]
    else:
        pseudo = here + there + struct.pack("!IHBB", len(tcp), 0, 0, 6)
        network = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + here + there
    total = checksum(pseudo + tcp)
    return network + tcp[:16] + total.to_bytes(2, "big") + tcp[18:]


@cache
def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _number(packet: Packet, at: int) -> int:
    return int.from_bytes(packet.data[packet.tcp + at : packet.tcp + at + 4], "big")


def _on(host: Namespace, device: str, protocol: int) -> socket.socket:
    with host.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    sock.bind((device, 0))
    return sock
