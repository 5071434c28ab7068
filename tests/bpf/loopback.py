# SPDX-License-Identifier: Apache-2.0
"""A tiny load balancer and a tiny server, both on this network namespace's loopback."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from cloud_toa.demo.lab import inside
from cloud_toa.isolation import run
from cloud_toa.option import Client, plain

TRUST = ("127.0.0.1", "::1")
IPV6_TRANSPARENT = 75
_PATIENCE = 30.0
_ports = count(20001)


def client(version: int) -> tuple[str, int]:
    """A client whom no earlier connection had."""
    return ("203.0.113.7" if version == 4 else "2001:db8:1::7"), next(_ports)


def listen(servers: Path, version: int = 4) -> socket.socket:
    """A server in a cgroup; IPv6 also takes IPv4 connections."""
    with inside(servers):
        if version == 4:
            sock = socket.create_server(("127.0.0.1", 0))
        else:
            sock = socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
            )
    sock.settimeout(_PATIENCE)
    return sock


def make_transparent(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


def unbound(balancers: Path, version: int = 4) -> socket.socket:
    """A load balancer's transparent socket that has no client yet."""
    with inside(balancers):
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    sock.settimeout(_PATIENCE)
    make_transparent(sock)
    return sock


def transparent(balancers: Path, whom: tuple[str, int]) -> socket.socket:
    """What HAProxy and nginx do before they connect for a client; the socket is bound."""
    sock = unbound(balancers, 6 if ":" in whom[0] else 4)
    try:
        sock.bind(whom)
    except BaseException:
        sock.close()
        raise
    return sock


def connect(sock: socket.socket, listener: socket.socket) -> socket.socket:
    """Connect to a server; answer its end of the connection."""
    host = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
    sock.connect((host, listener.getsockname()[1]))
    return listener.accept()[0]


def peer(sock: socket.socket) -> Client:
    host, port = sock.getpeername()[:2]
    return Client(plain(ip_address(host)), port)


def visit(balancers: Path, servers: Path, version: int = 4) -> tuple[Client, Client, str]:
    """One connection: its client, whom the server saw, and the address that it came from."""
    whom = client(version)
    with listen(servers, version) as listener, transparent(balancers, whom) as sock:
        with connect(sock, listener) as accepted:
            return Client(ip_address(whom[0]), whom[1]), peer(accepted), sock.getsockname()[0]


def plain_visit(balancers: Path, servers: Path) -> bool:
    """Whether a load balancer that names nobody is served, from its own address."""
    with listen(servers) as listener, inside(balancers), socket.socket() as sock:
        sock.settimeout(_PATIENCE)
        with connect(sock, listener) as accepted:
            return bool(accepted.getpeername() == sock.getsockname())


def marked(balancers: Path, servers: Path) -> bool:
    """Whether IPv4 and IPv6 clients are seen, named by TOA and not by the source address."""
    return all(
        seen == whom and source == own
        for whom, seen, source, own in (
            (*visit(balancers, servers, 4), "127.0.0.1"),
            (*visit(balancers, servers, 6), "::1"),
        )
    )


def unmarked(balancers: Path, servers: Path) -> bool:
    """Whether nothing of ours touches connections: a transparent socket stays what it is."""
    with transparent(balancers, whom := client(4)) as sock:
        return bool(sock.getsockname() == whom) and plain_visit(balancers, servers)


@contextmanager
def transparent_routing() -> Iterator[None]:
    """Let connections from a client's own address be answered, as on a transparent proxy's host.

    Only the way back is open: to bind to a client still takes a transparent socket.
    """
    networks = (("-4", "203.0.113.0/24"), ("-6", "2001:db8:1::/64"))
    for family, network in networks:
        run("ip", family, "route", "add", "local", network, "dev", "lo", "table", "100")
        run("ip", family, "rule", "add", "to", network, "lookup", "100")
    try:
        yield
    finally:
        for family, network in networks:
            run("ip", family, "rule", "del", "to", network, "lookup", "100")
            run("ip", family, "route", "flush", "table", "100")


def reset(sock: socket.socket) -> None:
    """Close without TIME_WAIT: thousands of connections would use the ports up."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
