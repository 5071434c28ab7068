# SPDX-License-Identifier: Apache-2.0
"""Clients named by local port: an entry names the client of one connection, of no other."""

import mmap
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings, Where
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client, Kinds, encode
from cloud_toa.origins import EVERYWHERE, Origins
from cloud_toa.packet import FIN, SYN
from cloud_toa.ports import ENTRY, LIFETIME, PortTable
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import (
    SERVER,
    SERVER6,
    Cable,
    balancer,
    capture,
    listen,
    reset_at_close,
)

OWN = EDGE_TO_ORIGIN[4]
_ports = count(40001)


def attach(balancers: Path, origins: str = "any", where: Where = EdgeSettings.where) -> mmap.mmap:
    edge.attach(
        [balancers], EdgeSettings(where=where, origins=Origins.parse([origins]), control=True)
    )
    memory = edge.ports()
    assert memory is not None
    return memory


@pytest.fixture
def table(balancers: Path) -> mmap.mmap:
    """The running sender's table."""
    return attach(balancers)


def add(
    memory: mmap.mmap, port: int, client: tuple[str, int], *, late: bool = False, age: int = 0
) -> None:
    """Name the client of the next connection from a port, ``age`` nanoseconds ago."""
    option = encode(Client(ip_address(client[0]), client[1]))
    PortTable(memory).add(port, option, time.monotonic_ns() - age, late)


def state(memory: mmap.mmap, port: int) -> int:
    return int(ENTRY.unpack_from(memory, port * ENTRY.size)[3])


def bound(lab: Lab, place: Path, source: str, port: int) -> socket.socket:
    """A load balancer's socket with a local port; it may be used again at once."""
    sock = balancer(lab, place, None, 6 if ":" in source else 4)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((source, port))
    reset_at_close(sock)
    return sock


def visit(
    lab: Lab, place: Path, listener: socket.socket, port: int, server: tuple[str, int] = SERVER
) -> tuple[str, int]:
    """Connect from a local port; answer whom the origin saw."""
    with bound(lab, place, "::" if ":" in server[0] else OWN, port) as sock:
        sock.connect(server)
        conn, peer = listener.accept()
        conn.close()
        return peer[0].removeprefix("::ffff:"), peer[1]


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
@pytest.mark.parametrize("server", [SERVER, SERVER6, (f"::ffff:{SERVER[0]}", SERVER[1])])
def test_the_client_is_seen(
    lab: Lab,
    balancers: Path,
    table: mmap.mmap,
    receiver: Path,
    client: tuple[str, int],
    server: tuple[str, int],
) -> None:
    port = next(_ports)
    add(table, port, client)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        assert visit(lab, balancers, listener, port, server) == client
    now = counters()
    assert (now["clients"], now["connections"], now["late"]) == (1, 1, 0)
    assert state(table, port) == 0


def test_an_ipv6_client_on_an_ipv4_server(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(_ports)
    add(table, port, CLIENT6)
    with listen(lab, receiver, SERVER) as listener, bound(lab, balancers, OWN, port) as sock:
        sock.connect(SERVER)
        conn, peer = listener.accept()
        with conn:
            assert peer == (OWN, port)
            assert cloud_toa.client_of(conn) == Client(ip_address(CLIENT6[0]), CLIENT6[1])


def test_an_entry_serves_one_connection(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(_ports)
    add(table, port, CLIENT)
    with listen(lab, receiver, SERVER) as listener:
        assert visit(lab, balancers, listener, port) == CLIENT
        assert visit(lab, balancers, listener, port) == (OWN, port)
        other = ("203.0.113.77", 1)
        add(table, port, other)
        assert visit(lab, balancers, listener, port) == other


def test_an_entry_is_of_its_own_port(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    # 0x9c41 and 0x419c: the same bytes in another order.
    add(table, 0x9C41, CLIENT)
    add(table, 65535, CLIENT6)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        assert visit(lab, balancers, listener, 0x419C) == (OWN, 0x419C)
        assert visit(lab, balancers, listener, 65535) == CLIENT6
        assert visit(lab, balancers, listener, 0x9C41) == CLIENT


def test_which_packets_carry_it(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    """Those of any named client: the SYN, the ACK and the first data."""
    port = next(_ports)
    add(table, port, CLIENT)
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                for word in (b"one", b"two"):
                    sock.sendall(word)
                    assert conn.recv(10) == word
                    conn.sendall(word)
                    assert sock.recv(10) == word
        packets = cable.until(FIN)
    assert [marked(packet) for packet in packets[:3]] == [
        Client(ip_address(CLIENT[0]), CLIENT[1])
    ] * 3
    assert not any(map(marked, packets[3:]))


def test_a_void_entry_is_not_used(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(_ports)
    add(table, port, CLIENT, late=True, age=LIFETIME)
    PortTable(table).expect_late()
    with listen(lab, receiver, SERVER) as listener:
        assert visit(lab, balancers, listener, port) == (OWN, port)
        add(table, port, CLIENT, age=LIFETIME - 5 * 10**9)
        assert visit(lab, balancers, listener, port) == CLIENT


def test_who_was_named_otherwise_leaves_the_entry(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(_ports)
    add(table, port, ("203.0.113.77", 1))
    with listen(lab, receiver, SERVER) as listener:
        with bound(lab, balancers, OWN, port) as sock:
            cloud_toa.set_client(sock, CLIENT)
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
    assert peer == CLIENT
    assert state(table, port) == 1


def test_an_unlisted_destination_leaves_the_entry(
    lab: Lab, balancers: Path, receiver: Path
) -> None:
    table, port = attach(balancers, f"{SERVER[0]}:{SERVER[1]}"), next(_ports)
    add(table, port, CLIENT)
    with listen(lab, receiver, SERVER) as listed, listen(lab, receiver, (SERVER[0], 7001)) as other:
        with capture(lab) as cable:
            assert visit(lab, balancers, other, port, (SERVER[0], 7001)) == (OWN, port)
            assert not marked(next(cable.packets()))
        now = counters()
        assert (now["elsewhere"], now["clients"], now["connections"]) == (1, 0, 0)
        assert state(table, port) == 1
        assert visit(lab, balancers, listed, port) == CLIENT


def test_sockets_that_name_nobody_are_left_alone(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.connect(SERVER)
            listener.accept()[0].close()
        packets = cable.until(FIN)
    assert not any(map(marked, packets))
    assert set(counters().values()) == {0}


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
    sock.settimeout(20)


def connected(sock: socket.socket) -> None:
    """Wait for the SYN's repetition to be answered."""
    assert select.select([], [sock], [], 20)[1]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("where", [EdgeSettings.where, Where.ACK, Where.DATA], ids=str)
@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_an_entry_that_comes_after_the_syn(
    lab: Lab, balancers: Path, receiver: Path, client: tuple[str, int], where: Where
) -> None:
    table, port = attach(balancers, where=where), next(_ports)
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
    port = next(_ports)
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
    port = next(_ports)
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            with syn_lost(lab, cable, sock):
                add(table, port, CLIENT, late=True)
            connected(sock)
            conn, peer = listener.accept()
            conn.close()
    assert peer == (OWN, port)
    assert state(table, port) == 1


def test_an_entry_after_the_handshake_is_too_late(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    """A socket waits no longer than to its ACK."""
    port = next(_ports)
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
    assert set(counters().values()) == {0}
    assert state(table, port) == 1


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
    port, sent = next(_ports), 20_000
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
                conn.settimeout(20)
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


def test_entries_outlive_an_exchange(lab: Lab, balancers: Path, receiver: Path) -> None:
    """Also for the process that has the table mapped."""
    table, port = attach(balancers), next(_ports)
    add(table, port, CLIENT)
    again = attach(balancers, "10.9.0.0/24")
    assert state(again, port) == 1
    with listen(lab, receiver, SERVER) as listener:
        assert visit(lab, balancers, listener, port) == CLIENT
        other = ("203.0.113.77", 1)
        add(table, port, other)
        assert visit(lab, balancers, listener, port) == other


def test_there_is_a_table_only_with_control(lab: Lab, balancers: Path, receiver: Path) -> None:
    assert edge.ports() is None
    edge.attach([balancers], EdgeSettings())
    assert edge.ports() is None
    table, port = attach(balancers), next(_ports)
    assert len(table) == 65_536 * 40
    status = edge.status()
    assert status is not None
    assert status.settings == EdgeSettings(origins=EVERYWHERE, control=True)
    assert not edge.attach([balancers], status.settings)
    add(table, port, CLIENT)
    assert edge.attach([balancers], EdgeSettings()).replaced
    assert edge.ports() is None
    with listen(lab, receiver, SERVER) as listener:
        assert visit(lab, balancers, listener, port) == (OWN, port)
    # A new table knows nothing of the old one's entries.
    assert state(attach(balancers), port) == 0


def test_the_option_is_as_it_was_stored(
    lab: Lab, balancers: Path, table: mmap.mmap, servers: Path
) -> None:
    """Its kind is the writer's affair."""
    port = next(_ports)
    option = encode(Client(ip_address(CLIENT[0]), CLIENT[1]), kind_v4=200)
    PortTable(table).add(port, option, time.monotonic_ns(), late=False)
    with capture(lab) as cable, listen(lab, servers, SERVER):
        with bound(lab, balancers, OWN, port) as sock:
            sock.connect(SERVER)
            syn = next(cable.packets())
    assert marked(syn, Kinds((200,), (200,))) == Client(ip_address(CLIENT[0]), CLIENT[1])
