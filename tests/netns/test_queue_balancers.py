# SPDX-License-Identifier: Apache-2.0
"""The queue datapath with unmodified load balancers, from the client to the server's log."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloud_toa.demo.cases import BALANCERS, Case, balancer, cases, listens, port, server
from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.option import Client, plain
from tests.netns.queue_edge import running
from tests.netns.traffic import wait_until

pytestmark = pytest.mark.only_on(kernel="6.1")

CASES = [
    case for case in cases() if case.client_family == case.origin_family and case.origin == "nginx"
]


@dataclass
class Services:
    """Load balancers on the edge, a server on the origin, and its own access log."""

    lab: Lab
    log: Path

    def visit(self, case: Case) -> Client:
        """Make one request; answer the client, once the server's log has it and nobody else."""
        page = f"/{uuid.uuid4()}"
        server = (EDGE[case.client_family], port(case, True))
        with self.lab.connect((case.client, 0), server) as sock:
            host, number = sock.getsockname()[:2]
            sock.sendall(f"GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert sock.recv(4096).startswith(b"HTTP/1.1 204")
            while sock.recv(4096):
                pass
        wait_until(lambda: page in self.log.read_text())
        line = next(line for line in self.log.read_text().splitlines() if page in line)
        ip, seen, _ = line.split()
        assert Client(plain(ip_address(ip)), int(seen)) == Client(ip_address(host), number)
        return Client(ip_address(host), number)


@contextmanager
def services(lab: Lab, receiver: Path) -> Iterator[Services]:
    command, log = server("nginx", lab.files)
    lab.start(lab.origin, command, listens("nginx"), place=receiver)
    for name in BALANCERS:
        ports = [("", port(case, True)) for case in cases() if case.balancer == name]
        lab.start(lab.edge, balancer(name, lab.files), ports)
    yield Services(lab, log)


@pytest.mark.parametrize("queues", [1, 4, 12])
def test_the_server_logs_the_client(lab: Lab, receiver: Path, queues: int) -> None:
    with services(lab, receiver) as at, running(lab, f"-max-queue-id={queues}") as edge:
        assert {case.balancer for case in CASES} == set(BALANCERS)
        clients = {at.visit(case) for case in CASES for _ in range(3)}
        assert len(clients) == 3 * len(CASES)
        now = edge.counters()
        # SYN, ACK and request, and perhaps one that Linux repeated.
        assert 3 * len(clients) <= now["queued"] <= 4 * len(clients)
        assert now["written"] == now["packets"]
        assert now["no_room"] == now["passed"] == now["errors"] == now["syn_without"] == 0
        workers = edge.workers()
        assert [worker["queue"] for worker in workers] == list(range(1, queues + 1))
        assert not any(worker["restarts"] for worker in workers)


def test_strict_reverse_path_filter(lab: Lab, receiver: Path) -> None:
    """As Red Hat sets it: a packet must come from where its answer would go."""
    for device in ("all", "default", "lo", "to-client", "to-origin"):
        lab.edge.sysctl(f"net.ipv4.conf.{device}.rp_filter", 1)
    with services(lab, receiver) as at, running(lab) as edge:
        for case in CASES:
            at.visit(case)
        now = edge.counters()
        assert now["written"] == now["packets"] >= 3 * len(CASES)


def test_status_as_the_command_shows_it(lab: Lab, receiver: Path) -> None:
    with services(lab, receiver) as at, running(lab, "-max-queue-id=2") as edge:
        at.visit(CASES[0])
        counters = edge.counters()
        shown = edge.status()
    assert shown["datapath"] == "queue"
    assert shown["attached"]
    assert shown["counters"] == counters
    assert sum(worker["counters"]["written"] for worker in shown["workers"]) == counters["written"]
    assert "[TOA]starting ..." in edge.log
    assert "[TOA]args: run -datapath=queue -auto-setup -origin=10.9.0.2" in edge.log
    assert edge.log.endswith("[TOA]stopped\n")
    assert "error" not in edge.log
