# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/container-edge.md: a real HAProxy in a real Docker's containers, restarted."""

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.errors import ToaError
from tests.cli.command import call
from tests.netns.traffic import wait_until
from tests.recipes.docker_host import Docker, running
from tests.recipes.page import page
from tests.recipes.web import CLIENTS, PORT, start_origin, visit

PAGE, HAPROXY = page("container-edge"), page("haproxy")
IPV4, BOTH = "/etc/haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg, clients of both families"
PLACE = "/sys/fs/cgroup/balancers"
HOST = "docker run -d --name lb --restart unless-stopped --network host"
PUBLISHED = "docker run -d --name lb --restart unless-stopped -p 8080:8080"
PROGRAM = "/usr/sbin/haproxy -W -db -f /etc/haproxy/haproxy.cfg"


class Edge:
    """A Docker on the edge, with HAProxy's image, and the page's commands for this lab."""

    def __init__(self, lab: Lab, docker: Docker) -> None:
        self.lab, self.docker = lab, docker
        self.files = docker.files / "haproxy.d"
        self.files.mkdir()
        docker.make_image("haproxy", ["/bin/busybox", "/usr/sbin/haproxy"])
        self.parent = lab.cgroup("balancers")

    def attach(self, command: str) -> None:
        said = call(*shlex.split(command.replace(PLACE, str(self.parent)))[1:])
        assert said.code == 0, said.err

    def start(self, command: str, configuration: str) -> str:
        """Run the page's command with an IMAGE; answer the container's id."""
        (self.files / "haproxy.cfg").write_text(configuration)
        for there, here in (
            ("--cgroup-parent /balancers", f"--cgroup-parent /{self.parent.name}"),
            # Where its daemon finds the folder of its files.
            ("/etc/haproxy:/", f"/run/{self.files.name}:/"),
            ("IMAGE", f"haproxy {PROGRAM}"),
        ):
            command = command.replace(there, here)
        container = self.docker(*shlex.split(command)[1:]).strip()
        self.wait()
        return container

    def restart(self) -> None:
        self.docker("restart", "-t", "0", "lb")
        self.wait()

    def wait(self) -> None:
        """Until it listens, in the host's network or its own."""

        def listens() -> bool:
            with suppress(ToaError):  # it does not run yet
                return f":{PORT} " in self.docker("exec", "lb", "busybox", "netstat", "-ltn")
            return False

        wait_until(listens, reason=lambda: self.docker.logs("lb"))


@pytest.fixture
def host(lab: Lab) -> Iterator[Edge]:
    with running(lab, "{}", lab.edge) as docker:
        yield Edge(lab, docker)


def attach_origin() -> None:
    said = call(*shlex.split(PAGE.command("cloud-toa origin attach"))[1:])
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("command", "block", "versions"),
    [(HOST, BOTH, (4, 6)), (PUBLISHED, IPV4, (4,))],
    ids=["host", "published"],
)
def test_it_stays_attached_by_the_cgroup_above(
    host: Edge, servers: Path, command: str, block: str, versions: tuple[int, ...]
) -> None:
    log = start_origin(host.lab, servers)
    attach_origin()
    host.attach(PAGE.command(f"cloud-toa edge attach --cgroup {PLACE}"))
    start, configuration = PAGE.command(command), HAPROXY.block(block)

    def seen() -> None:
        for version in versions:
            client, logged = visit(host.lab, log, version)
            assert logged == client

    first = host.start(start, configuration)
    seen()
    host.restart()
    seen()
    host.docker("rm", "-f", "lb")
    assert host.start(start, configuration) != first
    seen()
    status = edge.status()
    assert status is not None
    assert (status.cgroups, status.removed) == ((host.parent,), ())


def test_by_the_cgroup_that_all_containers_are_below(host: Edge, servers: Path) -> None:
    """As Docker has it without `--cgroup-parent`."""
    log = start_origin(host.lab, servers)
    attach_origin()
    host.attach(f"cloud-toa edge attach --cgroup {host.docker.place}")
    command = PAGE.command(HOST).replace(" --cgroup-parent /balancers", "")
    host.start(command, HAPROXY.block(BOTH))
    for _ in range(2):
        client, logged = visit(host.lab, log, 4)
        assert logged == client
        host.restart()


def test_attached_to_its_own_cgroup_it_hangs_after_a_restart_and_status_warns(
    host: Edge, servers: Path
) -> None:
    log = start_origin(host.lab, servers)
    attach_origin()
    # The page's waits 5 s for each of four attempts.
    configuration = HAPROXY.block(BOTH).replace("connect 5s", "connect 50ms")
    container = host.start(PAGE.command(HOST), configuration)
    own = host.parent / container
    said = call("edge", "attach", "--cgroup", str(own))
    assert said.code == 0
    assert "attach to the slice or parent above it" in said.out
    client, logged = visit(host.lab, log, 4)
    assert logged == client
    host.restart()
    with host.lab.connect((CLIENTS[4], 0), (EDGE[4], PORT)) as sock:
        sock.sendall(b"GET /lost HTTP/1.0\r\n\r\n")
        assert sock.recv(100) == b""  # no origin was reached
    shown = json.loads(call("edge", "status", "--json").out)
    assert shown["removed"] == [{"path": str(own), "again": True}]
    status = call("edge", "status").out
    assert f"removed (detach forgets it): {own}\n" in status
    assert "warning          another cgroup has that name now" in status
    host.docker("rm", "-f", "lb")
    assert "warning" not in call("edge", "status").out
    call("edge", "detach")
    host.attach(PAGE.command(f"cloud-toa edge attach --cgroup {PLACE}"))
    host.start(PAGE.command(HOST), configuration)
    client, logged = visit(host.lab, log, 4)
    assert logged == client
