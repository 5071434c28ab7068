# SPDX-License-Identifier: Apache-2.0
"""A socket that connects more than once: nothing of an earlier connection is taken along."""

import ctypes
import errno
import mmap
import socket
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge
from cloud_toa.config import EdgeSettings, NoPort, Where
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.origins import Origins
from cloud_toa.ports import PortTable
from tests.netns.named_ports import OWN, add, ports, table
from tests.netns.sender import CLIENT, counters
from tests.netns.traffic import (
    IP_TRANSPARENT,
    SERVER,
    balancer,
    listen,
    reset_at_close,
    talk,
)

__all__ = ["table"]

OTHER = ("203.0.113.77", 1)


def disconnect(sock: socket.socket) -> None:
    """connect(2): AF_UNSPEC dissolves the association. Python has no way to write it."""
    assert ctypes.CDLL(None).connect(sock.fileno(), bytes(28), 28) == 0


def test_a_client_named_by_port_is_of_one_connection(
    lab: Lab, balancers: Path, table: mmap.mmap, receiver: Path
) -> None:
    port, seen = next(ports), []
    with listen(lab, receiver, SERVER) as listener, balancer(lab, balancers, None) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((OWN, port))
        for client in (CLIENT, OTHER, None):
            if client is not None:
                add(table, port, client)
            sock.connect(SERVER)
            conn, peer = listener.accept()
            reset_at_close(conn)
            conn.close()
            seen.append(peer)
            disconnect(sock)
    assert seen == [CLIENT, OTHER, (OWN, port)]


def test_a_client_that_was_bound_to_is_of_all(lab: Lab, sender: Path, receiver: Path) -> None:
    """As the address would be, that the kernel had bound to."""
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, CLIENT) as sock:
        for _ in range(2):
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
            assert peer == CLIENT
            disconnect(sock)


@pytest.mark.parametrize("how", ["skipped", "bound again"])
def test_what_it_was_bound_for_is_not_forgotten(
    lab: Lab, balancers: Path, servers: Path, how: str
) -> None:
    """A socket that has waited in vain for a client is still one that bound to somebody."""
    listed = Origins.parse(["10.9.0.2:7000"])
    settings = EdgeSettings(origins=listed, control=True, no_port=NoPort.SKIP)
    edge.attach([cgroup.root()], settings)
    memory = edge.ports()
    assert memory is not None
    PortTable(memory).expect_late()
    client = (CLIENT[0], 0) if how == "skipped" else CLIENT
    with (
        listen(lab, servers, SERVER) as listener,
        listen(lab, servers, ("127.0.0.1", 7001), lab.edge),
        balancer(lab, balancers, client) as sock,
    ):
        if how == "bound again":
            sock.bind(("0.0.0.0", 0))
        sock.connect(SERVER)
        listener.accept()[0].close()
        disconnect(sock)
        assert sock.connect_ex(("127.0.0.1", 7001)) == errno.EHOSTUNREACH


def test_each_connection_is_told_of(lab: Lab, balancers: Path, servers: Path) -> None:
    edge.attach([balancers], EdgeSettings(where=Where.SYN | Where.DATA, tell=True))
    with listen(lab, servers, SERVER) as listener, balancer(lab, balancers, CLIENT) as sock:
        for times in (1, 2):
            sock.connect(SERVER)
            listener.accept()[0].close()
            assert sock.recv(1) == b""
            disconnect(sock)
            assert counters()["connections"] == times
            records = edge.told()
            assert records is not None
            assert [each.written for each in records.read()] == [Where.SYN]


def test_a_bind_that_the_kernel_refuses_names_nobody(
    lab: Lab, sender: Path, receiver: Path
) -> None:
    with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, None) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
        sock.bind(("", 40077))
        with pytest.raises(OSError, match="Cannot assign"):
            sock.bind(CLIENT)
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer[0] == EDGE_TO_ORIGIN[4]


def test_an_accepted_socket_that_connects(lab: Lab, sender: Path, receiver: Path) -> None:
    """Its peer is no longer the client that it was accepted from."""
    other = ("127.0.0.1", 7009)
    with listen(lab, receiver, SERVER) as listener, listen(lab, receiver, other) as there:
        with balancer(lab, sender, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            talk(sock, conn)
        assert peer == CLIENT
        with conn:
            disconnect(conn)
            with lab.origin.entered():
                conn.connect(other)
            there.accept()[0].close()
            assert conn.getpeername() == other
