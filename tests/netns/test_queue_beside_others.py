# SPDX-License-Identifier: Apache-2.0
"""The queue datapath beside others' rules, loaded before it and after it: both go on working."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.isolation import Namespace
from cloud_toa.packet import FIN, SYN
from tests.netns.conftest import receive
from tests.netns.queue_edge import QueueEdge, running
from tests.netns.queue_haproxy import PORT, client_of, connect, seen_by, start_haproxy
from tests.netns.queue_neighbours import (
    BY_HAND,
    DOCKER,
    FIREWALLD,
    OTHER_PORT,
    OTHER_SOURCE,
    everything,
    load,
)
from tests.netns.traffic import SERVER, capture, listen

pytestmark = pytest.mark.only_on(kernel="6.1")


@pytest.fixture
def listener(lab: Lab, receiver: Path) -> Iterator[socket.socket]:
    start_haproxy(lab)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        yield listener


def visit(lab: Lab, listener: socket.socket, version: int, port: int = PORT) -> str:
    """Through HAProxy and back; answer the source that its packets had on the way."""
    with capture(lab) as cable, connect(lab, version, port) as sock:
        conn, seen = seen_by(listener)
        with conn:
            assert seen == client_of(sock)
            sock.sendall(b"asked")
            assert conn.recv(10) == b"asked"
            conn.sendall(b"answered")
            assert sock.recv(10) == b"answered"
        sock.close()
        packets = cable.until(FIN)
    assert packets[0].flags & SYN
    (source,) = {str(packet.source[0]) for packet in packets}
    return source


@contextmanager
def beside(lab: Lab, rules: str, before: dict[str, str]) -> Iterator[QueueEdge]:
    """Run with these rules, which are loaded already unless they are not ``before``."""
    with running(lab, "-max-queue-id=2") as edge:
        if not before:
            edge.until("connections that are not to origins are not tracked")
            load(lab, rules)
        edge.until("connections that are not to origins are tracked, as there is table")
        yield edge
        now = edge.counters()
        assert now["written"] == now["packets"] > 0
        # Others' programs still read what is theirs.
        lab.edge.run("iptables-save")
        edge.stop()


def both_orders(lab: Lab, rules: str, check: Callable[[], None]) -> None:
    """``check`` with the rules loaded before ours and after; ours leave no trace."""
    clean = everything(lab)
    load(lab, rules)
    theirs = everything(lab)
    assert theirs != clean
    with beside(lab, rules, theirs):
        check()
    assert everything(lab) == theirs
    for name in ("firewalld", "nat"):
        lab.edge.run("nft", f"table inet {name}; delete table inet {name}")
    if rules is DOCKER:
        lab.edge.run("nft", "delete table ip nat; delete table ip filter")
    with beside(lab, rules, {}):
        check()
    assert everything(lab) == theirs


def test_firewalld(lab: Lab, listener: socket.socket) -> None:
    def check() -> None:
        for version in (4, 6):
            assert visit(lab, listener, version) == EDGE_TO_ORIGIN[version]
        # What it keeps out stays out.
        with pytest.raises(OSError, match="No route"):
            connect(lab, 4, 22)

    both_orders(lab, FIREWALLD, check)


def test_a_nat_table_made_by_hand(lab: Lab, listener: socket.socket, servers: Path) -> None:
    """Its source is the one that the origin sees, and must trust."""
    for version, length in ((4, 24), (6, 64)):
        lab.edge.ip(f"address add {OTHER_SOURCE[version]}/{length} dev to-origin")
    receive(servers, trust=" ".join(OTHER_SOURCE.values()))

    def check() -> None:
        for version in (4, 6):
            for port in (PORT, OTHER_PORT):
                assert visit(lab, listener, version, port) == OTHER_SOURCE[version]

    both_orders(lab, BY_HAND, check)


def test_docker(lab: Lab, listener: socket.socket) -> None:
    """Its container reaches the origin as ever, without the option; and is reached."""
    container = Namespace("container")
    container.ip(
        "link add eth0 type veth peer name docker0 netns edge",
        "address add 172.17.0.2/16 dev eth0",
        "link set eth0 up",
    )
    lab.edge.ip("address add 172.17.0.1/16 dev docker0", "link set docker0 up")
    container.ip("route add default via 172.17.0.1")
    lab.edge.sysctl("net.ipv4.ip_forward", 1)

    def check() -> None:
        for version in (4, 6):
            assert visit(lab, listener, version) == EDGE_TO_ORIGIN[version]
        with container.entered(), socket.create_connection((ORIGIN[4], SERVER[1]), 20) as sock:
            conn, seen = seen_by(listener)
            with conn:
                assert str(seen.ip) == EDGE_TO_ORIGIN[4]
                sock.sendall(b"x")
                assert conn.recv(1) == b"x"
        with container.entered(), socket.create_server(("172.17.0.2", 80)) as web:
            web.settimeout(120)
            with connect(lab, 4, 8088) as sock:
                conn, peer = web.accept()
                conn.close()
                assert peer == sock.getsockname()

    both_orders(lab, DOCKER, check)
    container.remove()
