# SPDX-License-Identifier: Apache-2.0
"""The receiver: where it looks, and what it leaves alone."""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.demo.lab import Lab, inside
from cloud_toa.option import Client, Kinds, plain
from tests.netns.raw_tcp import RawClient, Wire
from tests.netns.receiver import CLIENT, CLIENT6, TOA, TOA6, TRUSTED, peer_of, sources
from tests.netns.receivers import Receiver, by_both
from tests.netns.traffic import SERVER, SERVER6, balancer, listen

IPPROTO_MPTCP = 262


@pytest.mark.parametrize("toa", [TOA, TOA6], ids=["IPv4", "IPv6"])
def test_only_in_the_first_data_after_accept(
    wire: Wire, listener: socket.socket, toa: bytes, receiving: Receiver
) -> None:
    for source, server in sources(trusted=True):
        client = RawClient(wire, source, server)
        client.open()
        conn, peer = listener.accept()
        with conn:
            assert ip_address(peer[0]) in (
                ip_address(source),
                ip_address(f"::ffff:{source}") if "." in source else None,
            )
            client.data(b"x", toa)
            assert conn.recv(1) == b"x"
            assert peer_of(conn) == (CLIENT if toa == TOA else CLIENT6)
    assert receiving.counted() == {"found": 2, "late": 2}


@by_both
def test_only_in_the_data_that_completes_the_handshake(
    wire: Wire, listener: socket.socket, receiving: Receiver
) -> None:
    client = RawClient(wire, TRUSTED, SERVER)
    client.open(ack=None)
    client.data(b"x", TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn) == CLIENT
    assert receiving.counted() == {"found": 1}


def test_later_data_changes_nothing(
    wire: Wire, listener: socket.socket, receiving: Receiver
) -> None:
    """With or without a client: who a connection is for is settled by its first data."""
    for ack, settled in ((b"", None), (TOA, CLIENT)):
        client = RawClient(wire, TRUSTED, SERVER)
        client.open(ack=ack)
        with listener.accept()[0] as conn:
            client.data(b"x")
            assert conn.recv(1) == b"x"
            client.data(b"y", TOA6)
            assert conn.recv(1) == b"y"
            assert peer_of(conn) == (settled or Client(ip_address(TRUSTED), client.port))
    assert receiving.counted() == {"absent": 1, "found": 1}


@by_both
def test_unusable_address_ends_the_search(
    wire: Wire, listener: socket.socket, receiving: Receiver
) -> None:
    client = RawClient(wire, TRUSTED, SERVER)
    client.open(ack=bytes.fromhex("fe08934d00000000"))
    with listener.accept()[0] as conn:
        client.data(b"x", TOA)
        assert conn.recv(1) == b"x"
        assert peer_of(conn) == Client(ip_address(TRUSTED), client.port)
    assert receiving.counted() == {"absent": 1, "unusable": 1}


def test_only_in_the_saved_syn(wire: Wire, lab: Lab, servers: Path, receiving: Receiver) -> None:
    receiving.receive(servers, trust=TRUSTED, save_syn=True)
    with listen(lab, servers, SERVER) as listener:
        RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
        with listener.accept()[0] as conn:
            assert peer_of(conn) == CLIENT
    assert receiving.counted() == {"found": 1, "saved_syn": 1}


def test_syn_that_a_server_saves_itself(
    wire: Wire, listener: socket.socket, receiving: Receiver
) -> None:
    RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn).ip == ip_address(TRUSTED)
    listener.setsockopt(socket.IPPROTO_TCP, 27, 1)  # TCP_SAVE_SYN
    RawClient(wire, TRUSTED, SERVER).open(syn=TOA)
    with listener.accept()[0] as conn:
        assert peer_of(conn) == CLIENT
        assert TOA in conn.getsockopt(socket.IPPROTO_TCP, 28, 256)  # the server's own read
    assert receiving.counted() == {"absent": 1, "found": 1, "saved_syn": 1}


@by_both
def test_attached_after_the_listener_started(
    lab: Lab, sender: Path, servers: Path, receiving: Receiver
) -> None:
    with listen(lab, servers, SERVER) as listener:
        receiving.receive(servers)
        with balancer(lab, sender, ("203.0.113.9", 4321)) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
    assert peer == ("203.0.113.9", 4321)


@by_both
@pytest.mark.parametrize("client", [CLIENT, CLIENT6], ids=str)
def test_syncookies(lab: Lab, sender: Path, receiver: Path, client: Client) -> None:
    """No state is kept from the SYN: the ACK serves."""
    lab.origin.sysctl("net.ipv4.tcp_syncookies", "2")
    with listen(lab, receiver, ("::", 7000)) as listener:
        with balancer(lab, sender, (str(client.ip), 4321), family=6) as sock:
            sock.connect(SERVER6)
            with listener.accept()[0] as conn:
                assert peer_of(conn) == client


@by_both
def test_a_connection_that_ends_before_it_is_accepted(wire: Wire, listener: socket.socket) -> None:
    """Its socket has left the network by then; it is known all the same."""
    for source, server in sources(trusted=True):
        client = RawClient(wire, source, server)
        client.open(ack=TOA)
        # A second one has come when the first has surely been reset.
        client.reset()
        RawClient(wire, source, server).open(ack=TOA)
        for _ in range(2):
            conn, peer = listener.accept()
            conn.close()
            assert Client(plain(ip_address(peer[0])), peer[1]) == CLIENT


@by_both
def test_two_clients_one_listener_do_not_mix(lab: Lab, sender: Path, receiver: Path) -> None:
    with listen(lab, receiver, SERVER) as listener:
        socks = []
        for number in range(1, 200):
            sock = balancer(lab, sender, (f"203.0.113.{number}", 1000 + number))
            sock.connect(SERVER)
            socks.append(sock)
        for sock in reversed(socks):
            sock.close()
        seen = []
        for _ in socks:
            conn, peer = listener.accept()
            # accept() and getpeername() agree, also once the connection is closing.
            assert conn.getpeername() == peer
            seen.append(peer)
            conn.close()
    assert seen == [(f"203.0.113.{number}", 1000 + number) for number in range(1, 200)]


@by_both
def test_kind_without_port_leaves_the_port(
    wire: Wire, lab: Lab, servers: Path, receiving: Receiver
) -> None:
    receiving.receive(servers, Kinds((), (), (28,)), trust=TRUSTED)
    with listen(lab, servers, SERVER) as listener:
        client = RawClient(wire, TRUSTED, SERVER)
        client.open(ack=bytes.fromhex("1c0701cb007109"))
        with listener.accept()[0] as conn:
            assert conn.getpeername() == ("203.0.113.9", client.port)
            assert cloud_toa.client_of(conn) == Client(CLIENT.ip, None)


@by_both
def test_other_sockets_are_left_alone(lab: Lab, receiver: Path) -> None:
    with inside(receiver), lab.origin.entered():
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("10.9.0.1", 9))
            assert sock.getpeername() == ("10.9.0.1", 9)
        with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
            sock.getpeername()
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as sock:
                assert sock.getpeername() == server.getsockname()


@by_both
def test_listener_of_multipath_tcp(lab: Lab, sender: Path, receiver: Path) -> None:
    """What a Go server opens by default; an edge that speaks plain TCP is seen as always."""
    with inside(receiver), lab.origin.entered():
        listener = socket.socket(proto=IPPROTO_MPTCP)
    with listener:
        listener.settimeout(120)
        listener.bind(SERVER)
        listener.listen()
        with balancer(lab, sender, (str(CLIENT.ip), 4321)) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            with conn:
                assert peer == conn.getpeername() == (str(CLIENT.ip), 4321)
                assert cloud_toa.client_of(conn) == CLIENT
