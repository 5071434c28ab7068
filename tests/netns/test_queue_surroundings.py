# SPDX-License-Identifier: Apache-2.0
"""What others change on the edge while the queue datapath runs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.queue_edge import running
from tests.netns.queue_haproxy import client_of, connect, seen_by, start_haproxy
from tests.netns.traffic import SERVER, listen, quiet, talk, wait_until

pytestmark = pytest.mark.only_on(kernel="6.12")

TRACKED = "connections that are not to origins are tracked, as there is table inet theirs"
NOT_TRACKED = "connections that are not to origins are not tracked"


@pytest.fixture
def listener(lab: Lab, receiver: Path) -> Iterator[socket.socket]:
    start_haproxy(lab)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        yield listener


def tracked(lab: Lab) -> int:
    """Connections that conntrack knows in the edge's network namespace."""
    return int(lab.edge.run("sysctl", "-n", "net.netfilter.nf_conntrack_count"))


@pytest.mark.parametrize("version", [4, 6])
def test_others_connections_are_tracked_where_others_have_tables(
    lab: Lab, listener: socket.socket, version: int
) -> None:
    with running(lab, "-max-queue-id=1") as edge:
        edge.until(NOT_TRACKED)
        assert tracked(lab) == 0
        with connect(lab, version) as sock:
            conn, seen = seen_by(listener)
            with conn:
                assert seen == client_of(sock)
                talk(sock, conn)
                # To the origin; not the client's.
                assert tracked(lab) == 1
                lab.edge.run("nft", "add table inet theirs")
                edge.until(TRACKED)
                talk(sock, conn)
                assert tracked(lab) == 2
                lab.edge.run("nft", "delete table inet theirs")
                edge.until(NOT_TRACKED)
                talk(sock, conn)


def test_tables_that_nft_does_not_list(lab: Lab) -> None:
    with running(lab, "-max-queue-id=1") as edge:
        edge.until(NOT_TRACKED)
        lab.edge.run("iptables-legacy", "--list-rules")
        edge.until("are tracked, as there is table ip filter (iptables-legacy)")


def test_every_connection_is_tracked_where_every_destination_is_an_origin(
    lab: Lab, listener: socket.socket
) -> None:
    with running(lab, "-max-queue-id=1", origins=("-origin=any",)) as edge:
        with connect(lab, 4) as sock:
            conn, seen = seen_by(listener)
            with conn:
                assert seen == client_of(sock)
                assert tracked(lab) == 2
    assert "tracked" not in edge.log


def test_a_rule_set_that_is_flushed(lab: Lab, listener: socket.socket) -> None:
    """As Debian's nftables.service does when it loads its own anew."""
    with running(lab, "-max-queue-id=1") as edge, connect(lab, 4) as before:
        conn, seen = seen_by(listener)
        assert seen == client_of(before)
        talk(before, conn)
        # What comes while the table is away may end a connection (docs/architecture.md).
        quiet(before, conn)
        table = lab.edge.run("nft", "-s", "list", "table", "inet", "cloud_toa")
        lab.edge.run("nft", "flush", "ruleset")
        edge.until("another program has removed our table: setting it up again")
        edge.until(NOT_TRACKED)
        wait_until(lambda: lab.edge.run("nft", "-s", "list", "table", "inet", "cloud_toa") == table)
        talk(before, conn)
        conn.close()
        with connect(lab, 4) as after:
            conn, seen = seen_by(listener)
            conn.close()
            assert seen == client_of(after)
        assert edge.counters()["written"] > 0
