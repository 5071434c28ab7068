# SPDX-License-Identifier: Apache-2.0
"""TCP clients behind a TUN device of the origin: many connections from one process, one by one.

Whatever is written to the device has been received when the call is back, so nothing is
waited for: the answer is there to be read. IPv4; the address is never anybody else's.
"""

import contextlib
import fcntl
import itertools
import os
import socket
import struct
import subprocess
from dataclasses import dataclass

from cloud_toa.demo.lab import Lab
from cloud_toa.packet import ACK, FIN, RST, SYN
from tests.netns.raw_tcp import segment

SERVER = ("10.77.0.1", 7000)
SOURCE = "10.77.0.2"
_NAME = "clients"
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_SEQUENCE = 1_000_000


@dataclass
class Visit:
    """A connection: the server's socket, who accept() said it is, and the client's real port."""

    conn: socket.socket
    peer: tuple[str, int]
    port: int
    acknowledged: int
    clients: "Clients"

    def reset(self) -> None:
        """The client breaks off; then the server closes."""
        self.clients.send(self.port, RST, _SEQUENCE + 1, 0)
        self.conn.close()

    def closed_by_server(self) -> None:
        """The server closes first, and the client breaks off."""
        self.conn.close()
        self.clients.send(self.port, RST, _SEQUENCE + 1, 0)

    def finish(self) -> None:
        """Both close, the client first, and every packet of it is acknowledged."""
        self.clients.send(self.port, FIN | ACK, _SEQUENCE + 1, self.acknowledged)
        self.conn.close()
        self.clients.send(self.port, ACK, _SEQUENCE + 2, self.acknowledged + 1)


class Clients:
    """Connections to ``listener``, which is made here, in the origin's network."""

    def __init__(self, lab: Lab) -> None:
        subprocess.run(["modprobe", "tun"], check=True)
        with lab.origin.entered():
            self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH14x", _NAME.encode(), _IFF_TUN_NO_PI)
            fcntl.ioctl(self._device, _TUNSETIFF, request)
            lab.origin.sysctl(f"net.ipv6.conf.{_NAME}.disable_ipv6", "1")
            lab.origin.ip(f"addr add {SERVER[0]}/24 dev {_NAME}", f"link set {_NAME} up")
            self.listener = socket.create_server(SERVER, backlog=64)
        self.listener.setblocking(False)
        self._ports = itertools.cycle(range(1024, 65000))

    def close(self) -> None:
        """End the device and the listener."""
        self.listener.close()
        os.close(self._device)

    def connect(self, ack: bytes, syn: bytes = b"") -> Visit | None:
        """Shake hands, with these options in the client's packets.

        None where the kernel refused them.
        """
        port = next(self._ports)
        self.send(port, SYN, _SEQUENCE, 0, syn)
        theirs = self._syn_ack(port)
        if theirs is None:
            return None
        self.send(port, ACK, _SEQUENCE + 1, theirs + 1, ack)
        try:
            conn, peer = self.listener.accept()
        except BlockingIOError:
            self.send(port, RST, _SEQUENCE + 1, 0)
            return None
        return Visit(conn, peer, port, theirs + 1, self)

    def _syn_ack(self, port: int) -> int | None:
        """The server's sequence number; whatever else it had to say is left behind."""
        while True:
            try:
                packet = os.read(self._device, 2048)
            except BlockingIOError:
                return None
            to, sequence, flags = struct.unpack_from("!2xHI5xB", packet, 20)
            if to == port and flags == SYN | ACK:
                return int(sequence)

    def send(
        self, port: int, flags: int, sequence: int, acknowledged: int, options: bytes = b""
    ) -> None:
        """Send one packet without data; it has been received when this is back."""
        packet = segment(
            (SOURCE, port), SERVER, flags, sequence, acknowledged & 0xFFFFFFFF, options
        )
        with contextlib.suppress(BlockingIOError):
            os.write(self._device, packet)
