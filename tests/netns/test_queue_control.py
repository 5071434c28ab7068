# SPDX-License-Identifier: Apache-2.0
"""Clients named on the control socket, through either datapath that it serves."""

from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client
from cloud_toa.packet import FIN
from tests.netns import traffic
from tests.netns.queue_control import balancer
from tests.netns.sender import CLIENT, CLIENT6, marked
from tests.netns.traffic import SERVER, SERVER6, capture, listen

_ports = count(41001)


pytestmark = pytest.mark.only_on(kernel="6.12")

DATAPATHS = pytest.mark.parametrize("datapath", ["queue", "bpf"])


@DATAPATHS
def test_every_pair_of_families(lab: Lab, balancers: Path, receiver: Path, datapath: str) -> None:
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, ("::", 7000)) as listener:
        for client in (CLIENT, CLIENT6):
            for server in (SERVER, SERVER6):
                port = next(_ports)
                lb.add(port, client)
                assert lb.visit(listener, port, server) == client
        if datapath == "queue":
            now = lb.edge.counters()
            assert now["written"] == now["packets"] == 4 * 3


@DATAPATHS
def test_an_ipv6_client_on_an_ipv4_server(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, SERVER) as listener:
        port = next(_ports)
        lb.add(port, CLIENT6)
        with lb.connected(port, SERVER):
            conn, peer = listener.accept()
            with conn:
                assert peer == (EDGE_TO_ORIGIN[4], port)
                assert cloud_toa.client_of(conn) == Client(ip_address(CLIENT6[0]), CLIENT6[1])


@DATAPATHS
def test_an_entry_names_one_connection(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    """The port used again without one, or with one that was taken back: no stale client."""
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, ("::", 7000)) as listener:
        for server, client in ((SERVER, CLIENT), (SERVER6, CLIENT6)):
            own = EDGE_TO_ORIGIN[ip_address(server[0]).version]
            port = next(_ports)
            lb.add(port, client)
            assert lb.visit(listener, port, server) == client
            assert lb.visit(listener, port, server) == (own, port)
            lb.add(port, client)
            assert lb.ask(f"del:{port}") == "ok"
            assert lb.visit(listener, port, server) == (own, port)
            other = ("203.0.113.77", 1)
            lb.add(port, other)
            assert lb.visit(listener, port, server) == other


@pytest.mark.one_kernel
@DATAPATHS
def test_a_peer_that_does_not_say_hello(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    """It gets no replies; that its entry is stored shows in the log, by a line behind it."""
    with balancer(lab, balancers, datapath, hello=False) as lb:
        with listen(lab, receiver, SERVER) as listener:
            port = next(_ports)
            lb.control.sendall(f"add:{port}:{CLIENT[0]}:{CLIENT[1]}\nno verb\n".encode())
            assert "no verb" in lb.edge.until("warning")
            assert lb.visit(listener, port) == CLIENT
            assert lb.visit(listener, port) == (EDGE_TO_ORIGIN[4], port)
            lb.control.setblocking(False)
            with pytest.raises(BlockingIOError):
                lb.control.recv(1)


def test_connections_that_nobody_named(lab: Lab, balancers: Path, receiver: Path) -> None:
    """They go through a worker, which finds no client and leaves them as they are."""
    with balancer(lab, balancers) as lb, listen(lab, receiver, ("::", 7000)) as listener:
        for server in (SERVER, SERVER6):
            port = next(_ports)
            lb.add(port + 1000, CLIENT)
            with capture(lab) as cable:
                own = EDGE_TO_ORIGIN[ip_address(server[0]).version]
                assert lb.visit(listener, port, server) == (own, port)
                assert not any(map(marked, cable.until(FIN | 4)))
        now = lb.edge.counters()
        assert now["written"] == 0
        assert now["passed"] == now["packets"] > 0


def test_transparent_clients_beside(lab: Lab, balancers: Path, receiver: Path) -> None:
    """The control socket is one of the ways at the same time, not instead of the other."""
    with balancer(lab, balancers) as lb, listen(lab, receiver, ("::", 7000)) as listener:
        for client, server in ((CLIENT, SERVER), (CLIENT6, SERVER6)):
            family = ip_address(client[0]).version
            with traffic.balancer(lab, balancers, client, family) as sock:
                sock.connect(server)
                conn, peer = listener.accept()
                conn.close()
            assert (peer[0].removeprefix("::ffff:"), peer[1]) == client
            port = next(_ports)
            lb.add(port, ("203.0.113.77", 1))
            assert lb.visit(listener, port, server) == ("203.0.113.77", 1)


@pytest.mark.one_kernel
@DATAPATHS
def test_quit_ends_the_process(lab: Lab, balancers: Path, datapath: str) -> None:
    with balancer(lab, balancers, datapath) as lb:
        lb.control.sendall(b"quit:0\n")
        assert lb.edge.process.wait(60) == 0
        lb.edge.until("[TOA]stopped")
        assert not (lab.files / "control.sock").exists()
