# SPDX-License-Identifier: Apache-2.0
"""The sender: which sockets it serves, and what it leaves alone."""

import ctypes
import socket
from itertools import chain
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.isolation import Namespace
from cloud_toa.packet import FIN
from tests.netns.conftest import receive
from tests.netns.sender import CLIENT, counters, marked
from tests.netns.traffic import (
    IP_TRANSPARENT,
    SERVER,
    balancer,
    capture,
    listen,
    transparent,
    wait_until,
)


def test_transparent_switched_off_again(lab: Lab, sender: Path) -> None:
    with inside(sender), lab.edge.entered(), socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 0)
        with pytest.raises(OSError, match="Cannot assign"):
            sock.bind(CLIENT)


def test_udp_stays_transparent(lab: Lab, sender: Path) -> None:
    with inside(sender), lab.edge.entered(), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        assert sock.getsockopt(socket.IPPROTO_IP, IP_TRANSPARENT) == 1
        sock.bind(CLIENT)
        assert sock.getsockname() == CLIENT


def test_listener_on_no_address_keeps_its_port(lab: Lab, sender: Path) -> None:
    with inside(sender), lab.edge.entered(), socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sock.bind(("", 8080))
        assert sock.getsockname() == ("0.0.0.0", 8080)
    assert counters()["wildcard"] == 1


@pytest.mark.parametrize("address", ["198.51.100.7", "2001:db8:7::7"])
def test_listener_on_a_virtual_address(lab: Lab, sender: Path, address: str) -> None:
    """As HAProxy's: it shares its port before it is made transparent, and stays what it is."""
    family = 6 if ":" in address else 4
    with balancer(lab, sender, None, family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        transparent(sock, (address, 8080))
        sock.listen()
        assert sock.getsockname()[:2] == (address, 8080)
        assert sock.getsockopt(socket.IPPROTO_IP, IP_TRANSPARENT) == 1
    assert set(counters().values()) == {0}


def test_haproxy_listens_transparently(lab: Lab, sender: Path) -> None:
    configuration = lab.files / "haproxy.cfg"
    configuration.write_text(
        "defaults\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
        "listen virtual\n  bind 198.51.100.7:8080 transparent\n  server none 127.0.0.1:9\n"
    )
    command = ["haproxy", "-db", "-f", str(configuration)]
    lab.start(lab.edge, command, [("198.51.100.7", 8080)], place=sender)
    assert "198.51.100.7:8080" in lab.edge.run("ss", "-Hltn")


@pytest.mark.parametrize(
    "name", [socket.SO_REUSEADDR, socket.SO_REUSEPORT], ids=["address", "port"]
)
def test_client_of_a_socket_that_shares_its_port_later(
    lab: Lab, sender: Path, receiver: Path, name: int
) -> None:
    """HAProxy's connections share their address after they are made transparent."""
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, None) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sock.setsockopt(socket.SOL_SOCKET, name, 1)
        sock.setsockopt(socket.SOL_SOCKET, name, 0)
        sock.bind(CLIENT)
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer == CLIENT


def test_client_named_by_call_on_a_socket_that_shares_its_port(
    lab: Lab, sender: Path, receiver: Path
) -> None:
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, None) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        cloud_toa.set_client(sock, CLIENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer == CLIENT


def test_sockets_that_name_nobody_are_left_alone(lab: Lab, sender: Path, servers: Path) -> None:
    with capture(lab) as cable, listen(lab, servers, SERVER) as listener:
        with balancer(lab, sender, None) as sock:
            sock.bind(("10.9.0.1", 5555))
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        packets = cable.until(FIN)
    assert peer == ("10.9.0.1", 5555)
    assert not any(map(marked, packets))
    assert set(counters().values()) == {0}


def test_source_bound_beside_a_named_client(lab: Lab, sender: Path, receiver: Path) -> None:
    """Who names the client in one call may still choose the edge's address."""
    lab.edge.ip("address add 10.9.0.50/24 dev to-origin")
    receive(receiver, trust="10.9.0.50")
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, None) as sock:
        cloud_toa.set_client(sock, CLIENT)
        sock.bind(("10.9.0.50", 0))
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer == CLIENT


def test_long_option_values_pass(lab: Lab, sender: Path, receiver: Path) -> None:
    """Where a cgroup has a program, the kernel refuses values over a page if it does not care."""
    page = b"\1\0\0\0".ljust(8192, b"\0")
    with balancer(lab, sender, None) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, page)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    with inside(receiver), lab.origin.entered(), socket.socket() as sock:
        # Python's own getsockopt() takes no more than 1024.
        value, length = ctypes.create_string_buffer(8192), ctypes.c_uint32(8192)
        arguments = (socket.SOL_SOCKET, socket.SO_TYPE, value, ctypes.byref(length))
        assert ctypes.CDLL(None).getsockopt(sock.fileno(), *arguments) == 0
        assert value.raw[:4] == b"\1\0\0\0"


def test_ports_are_per_origin(lab: Lab, sender: Path, servers: Path) -> None:
    """More connections than the host has ports for, as the port is chosen at connect()."""
    lab.edge.sysctl("net.ipv4.ip_local_port_range", "40000 40009")
    listeners = [listen(lab, servers, (SERVER[0], 7000 + number)) for number in range(3)]
    socks = []
    for number in range(30):
        sock = balancer(lab, sender, ("203.0.113.9", 1000 + number))
        sock.connect((SERVER[0], 7000 + number % 3))
        socks.append(sock)
    for sock in chain(socks, listeners):
        sock.close()


def test_load_balancer_in_a_container(lab: Lab, sender: Path, receiver: Path) -> None:
    """A load balancer in a container: its network is its own, its cgroup is covered."""
    container = Namespace("container")
    container.ip(
        "link add eth0 type veth peer name box netns edge",
        "address add 10.10.0.2/24 dev eth0",
        "link set eth0 up",
    )
    lab.edge.ip("address add 10.10.0.1/24 dev box", "link set box up")
    container.ip("route add default via 10.10.0.1")
    lab.edge.sysctl("net.ipv4.ip_forward", "1")
    lab.origin.ip("route add 10.10.0.0/24 via 10.9.0.1")
    receive(receiver, trust="10.10.0.2")
    nested = sender / "container"
    nested.mkdir()
    try:
        with listen(lab, receiver, SERVER) as listener:
            with inside(nested), container.entered(), socket.socket() as sock:
                transparent(sock, CLIENT)
                sock.connect(SERVER)
                conn, peer = listener.accept()
                conn.close()
        assert peer == CLIENT
    finally:
        container.remove()
        wait_until(lambda: not (nested / "cgroup.procs").read_text())
        nested.rmdir()
