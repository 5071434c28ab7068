# SPDX-License-Identifier: Apache-2.0
"""What load balancers and servers do, in a line each; and what went over the cable."""

import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_toa.demo.lab import Lab, inside
from cloud_toa.isolation import Namespace
from cloud_toa.packet import Packet, PacketError

SERVER = ("10.9.0.2", 7000)
SERVER6 = ("fd09::2", 7000)
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
_SO_RCVBUFFORCE = 33
_PATIENCE = 120.0
"""Seconds: in an emulated machine beside another, twenty connections took longer than twenty."""


def listen(
    lab: Lab, place: Path, address: tuple[str, int], host: Namespace | None = None
) -> socket.socket:
    """A server's listener in a cgroup; dual-stack at ``::``."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with inside(place), (host or lab.origin).entered():
        listener = socket.create_server(
            address, family=family, dualstack_ipv6=address[0] == "::", backlog=512
        )
    listener.settimeout(_PATIENCE)
    return listener


def transparent(sock: socket.socket, client: tuple[str, int]) -> None:
    """What HAProxy and nginx do to connect from a client's address."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        if ":" not in client[0]:
            client = (f"::ffff:{client[0]}", client[1])
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)

    def bound() -> bool:
        try:
            sock.bind(client[:2])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    # Of the client's last connection, the last ACK may still be on its way.
    wait_until(bound, reason=lambda: f"another connection comes from {client}")


def balancer(
    lab: Lab, place: Path, client: tuple[str, int] | None, family: int = 4
) -> socket.socket:
    """A load balancer's socket that is about to connect for a client."""
    with inside(place), lab.edge.entered():
        sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    sock.settimeout(_PATIENCE)
    if client is not None:
        transparent(sock, client)
    return sock


def talk(sock: socket.socket, conn: socket.socket) -> None:
    """Ask, get an answer, ask again, get another."""
    for word in (b"one", b"two"):
        sock.sendall(word)
        assert conn.recv(10) == word
        conn.sendall(word)
        assert sock.recv(10) == word


def quiet(*socks: socket.socket) -> None:
    """Wait until all that these have sent is acknowledged: no packet is under way then."""
    # struct tcp_info, linux/tcp.h: tcpi_unacked.
    wait_until(
        lambda: (
            not any(
                struct.unpack_from(
                    "=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24
                )[0]
                for sock in socks
            )
        )
    )


class Cable:
    """The packets that the edge sends to the origin, as they leave it."""

    def __init__(self, lab: Lab) -> None:
        with lab.edge.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind(("to-origin", 0))
        # Packets of a bulk transfer wait here until they are looked at.
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 25)
        self._socket.settimeout(_PATIENCE)

    def close(self) -> None:
        self._socket.close()

    def packets(self) -> Iterator[Packet]:
        """TCP packets, as they come; ends with an error when none comes for a while."""
        while True:
            frame, about = self._socket.recvfrom(1 << 17)
            if about[2] != socket.PACKET_OUTGOING:
                continue
            try:
                yield Packet.parse(frame[14:])
            except PacketError:
                continue

    def until(self, flag: int) -> list[Packet]:
        """The packets up to the first with this TCP flag, that one included."""
        found = []
        for packet in self.packets():
            found.append(packet)
            if packet.flags & flag:
                break
        return found


@contextmanager
def capture(lab: Lab) -> Iterator[Cable]:
    cable = Cable(lab)
    try:
        yield cable
    finally:
        cable.close()


def reset_at_close(sock: socket.socket) -> None:
    """Close with a reset: no TIME_WAIT stays behind."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def wait_until(
    true: Callable[[], bool],
    patience: float = _PATIENCE,
    reason: Callable[[], object] = lambda: "it did not come true",
) -> None:
    """Ask again until it is true: for what the kernel tells nobody."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, reason()
        time.sleep(0.01)
