# SPDX-License-Identifier: Apache-2.0
"""Transparent sockets that listen: none is reachable where its program did not bind it."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab, inside
from cloud_toa.origins import Origins
from tests.netns.sender import CLIENT, CLIENT6, counters
from tests.netns.traffic import IP_TRANSPARENT, IPV6_TRANSPARENT, SERVER, balancer, listen

PORT = 7893
OWN = {"127.0.0.1": 4, "10.9.0.1": 4, "198.51.100.7": 4, "::1": 6, "fd09::1": 6, "2001:db8:7::7": 6}
"""Loopback, the edge's own, and a virtual one that no host has."""
_SO_BINDTOIFINDEX = 62


def option(sock: socket.socket, name: str, value: int = 1) -> None:
    v6 = sock.family == socket.AF_INET6
    if name == "transparent" and v6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, value)
    elif name == "transparent":
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, value)
    else:
        sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)


def hears(lab: Lab, sock: socket.socket) -> list[tuple[str, int]]:
    """Where a listener can be reached, of all that it could be by its name or by its bind()."""
    port = sock.getsockname()[1]
    found = []
    for namespace, addresses in (
        (lab.edge, OWN),
        (lab.origin, EDGE_TO_ORIGIN.values()),
    ):
        for address in addresses:
            for number in {port, PORT}:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with namespace.entered(), socket.socket(family) as visitor:
                    visitor.settimeout(120)
                    try:
                        visitor.connect((address, number))
                    except OSError:
                        continue
                found.append((address, number))
    return found


@pytest.mark.parametrize("address", OWN)
@pytest.mark.parametrize(
    "order",
    [*permutations(["transparent", "SO_REUSEPORT", "bind"])],
    ids="-".join,
)
def test_whatever_the_order_of_its_calls(
    lab: Lab, sender: Path, address: str, order: tuple[str, ...]
) -> None:
    with balancer(lab, sender, None, OWN[address]) as sock:
        for step in order:
            if step != "bind":
                option(sock, step)
            elif (
                address in ("198.51.100.7", "2001:db8:7::7")
                and "transparent" not in order[: order.index("bind")]
            ):
                with pytest.raises(OSError, match="Cannot assign"):
                    sock.bind((address, PORT))
                return
            else:
                sock.bind((address, PORT))
        sock.listen()
        local = address in EDGE_TO_ORIGIN.values() or address in ("127.0.0.1", "::1")
        kept = order.index("SO_REUSEPORT") < order.index("transparent") or order[0] == "bind"
        if kept:
            # It is what it would be without the sender.
            assert sock.getsockname()[:2] == (address, PORT)
            assert sock.getsockopt(*transparency(sock)) == 1
            assert {place for place, _ in hears(lab, sock)} == ({address} if local else set())
        else:
            assert hears(lab, sock) == []
    assert counters()["listeners"] == (0 if kept else 1)


def transparency(sock: socket.socket) -> tuple[int, int]:
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, IPV6_TRANSPARENT
    return socket.IPPROTO_IP, IP_TRANSPARENT


@pytest.mark.parametrize("address", ["127.0.0.1", "fd09::1"])
def test_what_is_cut_off_stays_so(lab: Lab, sender: Path, address: str) -> None:
    """Switching transparency off, another device, another listen(): nothing opens it."""
    with balancer(lab, sender, None, OWN[address]) as sock:
        option(sock, "transparent")
        sock.bind((address, PORT))
        option(sock, "transparent", 0)
        for _ in range(2):
            for name, value in (
                (socket.SO_BINDTODEVICE, b"\0"),
                (socket.SO_BINDTODEVICE, b"lo\0"),
                (socket.SO_BINDTODEVICE, bytes(8192)),  # longer than a program is shown
                (_SO_BINDTOIFINDEX, 0),
            ):
                with pytest.raises(PermissionError):
                    sock.setsockopt(socket.SOL_SOCKET, name, value)
            sock.listen()
        assert hears(lab, sock) == []
    assert counters()["listeners"] == 1


def test_other_sockets_choose_their_device(lab: Lab, sender: Path, servers: Path) -> None:
    with listen(lab, servers, SERVER) as listener, balancer(lab, sender, None) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"to-origin\0")
        option(sock, "transparent")
        sock.bind(CLIENT)
        sock.connect(SERVER)
        listener.accept()[0].close()
    assert counters()["connections"] == 1


@contextmanager
def unprivileged() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("device", ["lo", "to-origin"])
def test_who_could_not_be_cut_off_is_not_bound(lab: Lab, sender: Path, device: str) -> None:
    """To take a device is for everybody, to leave it again is not."""
    with balancer(lab, sender, None) as sock, unprivileged():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        option(sock, "transparent")
        with pytest.raises(PermissionError):
            sock.bind(("203.0.113.7", PORT))


def test_a_device_that_is_chosen_too_late(lab: Lab, sender: Path) -> None:
    with balancer(lab, sender, CLIENT) as sock, unprivileged(), pytest.raises(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")


@pytest.mark.parametrize(
    ("client", "server"), [(CLIENT, SERVER), (CLIENT6, ("fd09::2", 7000))], ids=["v4", "v6"]
)
def test_a_connection_that_shares_its_port_is_counted(
    lab: Lab, sender: Path, servers: Path, client: tuple[str, int], server: tuple[str, int]
) -> None:
    """It was taken for a listener, and leaves from the client's address: no answer comes back."""
    with listen(lab, servers, ("::", 7000)):
        with balancer(lab, sender, None, 6 if ":" in client[0] else 4) as sock:
            option(sock, "SO_REUSEPORT")
            option(sock, "transparent")
            sock.bind(client)
            sock.setblocking(False)
            assert sock.connect_ex(server) == errno.EINPROGRESS
    assert counters()["shared_port"] == 1
    assert counters()["connections"] == 0


def test_ports_shared_by_others_are_not_counted(lab: Lab, balancers: Path, servers: Path) -> None:
    """Who is not transparent, or goes elsewhere, is nobody that TOA was wanted for."""
    edge.attach([balancers], EdgeSettings(origins=Origins.parse(["10.9.0.3"])))
    with listen(lab, servers, SERVER) as listener, balancer(lab, balancers, None) as sock:
        option(sock, "SO_REUSEPORT")
        sock.bind(("10.9.0.1", 0))
        sock.connect(SERVER)
        listener.accept()[0].close()
    with balancer(lab, balancers, None) as sock:
        option(sock, "SO_REUSEPORT")
        option(sock, "transparent")
        sock.bind(CLIENT)
        sock.setblocking(False)
        assert sock.connect_ex(SERVER) == errno.EINPROGRESS
    assert set(counters().values()) == {0}


def test_a_listener_of_another_cgroup(lab: Lab, sender: Path, servers: Path) -> None:
    with inside(servers), lab.edge.entered(), socket.socket() as sock:
        option(sock, "transparent")
        sock.bind(("10.9.0.1", PORT))
        sock.listen()
        assert {place for place, _ in hears(lab, sock)} == {"10.9.0.1"}
    assert set(counters().values()) == {0}
