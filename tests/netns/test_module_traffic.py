# SPDX-License-Identifier: Apache-2.0
"""toa.ko under traffic: every sender, reused sockets, a full table, many connections, junk."""

import ctypes
import itertools
import os
import random
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa import kmod
from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client, Kinds, decode, encode
from cloud_toa.trust import Trust
from tests.netns.module_kernel import entries, numbered
from tests.netns.queue_control import balancer as named_balancer
from tests.netns.queue_edge import running
from tests.netns.receiver import peer_of
from tests.netns.receivers import Module
from tests.netns.sender import CLIENT, CLIENT6
from tests.netns.test_vectors import broken_options
from tests.netns.traffic import SERVER, SERVER6, balancer, listen
from tests.netns.tun_client import SOURCE, Clients

MANY = 50_000
MALFORMED = 50_000
"""On each of the two kernels."""


@pytest.mark.parametrize("sender", ["bpf", "queue"])
def test_every_pair_of_families(
    lab: Lab, servers: Path, balancers: Path, module: Module, sender: str
) -> None:
    module.receive(servers)
    pairs = [
        (4, CLIENT, SERVER),
        (6, CLIENT6, SERVER6),
        *(
            [(6, CLIENT, SERVER6), (6, CLIENT6, (f"::ffff:{SERVER[0]}", SERVER[1]))]
            * (sender == "bpf")
        ),
    ]

    def visit() -> None:
        with listen(lab, servers, ("::", SERVER[1])) as listener:
            for family, client, server in pairs:
                with balancer(lab, balancers, client, family) as sock:
                    sock.connect(server)
                    with listener.accept()[0] as conn:
                        assert peer_of(conn) == Client(ip_address(client[0]), client[1])
                        assert cloud_toa.client_of(conn) == peer_of(conn)

    if sender == "bpf":
        edge.attach([balancers], EdgeSettings())
        visit()
    else:
        with running(lab):
            visit()
    assert module.counters()["found"] == len(pairs)


def test_every_pair_of_families_by_the_control_socket(
    lab: Lab, servers: Path, balancers: Path, module: Module
) -> None:
    module.receive(servers)
    pairs = list(itertools.product((CLIENT, CLIENT6), (SERVER, SERVER6)))
    with named_balancer(lab, balancers) as lb:
        with listen(lab, servers, ("::", SERVER[1])) as listener:
            for port, (client, server) in enumerate(pairs, 41001):
                lb.add(port, client)
                assert lb.visit(listener, port, server) == client
    assert module.counters()["found"] == len(pairs)


def test_beside_the_ebpf_receiver(lab: Lab, sender: Path, servers: Path, module: Module) -> None:
    """Also for a connection that only one of the two has seen begin."""
    module.receive(servers)
    with listen(lab, servers, SERVER) as listener:
        with balancer(lab, sender, CLIENT) as before:
            before.connect(SERVER)
            early = listener.accept()[0]
            origin.attach([servers], OriginSettings(Trust.parse(EDGE_TO_ORIGIN.values())))
            with balancer(lab, sender, (CLIENT[0], 4322)) as sock:
                sock.connect(SERVER)
                both = listener.accept()[0]
                for conn, port in ((early, CLIENT[1]), (both, 4322)):
                    assert conn.getpeername() == (CLIENT[0], port)
                    assert cloud_toa.client_of(conn) == Client(ip_address(CLIENT[0]), port)
                module.detach()
                assert both.getpeername() == (CLIENT[0], 4322)
                early.close()
                both.close()


def test_a_socket_that_is_used_again(clients: Clients) -> None:
    """What was known of it goes with the connection, not with the socket."""
    visit = clients.connect(encode(numbered(1)))
    assert visit
    assert visit.peer == (str(numbered(1).ip), numbered(1).port)
    # connect() to AF_UNSPEC ends the connection; the socket lives on.
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(visit.conn.fileno(), bytes(16), 16) == 0
    with pytest.raises(OSError, match="not connected"):
        visit.conn.getpeername()
    assert cloud_toa.client_of(visit.conn) is None
    visit.conn.close()
    assert entries() == 0


def test_the_table_is_full(clients: Clients) -> None:
    (kmod.SYS / "parameters/table_size").write_text("3")
    visits = [visit for number in range(5) if (visit := clients.connect(encode(numbered(number))))]
    seen = [visit.peer[0] for visit in visits]
    assert seen == [str(numbered(number).ip) for number in range(3)] + [SOURCE] * 2
    status = kmod.status()
    assert status is not None
    assert (status.entries, status.table_size, status.counters["table_full"]) == (3, 3, 2)
    for visit in visits:
        visit.reset()
    assert entries() == 0


def test_entries_of_ipv6_clients_are_counted_as_they_come_and_go(clients: Clients) -> None:
    """As in the published modules, where the two are equal once all is closed."""

    def counted() -> tuple[int, int]:
        status = kmod.status()
        assert status is not None
        return status.counters["ip6_address_alloc"], status.counters["ip6_address_free"]

    client = Client(ip_address("2001:db8::9"), 4321)
    visits = [clients.connect(encode(each)) for each in (client, numbered(1), client)]
    assert counted() == (2, 0)
    for visit in visits:
        assert visit
        visit.reset()
    assert entries() == 0
    assert counted() == (2, 2)


def test_many_connections_leave_nothing(clients: Clients) -> None:
    def objects() -> dict[str, int]:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def come_and_go(number: int) -> None:
        client = numbered(number)
        visit = clients.connect(encode(client))
        assert visit, number
        assert visit.peer == (str(client.ip), client.port)
        (visit.reset, visit.closed_by_server, visit.finish)[number % 3]()

    for number in range(2000):
        come_and_go(number)
    before = objects()
    for number in range(MANY):
        come_and_go(number)
    assert entries() == 0
    grown = {name: count - before.get(name, 0) for name, count in objects().items()}
    assert not {name: count for name, count in grown.items() if count > MANY // 10}
    assert Module().counters()["found"] == MANY + 2000


def test_malformed_options(clients: Clients) -> None:
    """Whatever stands there: the answer is the one that option.py reads in the same bytes."""
    kinds = Kinds((254, 200), (254, 253), (28,))
    chance = random.Random(os.uname().release)
    compared = 0
    for _ in range(MALFORMED):
        ack = broken_options(chance)
        visit = clients.connect(ack, broken_options(chance) if chance.random() < 0.5 else b"")
        if visit is None:
            continue  # refused by Linux itself, before anybody sees it
        client = decode(ack, kinds).client
        if client is None or client.ip.version == 6:
            # An AF_INET socket can't name an IPv6 client.
            assert visit.peer == (SOURCE, visit.port), ack.hex()
            assert cloud_toa.client_of(visit.conn) == client, ack.hex()
        else:
            assert visit.peer == (str(client.ip), client.port or visit.port), ack.hex()
        visit.reset()
        compared += 1
    assert compared > MALFORMED // 3
    assert entries() == 0
