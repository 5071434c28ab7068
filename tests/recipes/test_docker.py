# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/docker.md with a real Docker, and a container whose server logs its peers."""

import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import ORIGIN, Lab, inside
from cloud_toa.isolation import Namespace
from tests.cli.command import call
from tests.netns.traffic import transparent
from tests.recipes.docker_host import BRIDGE, IMAGE, Docker, running
from tests.recipes.page import page

PAGE = page("docker")
PUBLISHED = 8080
CLIENTS = {4: ("203.0.113.7", 4321), 6: ("2001:db8:1::7", 4321)}
SEEN = {4: "[203.0.113.7]:4321", 6: "[2001:db8:1::7]:4321"}
AT_THE_BRIDGE = f"[{BRIDGE}]:"
RUN = PAGE.command("docker run -d --name web")
EDGES = "10.9.0.1 fd09::1"


@dataclass(frozen=True)
class Services:
    lab: Lab
    docker: Docker
    balancers: Path

    def visit(self, host: Namespace, client: int, address: str, port: int = PUBLISHED) -> str:
        """Ask for a page as a load balancer does for a client; answer the page."""
        path = f"/{client}/{address}"
        with inside(self.balancers), host.entered():
            sock = socket.socket(socket.AF_INET6)
        with sock:
            sock.settimeout(120)
            transparent(sock, CLIENTS[client])
            sock.connect((address if address.count(":") > 1 else f"::ffff:{address}", port))
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert sock.recv(4096).startswith(b"HTTP/1.")
        return path


@pytest.fixture
def services(request: pytest.FixtureRequest, lab: Lab, balancers: Path) -> Iterator[Services]:
    """Docker as it is by default, or with the page's daemon.json if a test says so."""
    edge.attach([balancers], EdgeSettings())
    with running(lab, getattr(request, "param", "{}")) as docker:
        docker.make_image(IMAGE, ["/bin/busybox"])
        yield Services(lab, docker, balancers)


def trust(addresses: str, there: str) -> None:
    """Run the page's command that trusts these addresses, with the lab's instead."""
    command = PAGE.command(f"cloud-toa origin attach --trust {there}").replace(there, addresses)
    said = call(*shlex.split(command)[1:])
    assert said.code == 0, said.err


def test_published_ports_with_docker_as_it_is(services: Services) -> None:
    """IPv4 is rewritten and shows the client; IPv6 goes through docker-proxy, which hides it."""
    trust(EDGES, EDGES)
    container = services.docker.serve(RUN, 80)
    for client in (4, 6):
        path = services.visit(services.lab.edge, client, ORIGIN[4])
        assert services.docker.peer(container, path) == SEEN[client]
    path = services.visit(services.lab.edge, 6, ORIGIN[6])
    assert services.docker.peer(container, path).startswith(AT_THE_BRIDGE)


@pytest.mark.parametrize("services", [PAGE.json()], indirect=True, ids=["daemon.json"])
def test_published_ports_with_ipv6_as_the_page_sets_it(services: Services) -> None:
    trust(EDGES, EDGES)
    container = services.docker.serve(RUN, 80)
    for client, version in ((4, 4), (6, 4), (6, 6)):
        path = services.visit(services.lab.edge, client, ORIGIN[version])
        assert services.docker.peer(container, path) == SEEN[client]


def test_the_host_s_own_network(services: Services) -> None:
    trust(EDGES, EDGES)
    container = services.docker.serve(PAGE.command("docker run -d --network host"), 81)
    for client, version in ((4, 4), (6, 4), (6, 6)):
        path = services.visit(services.lab.edge, client, ORIGIN[version], 81)
        assert services.docker.peer(container, path) == SEEN[client]


def test_an_edge_on_the_same_host(services: Services) -> None:
    """It reaches the container from the bridge's address, which must be trusted."""
    container = services.docker.serve(RUN, 80)
    address = services.docker.address(container)
    trust(EDGES, EDGES)
    path = services.visit(services.lab.origin, 4, address, 80)
    assert services.docker.peer(container, path).startswith(AT_THE_BRIDGE)
    trust(BRIDGE, "172.17.0.1")
    path = services.visit(services.lab.origin, 6, address, 80)
    assert services.docker.peer(container, path) == SEEN[6]
