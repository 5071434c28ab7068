# SPDX-License-Identifier: Apache-2.0
"""The receiver: whom it believes."""

import socket
from ipaddress import ip_address
from pathlib import Path

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.option import Client
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import CLIENT, OTHER, TOA, TRUSTED, TRUSTED6, peer_of, sources
from tests.netns.receivers import Receiver, by_both
from tests.netns.traffic import SERVER, SERVER6, balancer, listen


@by_both
def test_forged_option_from_an_untrusted_source(
    wire: Wire, listener: socket.socket, receiving: Receiver
) -> None:
    for source, server in sources(trusted=False):
        client = RawClient(wire, source, server)
        client.open(ack=TOA)
        with listener.accept()[0] as conn:
            assert peer_of(conn) == Client(ip_address(source), client.port)
            assert cloud_toa.client_of(conn) is None
            client.data(b"x", TOA)
            assert conn.recv(1) == b"x"
            assert peer_of(conn) == Client(ip_address(source), client.port)
    assert receiving.counted() == {"untrusted": 2}


def test_forged_in_the_first_data_or_the_syn(
    wire: Wire, lab: Lab, servers: Path, receiving: Receiver
) -> None:
    receiving.receive(servers, trust=TRUSTED, save_syn=True)
    with listen(lab, servers, SERVER) as listener:
        for where in ("syn", "data"):
            client = RawClient(wire, OTHER, SERVER)
            client.open(syn=TOA if where == "syn" else b"")
            with listener.accept()[0] as conn:
                client.data(b"x", TOA if where == "data" else b"")
                assert conn.recv(1) == b"x"
                assert peer_of(conn) == Client(ip_address(OTHER), client.port)
                assert cloud_toa.client_of(conn) is None
    assert receiving.counted() == {"untrusted": 1, "absent": 1}


@by_both
def test_forged_by_a_client_through_the_load_balancer(
    lab: Lab, sender: Path, receiver: Path
) -> None:
    """The edge ends the client's connection: no option of its packets travels on."""
    forged = Client(ip_address("192.0.2.66"), 666)
    with (
        listen(lab, sender, ("10.8.0.1", 7001), lab.edge) as front,
        listen(lab, receiver, SERVER) as listener,
    ):
        first = lab.cgroup("forger")
        # A forger with the best of tools: our own sender, on the client's host.
        with inside(first), lab.client.entered(), socket.socket() as sock:
            edge.attach([first], EdgeSettings())
            cloud_toa.set_client(sock, forged)
            sock.connect(("10.8.0.1", 7001))
            inbound, peer = front.accept()
            with inbound, balancer(lab, sender, peer) as onward:
                onward.connect(SERVER)
                conn, seen = listener.accept()
                conn.close()
    assert seen == peer
    assert seen[0] != str(forged.ip)


@by_both
def test_trust_any_believes_everyone(
    wire: Wire, lab: Lab, servers: Path, receiving: Receiver
) -> None:
    receiving.receive(servers, trust="any")
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for source, server in sources(trusted=False):
            RawClient(wire, source, server).open(ack=TOA)
            with listener.accept()[0] as conn:
                assert peer_of(conn) == CLIENT


@by_both
def test_trust_that_is_withdrawn(
    wire: Wire, listener: socket.socket, servers: Path, receiving: Receiver
) -> None:
    receiving.receive(servers, trust=OTHER)
    RawClient(wire, TRUSTED, SERVER).open(ack=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn).ip == ip_address(TRUSTED)
    assert receiving.counted() == {"untrusted": 1}


@by_both
def test_networks_match_by_prefix(wire: Wire, lab: Lab, servers: Path, receiving: Receiver) -> None:
    cases = [
        ("10.9.0.76/31", SERVER, TRUSTED, True),
        ("10.9.0.78/31", SERVER, TRUSTED, False),
        ("10.0.0.0/8", SERVER, TRUSTED, True),
        ("fd09::70/124", SERVER6, TRUSTED6, True),
        ("fd09::80/124", SERVER6, TRUSTED6, False),
        ("fd00::/8", SERVER6, TRUSTED6, True),
        ("fd00::/8", SERVER, TRUSTED, False),
        ("0.0.0.0/1", SERVER6, TRUSTED6, False),
    ]
    with listen(lab, servers, ("::", SERVER[1])) as listener:
        for trust, server, source, believed in cases:
            receiving.receive(servers, trust=trust)
            RawClient(wire, source, server).open(ack=TOA)
            with listener.accept()[0] as conn:
                assert (peer_of(conn) == CLIENT) == believed, (trust, source)
