# SPDX-License-Identifier: Apache-2.0
"""Addresses that mean this host or link: they go to nobody else, and are believed of nobody else.

Whoever reaches the load balancer from the edge's own loopback would else be the origin's
localhost, where databases ask for no password.
"""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab, inside
from cloud_toa.option import Client, Kinds, encode
from cloud_toa.origin import saved_syn
from cloud_toa.packet import FIN
from cloud_toa.ports import PortTable
from cloud_toa.trust import Trust
from tests.netns.named_ports import OWN, add, attach, ports
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import TRUSTED, TRUSTED6
from tests.netns.receivers import Bpf, Receiver, by_both
from tests.netns.sender import counters
from tests.netns.traffic import (
    SERVER,
    SERVER6,
    balancer,
    capture,
    listen,
    talk,
    transparent,
)

LOCAL = ["127.0.0.1", "127.8.9.10", "::1", "169.254.1.2", "fe80::7"]
MAPPED = "::ffff:127.0.0.1"


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=str)
@pytest.mark.parametrize("client", [*LOCAL, MAPPED])
def test_it_is_not_sent_to_another_host(
    lab: Lab, sender: Path, servers: Path, client: str, server: tuple[str, int]
) -> None:
    family = 6 if ":" in client + server[0] else 4
    target = server if family == 4 or ":" in server[0] else (f"::ffff:{server[0]}", server[1])
    with capture(lab) as cable, listen(lab, servers, server) as listener:
        with balancer(lab, sender, (client, 4321), family) as sock:
            sock.connect(target)
            conn, peer = listener.accept()
            with conn:
                talk(sock, conn)
        packets = cable.until(FIN)
    assert peer[0] in EDGE_TO_ORIGIN.values()
    # By bytes: who decodes does not believe it either.
    option = encode(Client(ip_address(client), 4321))
    assert not any(option in packet.data for packet in packets)
    counted = {name: count for name, count in counters().items() if count}
    assert counted == {"clients": 1, "local": 1}


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=str)
@pytest.mark.parametrize("late", [False, True], ids=["hello", "late peers"])
@pytest.mark.parametrize("client", LOCAL)
def test_named_by_port_it_is_not_sent_either(
    lab: Lab, balancers: Path, servers: Path, client: str, late: bool, server: tuple[str, int]
) -> None:
    table, port = attach(balancers), next(ports)
    if late:
        PortTable(table).expect_late()
    add(table, port, (client, 4321), late=late)
    family = 6 if ":" in server[0] else 4
    with capture(lab) as cable, listen(lab, servers, server) as listener:
        with balancer(lab, balancers, None, family) as sock:
            sock.bind(("::" if family == 6 else OWN, port))
            sock.connect(server)
            with listener.accept()[0] as conn:
                talk(sock, conn)
        packets = cable.until(FIN)
    option = encode(Client(ip_address(client), 4321))
    assert not any(option in packet.data for packet in packets)
    counted = {name: count for name, count in counters().items() if count}
    assert counted == {"clients": 1, "local": 1}


def test_one_call_names_it_no_more(lab: Lab, sender: Path, receiver: Path) -> None:
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, None) as sock:
        cloud_toa.set_client(sock, ("127.0.0.1", 4321))
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer[0] == EDGE_TO_ORIGIN[4]
    assert counters()["local"] == 1


@pytest.mark.parametrize("place", ["syn", "ack", "data"])
@pytest.mark.parametrize("client", LOCAL)
@by_both
def test_another_vendors_sender_is_not_believed(
    wire: Wire, listener: socket.socket, receiving: Receiver, client: str, place: str
) -> None:
    """Whatever writes it, and wherever: the server sees the edge."""
    for source, server in ((TRUSTED, SERVER), (TRUSTED6, SERVER6)):
        option = encode(Client(ip_address(client), 4321))
        raw = RawClient(wire, source, server)
        raw.open(option if place == "syn" else b"", option if place == "ack" else b"")
        raw.data(b"x", option if place == "data" else b"")
        with listener.accept()[0] as conn:
            assert conn.recv(1) == b"x"
            assert conn.getpeername()[0].removeprefix("::ffff:") == source
        raw.reset()
    counted = receiving.counters()
    assert (counted["found"], counted["absent"]) == (0, 2)
    # The SYN is not looked at, as the kernel did not keep it; later data by eBPF alone.
    looked_at = place == "ack" or (place == "data" and isinstance(receiving, Bpf))
    assert counted["local"] == (2 if looked_at else 0)


@pytest.mark.parametrize("client", LOCAL)
def test_a_saved_syn_is_not_believed(lab: Lab, wire: Wire, servers: Path, client: str) -> None:
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        saved_syn.prepare(listener, ["any"])
        raw = RawClient(wire, TRUSTED, SERVER)
        raw.open(encode(Client(ip_address(client), 4321)))
        with listener.accept()[0] as conn:
            assert saved_syn.client_of(conn) is None
        raw.reset()


@pytest.mark.parametrize(
    ("server", "client"),
    [
        (("127.0.0.1", 7000), ("127.0.0.7", 4321)),
        (("127.0.0.1", 7000), ("203.0.113.9", 4321)),
        (("127.0.0.1", 7000), ("169.254.1.2", 4321)),
        (("::1", 7000), ("::1", 4321)),
        (("::1", 7000), ("127.0.0.7", 4321)),
        (("::1", 7000), ("fe80::7", 4321)),
    ],
    ids=str,
)
def test_on_one_host_over_loopback_it_means_what_it_says(
    lab: Lab, servers: Path, server: tuple[str, int], client: tuple[str, int]
) -> None:
    """Client, load balancer and server on the origin's host."""
    edge.attach([servers], EdgeSettings())
    origin.attach([servers], OriginSettings(Trust.parse(["127.0.0.1", "::1"]), Kinds()))
    with listen(lab, servers, server) as listener:
        saved_syn.prepare(listener, ["127.0.0.1", "::1"])
        with inside(servers), lab.origin.entered():
            sock = socket.socket(listener.family)
        with sock:
            transparent(sock, client)
            sock.connect(server)
            conn, peer = listener.accept()
            with conn:
                assert saved_syn.client_of(conn) == Client(ip_address(client[0]), client[1])
    assert (peer[0].removeprefix("::ffff:"), peer[1]) == client
    assert counters()["local"] == 0
