# SPDX-License-Identifier: Apache-2.0
"""Attached to the whole host with a list of origins: what others do there stays theirs.

A program that binds to its client and goes elsewhere, as go-mmproxy does, can't have its bind()
back. It is refused, in place of being connected in this host's name.
"""

import errno
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import cgroup, edge
from cloud_toa.config import EdgeSettings, NoPort
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.origins import Origins
from tests.netns.sender import CLIENT, CLIENT6, counters
from tests.netns.traffic import SERVER, balancer, listen

LISTED = Origins.parse(["10.9.0.2:7000"])


@pytest.fixture
def whole_host(balancers: Path) -> Path:
    edge.attach([cgroup.root()], EdgeSettings(origins=LISTED, control=True))
    return balancers


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (CLIENT, ("127.0.0.1", 7001)),
        (CLIENT, ("10.9.0.2", 7001)),
        ((CLIENT[0], 0), ("127.0.0.1", 7001)),
        (CLIENT, ("::ffff:127.0.0.1", 7001)),
        (CLIENT6, ("::1", 7001)),
        (CLIENT6, ("fd09::2", 7001)),
    ],
    ids=str,
)
def test_who_is_bound_to_a_client_gets_no_other_address(
    lab: Lab, whole_host: Path, servers: Path, client: tuple[str, int], server: tuple[str, int]
) -> None:
    at_home = "127.0.0.1" in server[0] or server[0] == "::1"
    with listen(lab, servers, ("::", 7001), lab.edge if at_home else None) as listener:
        with balancer(lab, whole_host, client, 6 if ":" in server[0] else 4) as sock:
            assert sock.connect_ex(server) == errno.EHOSTUNREACH
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert counters()["refused"] == 1


def test_without_an_option_either(lab: Lab, balancers: Path) -> None:
    """A client without a port that is to be skipped has been bound to nothing as well."""
    settings = EdgeSettings(origins=LISTED, no_port=NoPort.SKIP)
    edge.attach([cgroup.root()], settings)
    with balancer(lab, balancers, (CLIENT[0], 0)) as sock:
        assert sock.connect_ex(("10.9.0.2", 7001)) == errno.EHOSTUNREACH
    assert counters()["refused"] == 1


def test_listed_origins_are_served(lab: Lab, whole_host: Path, receiver: Path) -> None:
    with listen(lab, receiver, SERVER) as listener, balancer(lab, whole_host, CLIENT) as sock:
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer == CLIENT
    assert counters()["refused"] == 0


def test_who_is_bound_to_nobody_goes_anywhere(lab: Lab, whole_host: Path, servers: Path) -> None:
    with listen(lab, servers, ("10.9.0.2", 7001)) as listener:
        for named in (False, True):
            with balancer(lab, whole_host, None) as sock:
                if named:
                    cloud_toa.set_client(sock, CLIENT)
                sock.connect(("10.9.0.2", 7001))
                conn, peer = listener.accept()
                conn.close()
            assert peer[0] == EDGE_TO_ORIGIN[4]
    assert counters()["refused"] == 0


@pytest.mark.parametrize("origins", [LISTED, Origins((), True)], ids=["a cgroup", "any origin"])
def test_a_load_balancers_own_cgroup_is_taken_at_its_word(
    lab: Lab, balancers: Path, servers: Path, origins: Origins
) -> None:
    """And with every destination an origin, none is elsewhere."""
    place = cgroup.root() if origins.everywhere else balancers
    edge.attach([place], EdgeSettings(origins=origins))
    status = edge.status()
    assert status is not None
    assert not status.settings.refuse_elsewhere
    with listen(lab, servers, ("10.9.0.2", 7001)) as listener:
        with balancer(lab, balancers, CLIENT) as sock:
            sock.connect(("10.9.0.2", 7001))
            conn, peer = listener.accept()
            conn.close()
    assert peer[0] == EDGE_TO_ORIGIN[4]


def test_go_mmproxy_beside_us(lab: Lab, whole_host: Path, servers: Path) -> None:
    """Its server behind loopback never sees it as somebody who is at home."""
    server, front = ("127.0.0.1", 7001), (EDGE[4], 7002)
    listens = f"{front[0]}:{front[1]}"
    command = ["go-mmproxy", "-l", listens, "-4", f"{server[0]}:{server[1]}", "-6", "[::1]:7001"]
    with listen(lab, servers, server, lab.edge) as listener:
        lab.start(lab.edge, command, [front], place=whole_host)
        with lab.connect((CLIENT[0], 0), front) as visitor:
            visitor.sendall(f"PROXY TCP4 {CLIENT[0]} {front[0]} 4321 7002\r\nhello".encode())
            assert visitor.recv(1) == b""
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert counters()["refused"] == 1
