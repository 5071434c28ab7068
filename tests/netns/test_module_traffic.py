# SPDX-License-Identifier: Apache-2.0
"""toa.ko under traffic: every sender, many connections, loads and unloads, threads, junk."""

import ctypes
import itertools
import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
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
from tests.netns.queue_edge import running
from tests.netns.receiver import peer_of
from tests.netns.receivers import MODULE, Module
from tests.netns.sender import CLIENT, CLIENT6
from tests.netns.test_module_settings import KernelLog
from tests.netns.test_vectors import broken_options
from tests.netns.traffic import SERVER, SERVER6, balancer, listen
from tests.netns.tun_client import SOURCE, Clients, Visit

MANY = 50_000
MALFORMED = 50_000
"""On each of the two kernels."""
LOADS = 200
THREADS = 8
TROUBLE = re.compile(r"BUG|WARNING|Oops|Call Trace|refcount|leak", re.IGNORECASE)


@pytest.fixture
def module() -> Iterator[Module]:
    """Ready to be loaded; the kernel has nothing to complain of in the end."""
    log = KernelLog()
    yield Module()
    kmod.detach()
    assert not TROUBLE.search(str(log)), log


@pytest.fixture
def clients(lab: Lab, module: Module) -> Iterator[Clients]:
    """Of whom the module believes what they say."""
    module.receive(Path(), Kinds((254, 200), (254, 253), (28,)), trust=SOURCE)
    clients = Clients(lab)
    yield clients
    clients.close()


def entries() -> int:
    status = kmod.status()
    assert status is not None
    return status.entries


def numbered(number: int) -> Client:
    """A client whose port follows from its address."""
    ip = ip_address(0xCB000000 + number)
    return Client(ip, int(ip) * 2654435761 % 65535 + 1)


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


def test_many_connections_leave_nothing(clients: Clients) -> None:
    def objects() -> dict[str, int]:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def come_and_go(number: int) -> None:
        visit = clients.connect(encode(numbered(number)))
        assert visit, number
        assert visit.peer == (str(numbered(number).ip), numbered(number).port)
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


def test_loads_and_unloads_under_traffic(clients: Clients) -> None:
    """A connection is its client's or, made without the module, the edge's: nobody else's."""
    stop = threading.Event()
    seen = {"client": 0, "edge": 0}
    wrong: list[object] = []

    def come_and_go() -> None:
        held: list[Visit] = []
        for number in itertools.count():
            # Not as fast as can be: the loads are to have their share of the processor.
            if stop.wait(0.005):
                break
            visit = clients.connect(encode(numbered(number)))
            if visit is None:
                wrong.append("refused")
                continue
            if visit.peer == (str(numbered(number).ip), numbered(number).port):
                seen["client"] += 1
            elif visit.peer == (SOURCE, visit.port):
                seen["edge"] += 1
            else:
                wrong.append(visit.peer)
            # Some are open whenever the module goes.
            held.append(visit)
            if len(held) > 50:
                held.pop(0).reset()
        for visit in held:
            visit.reset()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(LOADS):
            subprocess.run(["rmmod", "toa"], check=True)
            subprocess.run(["insmod", str(MODULE), f"trust={SOURCE}"], check=True)
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert min(seen.values()) > LOADS // 4, seen
    assert entries() == 0


def test_many_threads_ask_while_connections_close(clients: Clients) -> None:
    """Every answer is a client's, whole: its port follows from its address."""
    stop = threading.Event()
    current: list[Visit] = []
    asked = [0] * THREADS
    wrong: list[object] = []

    def ask(index: int) -> None:
        while not stop.is_set():
            for visit in current[:]:
                try:
                    host, port = visit.conn.getpeername()
                except OSError:
                    continue  # closed, or reset
                asked[index] += 1
                number = int(ip_address(host)) - 0xCB000000
                if numbered(number) != Client(ip_address(host), port):
                    wrong.append((host, port))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(500):
            visit = clients.connect(encode(numbered(number)))
            assert visit
            current.append(visit)
            if len(current) > 8:
                current.pop(0).reset()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for visit in current:
            visit.reset()
    assert not wrong
    assert min(asked) > 100, asked
    assert entries() == 0
