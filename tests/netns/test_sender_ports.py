# SPDX-License-Identifier: Apache-2.0
"""Clients named by local port: an entry names the client of one connection, of no other."""

import mmap
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import Lab
from cloud_toa.option import Client, Kinds, encode
from cloud_toa.origins import EVERYWHERE
from cloud_toa.packet import FIN
from cloud_toa.ports import LIFETIME, PortTable
from tests.netns.named_ports import OWN, add, attach, bound, ports, state, table, visit
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import (
    SERVER,
    SERVER6,
    balancer,
    capture,
    listen,
    talk,
)

__all__ = ["table"]


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
    port = next(ports)
    add(table, port, client)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        assert visit(lab, balancers, listener, port, server) == client
    now = counters()
    assert (now["clients"], now["connections"], now["late"]) == (1, 1, 0)
    assert state(table, port) == 0


def test_an_ipv6_client_on_an_ipv4_server(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(ports)
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
    port = next(ports)
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
    port = next(ports)
    add(table, port, CLIENT)
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, None) as sock:
            sock.bind((OWN, port))
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                talk(sock, conn)
        packets = cable.until(FIN)
    assert [marked(packet) for packet in packets[:3]] == [
        Client(ip_address(CLIENT[0]), CLIENT[1])
    ] * 3
    assert not any(map(marked, packets[3:]))


def test_a_void_entry_is_not_used(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(ports)
    add(table, port, CLIENT, late=True, age=LIFETIME)
    PortTable(table).expect_late()
    with listen(lab, receiver, SERVER) as listener:
        assert visit(lab, balancers, listener, port) == (OWN, port)
        add(table, port, CLIENT, age=LIFETIME - 5 * 10**9)
        assert visit(lab, balancers, listener, port) == CLIENT


def test_who_was_named_otherwise_leaves_the_entry(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port = next(ports)
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
    table, port = attach(balancers, f"{SERVER[0]}:{SERVER[1]}"), next(ports)
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


def test_entries_outlive_an_exchange(lab: Lab, balancers: Path, receiver: Path) -> None:
    """Also for the process that has the table mapped."""
    table, port = attach(balancers), next(ports)
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
    table, port = attach(balancers), next(ports)
    assert len(table) == 65_536 * 72
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
    port = next(ports)
    option = encode(Client(ip_address(CLIENT[0]), CLIENT[1]), kind_v4=200)
    PortTable(table).add(port, option, time.monotonic_ns(), late=False)
    with capture(lab) as cable, listen(lab, servers, SERVER):
        with bound(lab, balancers, OWN, port) as sock:
            sock.connect(SERVER)
            syn = next(cable.packets())
    assert marked(syn, Kinds((200,), (200,))) == Client(ip_address(CLIENT[0]), CLIENT[1])
