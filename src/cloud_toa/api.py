# SPDX-License-Identifier: Apache-2.0
"""One call for a load balancer to name its client, one for a server to ask for it.

Both are socket options that this host's eBPF programs answer: the sender takes
``setsockopt(IPPROTO_IP, 4097, address)``, the receiver gives the answer to
``getsockopt(IPPROTO_IP, 4097)``. The address is a ``sockaddr_in`` (16 bytes) or
``sockaddr_in6`` (28 bytes): family in the host's byte order, then port and address
in network byte order, as in ip(7) and ipv6(7). Linux itself has no option 4097: a
socket that no program covers gets ENOPROTOOPT, so nobody is left to guess.
"""

import socket
import sys
from ipaddress import ip_address
from typing import Protocol

from cloud_toa.errors import ToaError
from cloud_toa.option import Client, check_client

TOA_CLIENT = 4097
"""The option's number, of level IPPROTO_IP for every address family (bpf/toa.h)."""

_SOCKADDR_IN = 16
_SOCKADDR_IN6 = 28

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""An address as the socket module writes it: ``(host, port)``, longer for IPv6."""


class Connection(Protocol):
    """What is asked of a connection: `socket.socket` has it, and what wraps one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As `socket.socket.getsockopt`."""


def set_client(sock: socket.socket, address: Client | SocketAddress) -> None:
    """Have the connection that ``sock`` is going to make carry this client's address.

    Call it before ``connect()``: afterwards the sender refuses. A later call replaces
    the client of an earlier one. A socket that connects again after a disconnect names
    the same client again.

    Args:
        sock: a TCP socket, IPv4 or IPv6; the client may be of the other family.
        address: the client, as ``accept()`` or ``getpeername()`` gave it: an IP
            address (no name) and a port, 1 to 65535 in the host's byte order, as
            everywhere in Python. ``::ffff:a.b.c.d`` means that IPv4 address. With port 0
            or None the sender's ``--no-port`` says what is sent.

    Raises:
        ToaError: no client can have this address: not an IP address, unspecified,
            multicast or broadcast, or a port out of range. The kernel was not asked.
        OSError: ENOPROTOOPT: the eBPF sender does not cover the cgroup in which this
            socket was made (``cloud-toa edge attach``). EPERM: the sender
            refused, because the socket is connected already, or as there is no port and
            it was told to skip such clients.

    Source: bpf/edge.bpf.c, ``set_client``.
    """
    host, port = address[:2]
    try:
        client = Client(ip_address(host), port)
    except ValueError:
        raise ToaError(f"{host!r} is not an IP address: write one such as 192.0.2.7") from None
    check_client(client)  # one rule for every datapath: what can't be sent is refused here
    number = (port or 0).to_bytes(2, "big")
    if client.ip.version == 4:
        value = _family(socket.AF_INET) + number + client.ip.packed + bytes(8)
    else:
        value = _family(socket.AF_INET6) + number + bytes(4) + client.ip.packed + bytes(4)
    sock.setsockopt(socket.IPPROTO_IP, TOA_CLIENT, value)


def client_of(sock: Connection) -> Client | None:
    """The client that a trusted edge named for this accepted connection.

    ``getpeername()`` says the same where it can; this also tells an IPv6 client of
    an IPv4 connection, and whether there was a TOA at all.

    Returns:
        The client, its port in the host's byte order, or None in it where the
        option's layout has none; None where the connection came without TOA, or from
        a source that the receiver does not trust.

    Raises:
        OSError: ENOPROTOOPT: the eBPF receiver does not cover the listener's cgroup
            (``cloud-toa origin attach``). EOPNOTSUPP: not an IP socket.

    Source: bpf/origin.bpf.c, ``answer_client``.
    """
    answer = sock.getsockopt(socket.IPPROTO_IP, TOA_CLIENT, _SOCKADDR_IN6)
    port = int.from_bytes(answer[2:4], "big") or None
    if len(answer) == _SOCKADDR_IN and answer[:2] == _family(socket.AF_INET):
        return Client(ip_address(answer[4:8]), port)
    if len(answer) == _SOCKADDR_IN6 and answer[:2] == _family(socket.AF_INET6):
        return Client(ip_address(answer[8:24]), port)
    return None


def _family(family: socket.AddressFamily) -> bytes:
    return family.to_bytes(2, sys.byteorder)
