# SPDX-License-Identifier: Apache-2.0
"""Origins by host name: their addresses come, change and go while the edge runs."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.demo.lab import Lab
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    ORIGIN,
    Log,
    is_refused,
    is_seen,
    lead,
    origin,
    service,
    start_origin,
    visit,
    wait_until_served,
)
from tests.netns.logged import PATIENCE
from tests.netns.traffic import wait_until

pytestmark = pytest.mark.one_kernel

MOVED, MOVED6 = "10.9.0.3", "fd09::3"


def test_a_name_that_moves(lab: Lab, receiver: Path, hosts: Path) -> None:
    """Without a reload, to either IP version, and with TOA at each."""
    lab.origin.ip(f"address add {MOVED}/24 dev eth0", f"address add {MOVED6}/64 dev eth0 nodad")
    start_origin(lab, receiver, "web", FIRST)
    log = Log(lab)
    entry = origin(FIRST, address="origin.test")
    lead(hosts, f"{ORIGIN} origin.test")
    path = write(
        lab,
        "resolve_interval = 1\n"
        + service("web", 8080, "check.interval = '500ms'", origins=entry, check=True)
        + service("other", 8081, "toa = false", origins=entry)
        + log.settings,
    )
    with running(lab, "--config", str(path)) as node:
        worker = node.haproxy
        for address in (ORIGIN, MOVED, MOVED6, ORIGIN):
            lead(hosts, f"{address} origin.test")
            if address != ORIGIN or MOVED in node.log:
                node.until(f"origin.test is now {address}")
            for client in (CLIENT, CLIENT6):
                while True:
                    assert is_seen(visit(lab, 8080, client=client))
                    if log.next()["origin_address"] == address:
                        break
        # A name that is lost keeps its last address.
        lead(hosts)
        node.until("origin.test is not found")
        assert is_seen(visit(lab, 8080))
        assert node.haproxy == worker
        assert "by a reload" not in node.log


def test_a_name_that_is_not_there_yet(lab: Lab, receiver: Path, hosts: Path) -> None:
    """Its service is served nevertheless: by others, or as soon as it appears."""
    start_origin(lab, receiver, "web", FIRST)
    entry = origin(FIRST, address="late.test")
    path = write(
        lab,
        "resolve_interval = 1\n"
        + service("alone", 8080, origins=entry)
        + service("checked", 8081, "check.interval = '500ms'", origins=entry, check=True)
        + service("both", 8082, origins=entry + origin(FIRST)),
    )
    with running(lab, "--config", str(path)) as node:
        assert "late.test is not found" in node.log
        for port in (8080, 8081):
            assert is_refused(lab, port)
        for _ in range(2):
            assert is_seen(visit(lab, 8082))
        lead(hosts, f"{ORIGIN} late.test")
        for port in (8080, 8081):
            wait_until_served(lab, port)
            for client in (CLIENT, CLIENT6):
                assert is_seen(visit(lab, port, client=client))
        assert "by a reload" not in node.log


@contextmanager
def held_up(at: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The next command that HAProxy is given at this socket, which waits until it is let go."""
    behind = at.with_suffix(".behind")
    at.rename(behind)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(at))
        listener.listen()
        listener.settimeout(PATIENCE)
        asking, _ = listener.accept()
        behind.replace(at)
    with asking, asking.makefile() as asked:
        command = asked.read()

        def let_go() -> None:
            with socket.socket(socket.AF_UNIX) as haproxy:
                haproxy.connect(str(at))
                haproxy.sendall(command.encode())
                haproxy.shutdown(socket.SHUT_WR)
                with haproxy.makefile("rb") as answer:
                    asking.sendall(answer.read())
            asking.shutdown(socket.SHUT_RDWR)

        yield command.strip(), let_go


def written_for() -> str:
    """Whom the sender writes for."""
    status = edge.status()
    assert status is not None
    return str(status.settings.origins)


def test_while_haproxy_moves(lab: Lab, receiver: Path, hosts: Path) -> None:
    """What goes to the former address has TOA, and what goes to the new one; then that alone."""
    lab.origin.ip(f"address add {MOVED}/24 dev eth0")
    start_origin(lab, receiver, "web", FIRST)
    log = Log(lab)
    lead(hosts, f"{ORIGIN} origin.test")
    path = write(
        lab,
        "resolve_interval = 1\n"
        + service("web", 8080, origins=origin(FIRST, address="origin.test"))
        + log.settings,
    )
    former, new = f"{ORIGIN}:{FIRST}", f"{MOVED}:{FIRST}"
    with running(lab, "--config", str(path)) as node:
        assert written_for() == former
        lead(hosts, f"{MOVED} origin.test")
        with held_up(Path(node.state()["edge"]["runtime"])) as (command, let_go):
            assert command == f"set server web/origin.test:{FIRST} addr ::ffff:{MOVED}"
            assert is_seen(visit(lab, 8080))
            assert set(written_for().split()) == {former, new}
            let_go()
        wait_until(lambda: written_for() == new)
        assert is_seen(visit(lab, 8080))
        assert [log.next()["origin_address"] for _ in range(2)] == [ORIGIN, MOVED]
        assert "by a reload" not in node.log
        wait_until(lambda: node.state()["settings"]["origins"] == [new])
