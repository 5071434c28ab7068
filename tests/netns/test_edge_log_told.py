# SPDX-License-Identifier: Apache-2.0
"""What the access log says of TOA while nobody listens to the sender, or the sender is mute."""

import signal
import socket
from contextlib import suppress

import pytest

from cloud_toa.bpf.records import MOST
from cloud_toa.demo.lab import Lab
from tests.netns.edge_log import (
    NO_CONNECTION,
    PORT,
    WRITTEN,
    origin_speaks_first,
    said,
    through,
    visit,
    web,
)
from tests.netns.edge_node import EdgeNode, command, place, running, write
from tests.netns.edge_services import CLIENT6, Log, connected
from tests.netns.traffic import reset_at_close, wait_until

pytestmark = pytest.mark.one_kernel


def test_while_the_node_is_away(lab: Lab, server: socket.socket) -> None:
    """Killed, and another one takes over: it knows of what happened in between."""
    log = Log(lab)
    path = write(lab, web() + log.settings)
    with running(lab, "--config", str(path)) as node:
        with through(lab, server) as (sock, conn):
            origin_speaks_first(sock, conn)
            node.stop(signal.SIGKILL)
        visit(lab, server)
        with through(lab, server) as (sock, conn):
            origin_speaks_first(sock, conn)
            with through(lab, server, client=CLIENT6) as (other, its):
                origin_speaks_first(other, its)
            second = EdgeNode(lab, "--config", str(path))
            visit(lab, server)
        try:
            found = [said(log.next()) for _ in range(5)]
            early = ("syn,ack", "-")
            assert found[:3] == [early, WRITTEN, early]
            assert sorted(found[3:]) == [early, WRITTEN]  # of two workers
        finally:
            second.stop()


def test_when_more_is_told_than_is_kept(lab: Lab, server: socket.socket) -> None:
    """Without a node, for long: what is not known is not claimed."""
    log = Log(lab)
    path = write(lab, web() + log.settings)
    with running(lab, "--config", str(path)) as node:
        node.stop(signal.SIGKILL)
        visit(lab, server)
        for _ in range(MOST + 50):
            with through(lab, server) as (sock, _):
                reset_at_close(sock)
        second = EdgeNode(lab, "--config", str(path))
        try:
            # HAProxy's threads may tell of some before the others.
            first = {("unknown", "not_told"), ("syn,ack", "-")}
            wait_until(lambda: first <= {said(entry) for entry in log.entries()})

            def known() -> bool:
                before = len(log.entries())
                visit(lab, server)
                wait_until(lambda: len(log.entries()) > before)
                return said(log.entries()[-1]) == WRITTEN

            wait_until(known)
            assert {said(entry) for entry in log.entries()} == {
                *(("unknown", "not_told"), ("syn,ack", "-"), WRITTEN)
            }
            counters = second.command("edge", "status", "--json").stdout
            assert '"records_lost": ' in counters
            assert '"records_lost": 0' not in counters
        finally:
            second.stop()


def test_when_others_attach_what_does_not_tell(lab: Lab, server: socket.socket) -> None:
    log = Log(lab)
    path = write(lab, web() + log.settings)
    with running(lab, "--config", str(path)):
        visit(lab, server)
        assert said(log.next()) == WRITTEN
        assert command(lab, "edge", "attach", "--cgroup", str(place(lab))).returncode == 0

        def unknown() -> bool:
            visit(lab, server)
            return said(log.next()) == ("unknown", "not_told")

        wait_until(unknown)
        # Without it, HAProxy can't connect from a client's address.
        assert command(lab, "edge", "detach").returncode == 0
        with connected(lab, PORT) as sock, suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        assert said(log.next()) == NO_CONNECTION
