# SPDX-License-Identifier: Apache-2.0
"""Clients named by the port that a load balancer connects from: the table, and who connects."""

import mmap
import socket
import time
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings, Where
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client, encode
from cloud_toa.origins import Origins
from cloud_toa.ports import ENTRY, PortTable
from tests.netns.traffic import (
    SERVER,
    balancer,
    reset_at_close,
)

OWN = EDGE_TO_ORIGIN[4]


ports = count(40001)


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
    return int(ENTRY.unpack_from(memory, port * ENTRY.size)[8])


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
