# SPDX-License-Identifier: Apache-2.0
"""Entries that are stored after the SYN has left, as a peer's that waits for no answer."""

import mmap
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.config import EdgeSettings, Where
from cloud_toa.demo.lab import Lab
from cloud_toa.option import Client
from cloud_toa.packet import FIN, SYN
from cloud_toa.ports import PortTable
from tests.netns.named_ports import OWN, add, attach, bound, ports, state, table, visit
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import (
    SERVER,
    Cable,
    balancer,
    capture,
    listen,
)

__all__ = ["table"]


@pytest.mark.parametrize("user", ["named by call", "unlisted", "nobody's"])
def test_a_port_that_is_in_use(lab: Lab, balancers: Path, receiver: Path, user: str) -> None:
    """An entry that comes meanwhile is for nobody, whoever has the port: its bind() has failed."""
    table, port = attach(balancers, "10.9.0.2:7000"), next(ports)
    PortTable(table).expect_late()
    server = ("10.9.0.2", 7001) if user == "unlisted" else SERVER
    with (
        listen(lab, receiver, SERVER) as listener,
        listen(lab, receiver, server) if user == "unlisted" else listener.dup() as first,
    ):
        first.settimeout(120)
        with bound(lab, balancers, OWN, port) as sock:
            if user == "named by call":
                cloud_toa.set_client(sock, CLIENT)
            sock.connect(server)
            with first.accept()[0]:
                add(table, port, ("203.0.113.77", 1), late=True)
        assert visit(lab, balancers, listener, port) == (OWN, port)


@contextmanager
def syn_lost(lab: Lab, cable: Cable, sock: socket.socket) -> Iterator[None]:
    """Connect, and run the block after the first SYN has left and before one is answered."""
    lab.origin.run("nft", "add table inet lost")
    lab.origin.run("nft", "add chain inet lost in { type filter hook input priority 0; }")
    lab.origin.run("nft", "add rule inet lost in tcp flags & (syn | ack) == syn drop")
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.connect(SERVER)
    syn = next(cable.packets())
    assert syn.flags & SYN
    assert not marked(syn)
    yield
    lab.origin.run("nft", "delete table inet lost")
    sock.settimeout(120)


def connected(sock: socket.socket) -> None:
    """Wait for the SYN's repetition to be answered."""
    assert select.select([], [sock], [], 20)[1]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("where", [EdgeSettings.where, Where.ACK, Where.DATA], ids=str)
@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_an_entry_that_comes_after_the_syn(
    lab: Lab, balancers: Path, receiver: Path, client: tuple[str, int], where: Where
) -> None:
    table, port = attach(balancers, where=where), next(ports)
    PortTable(table).expect_late()
    with capture(lab) as cable, listen(lab, receiver, ("::", SERVER[1])) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            with syn_lost(lab, cable, sock):
                add(table, port, client, late=True)
            connected(sock)
            with listener.accept()[0] as conn:
                sock.sendall(b"x")
                assert conn.recv(1) == b"x"
                assert conn.getpeername()[0].removeprefix("::ffff:") == client[0]
                assert conn.getpeername()[1] == client[1]
        packets = cable.until(FIN)
    rest = [packet for packet in packets if not packet.flags & SYN]
    expected = [Where.ACK in where, Where.DATA in where]
    assert [marked(packet) is not None for packet in rest[:2]] == expected
    assert not any(marked(packet) for packet in packets if packet.flags & SYN)
    now = counters()
    assert (now["late"], now["clients"], now["connections"]) == (1, 1, 1)
    assert (now["syn"], now["ack"], now["data"]) == (0, *expected)
    assert now["no_room"] == now["syn_without"] == 0
    assert state(table, port) == 0


def test_an_entry_of_a_patient_peer_is_not_taken_late(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    """It was stored before its own connection: the one that is under way is another's."""
    port = next(ports)
    PortTable(table).expect_late()
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            with syn_lost(lab, cable, sock):
                add(table, port, CLIENT)
            connected(sock)
            conn, peer = listener.accept()
            conn.close()
    assert peer == (OWN, port)
    assert state(table, port) == 1
    assert set(counters().values()) == {0}


def test_nothing_is_taken_late_where_no_peer_is(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(ports)
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            with syn_lost(lab, cable, sock):
                add(table, port, CLIENT, late=True)
            connected(sock)
            conn, peer = listener.accept()
            conn.close()
        assert peer == (OWN, port)
        # It was meant for that connection, perhaps: so for none that comes after it.
        assert visit(lab, balancers, listener, port) == (OWN, port)


def test_an_entry_after_the_handshake_is_too_late(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    """A socket waits no longer than to its ACK."""
    port = next(ports)
    PortTable(table).expect_late()
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                add(table, port, CLIENT, late=True)
                for speaker, hearer in ((sock, conn), (conn, sock), (sock, conn)):
                    speaker.sendall(b"x")
                    assert hearer.recv(1) == b"x"
        packets = cable.until(FIN)
        assert not any(map(marked, packets))
        assert visit(lab, balancers, listener, port) == (OWN, port)
    assert set(counters().values()) == {0}


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
@pytest.mark.parametrize("first", [Where.ACK, Where.DATA], ids=str)
def test_no_packet_of_a_late_client_exceeds_the_mtu(
    lab: Lab,
    balancers: Path,
    table: mmap.mmap,
    receiver: Path,
    client: tuple[str, int],
    first: Where,
) -> None:
    """Data is cut to size before it is known whether a client comes with it."""
    lab.edge.ip("link set to-origin gso_max_segs 1")
    port, sent = next(ports), 20_000
    PortTable(table).expect_late()
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            with syn_lost(lab, cable, sock):
                add(table, port, client, late=True)
            if first is Where.ACK:
                connected(sock)
            # Who waits in send() for the connection has the data bring the ACK.
            sock.settimeout(None)
            sock.sendall(bytes(sent))
            with listener.accept()[0] as conn:
                conn.settimeout(120)
                assert cloud_toa.client_of(conn) == Client(ip_address(client[0]), client[1])
                got = 0
                while got < sent:
                    got += len(conn.recv(65536))
        packets = [packet for packet in cable.until(FIN) if not packet.flags & SYN]
    assert (packets[0].payload < len(packets[0].data)) == (first is Where.DATA)
    assert marked(packets[0])
    # Data of before may have left room for 20 bytes where the client took 8.
    assert max(len(packet.data) for packet in packets) in range(1488, 1501)
    assert counters()["late"] == 1
    # One that is too long would not leave the edge, and be cut anew.
    assert lab.edge.run("nstat", "-asz", "IpFragFails").split()[-2:] == ["0", "0.0"]
