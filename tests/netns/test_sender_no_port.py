# SPDX-License-Identifier: Apache-2.0
"""Clients named without a port: by HAProxy's `usesrc clientip`, Squid, Envoy's original_src."""

import ctypes
import socket
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings, NoPort
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Kinds
from cloud_toa.packet import FIN, SYN, Packet
from tests.netns.receivers import Receiver, by_both
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import SERVER, SERVER6, balancer, capture, listen, talk

KINDS = Kinds((254,), (254,), (28,))
WAYS = [
    (CLIENT[0], SERVER),
    (CLIENT[0], SERVER6),
    (CLIENT6[0], SERVER6),
    (CLIENT6[0], ("::ffff:10.9.0.2", 7000)),
]


@pytest.fixture
def everybody(lab: Lab, servers: Path, receiving: Receiver) -> socket.socket:
    """A listener behind a receiver that reads every layout."""
    receiving.receive(servers, KINDS)
    return listen(lab, servers, ("::", SERVER[1]))


def converse(
    lab: Lab, balancers: Path, listener: socket.socket, client: str, server: tuple[str, int]
) -> tuple[tuple[str, int], int, list[Packet]]:
    """Whom the server saw, the connection's own port, and the packets with an option."""
    with capture(lab) as cable, listener:
        with balancer(lab, balancers, (client, 0), 6 if ":" in server[0] else 4) as sock:
            sock.connect(server)
            conn, peer = listener.accept()
            with conn:
                talk(sock, conn)
                own = sock.getsockname()[1]
        packets = [packet for packet in cable.until(FIN) if marked(packet, KINDS)]
    return (peer[0].removeprefix("::ffff:"), peer[1]), own, packets


@pytest.mark.parametrize(("client", "server"), WAYS, ids=str)
@by_both
def test_the_connections_own_goes_with_the_address(
    lab: Lab, sender: Path, everybody: socket.socket, client: str, server: tuple[str, int]
) -> None:
    seen, own, packets = converse(lab, sender, everybody, client, server)
    assert seen == (client, own)
    assert packets[0].flags & SYN
    counted = counters()
    assert (counted["no_port"], counted["clients"], counted["connections"]) == (1, 1, 1)


@pytest.mark.parametrize(("client", "server"), WAYS, ids=str)
@by_both
def test_the_layout_without_a_port(
    lab: Lab, balancers: Path, everybody: socket.socket, client: str, server: tuple[str, int]
) -> None:
    edge.attach([balancers], EdgeSettings(no_port=NoPort.CLIENT_IP))
    seen, own, packets = converse(lab, balancers, everybody, client, server)
    # A server that is told no port sees the connection's own.
    assert seen == (client, own)
    for packet in packets:
        named = marked(packet, Kinds((), (), (28,)))
        assert named is not None
        assert (str(named.ip), named.port) == (client, None)
    assert len(packets) >= 3
    assert counters()["no_port"] == 1


def test_clients_with_a_port_keep_it_beside_that(
    lab: Lab, balancers: Path, everybody: socket.socket
) -> None:
    edge.attach([balancers], EdgeSettings(no_port=NoPort.CLIENT_IP))
    with everybody:
        for client in (CLIENT, CLIENT6):
            with balancer(lab, balancers, client, 6) as sock:
                sock.connect(SERVER6)
                conn, peer = everybody.accept()
                conn.close()
            assert (peer[0].removeprefix("::ffff:"), peer[1]) == client
    assert counters()["no_port"] == 0


@pytest.mark.parametrize(("client", "server"), WAYS, ids=str)
def test_nothing(
    lab: Lab, balancers: Path, everybody: socket.socket, client: str, server: tuple[str, int]
) -> None:
    edge.attach([balancers], EdgeSettings(no_port=NoPort.SKIP))
    seen, _, packets = converse(lab, balancers, everybody, client, server)
    assert seen[0] in EDGE_TO_ORIGIN.values()
    assert packets == []
    assert {name: count for name, count in counters().items() if count} == {"no_port": 1}


@pytest.mark.parametrize("way", NoPort)
def test_named_by_call(lab: Lab, balancers: Path, everybody: socket.socket, way: NoPort) -> None:
    """As a proxy in a chain does that was told an address alone."""
    edge.attach([balancers], EdgeSettings(no_port=way))
    with everybody, balancer(lab, balancers, None) as sock:
        if way is NoPort.SKIP:
            with pytest.raises(PermissionError):
                cloud_toa.set_client(sock, (CLIENT[0], 0))
            return
        cloud_toa.set_client(sock, (CLIENT[0], 0))
        sock.connect(SERVER)
        conn, peer = everybody.accept()
        with conn:
            assert peer[0].removeprefix("::ffff:") == CLIENT[0]
            assert peer[1] == sock.getsockname()[1]


def test_a_socket_that_connects_again(lab: Lab, sender: Path, everybody: socket.socket) -> None:
    """Each time with the port that it has then."""
    with everybody, balancer(lab, sender, (CLIENT[0], 0)) as sock:
        for _ in range(2):
            sock.connect(SERVER)
            conn, peer = everybody.accept()
            conn.close()
            assert peer[1] == sock.getsockname()[1]
            disconnect(sock)


def disconnect(sock: socket.socket) -> None:
    """connect(2): AF_UNSPEC dissolves the association. Python has no way to write it."""
    assert ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16) == 0
