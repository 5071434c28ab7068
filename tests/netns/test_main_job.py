# SPDX-License-Identifier: Apache-2.0
"""The main job: unmodified load balancers and servers, every pair of families."""

import socket
import struct
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import cgroup, edge, origin
from cloud_toa.cli import main
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.cases import Case, cases
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab, inside
from cloud_toa.demo.run import demonstrate
from cloud_toa.option import Client
from cloud_toa.trust import Trust
from tests.netns.traffic import balancer, listen, transparent

SERVER = ("10.9.0.2", 7000)
CLIENT = ("203.0.113.9", 4321)
CLIENT6 = ("2001:db8:1::9", 4321)


def test_haproxy_and_nginx_to_nginx_and_python() -> None:
    steps: list[str] = []
    results = list(demonstrate(steps.append))
    assert [result.case for result in results] == cases()
    for result in results:
        assert result.seen_with == result.client
        edge_address = EDGE_TO_ORIGIN[result.case.origin_family]
        assert result.seen_without.strip("[").startswith(edge_address)
    assert Case("nginx", "python", 6, 4) in cases()


@pytest.mark.parametrize("client", [CLIENT, CLIENT6])
def test_one_call(lab: Lab, sender: Path, receiver: Path, client: tuple[str, int]) -> None:
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        with inside(sender), lab.edge.entered():
            sock = socket.socket()
        with sock:
            cloud_toa.set_client(sock, client)
            sock.connect(SERVER)
            conn, peer = listener.accept()
            with conn:
                assert peer[0].removeprefix("::ffff:") == client[0]
                assert peer[1] == client[1]
                assert cloud_toa.client_of(conn) == Client(ip_address(client[0]), client[1])


def test_one_call_outside_says_so(lab: Lab, sender: Path) -> None:
    with lab.edge.entered(), socket.socket() as sock:
        with pytest.raises(OSError, match="Protocol not available"):
            cloud_toa.set_client(sock, CLIENT)


def test_one_call_too_late_says_so(lab: Lab, sender: Path, receiver: Path) -> None:
    with listen(lab, receiver, SERVER), balancer(lab, sender, None) as sock:
        sock.connect(SERVER)
        with pytest.raises(PermissionError):
            cloud_toa.set_client(sock, CLIENT)


def test_load_balancer_without_any_privilege(lab: Lab, sender: Path, receiver: Path) -> None:
    program = (
        "import socket, sys; s = socket.socket(); s.setsockopt(0, 19, 1);"
        f"s.bind({CLIENT!r}); s.connect({SERVER!r}); s.recv(1)"
    )
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    with listen(lab, receiver, SERVER) as listener:
        process = lab.edge.popen([*drop, "/usr/bin/python3", "-c", program], sender)
        conn, peer = listener.accept()
        conn.sendall(b"x")
        conn.close()
    assert peer == CLIENT
    assert process.wait(20) == 0


def test_an_edge_behind_an_edge(lab: Lab, sender: Path, receiver: Path) -> None:
    """A load balancer that is an origin itself passes on the client that it sees."""
    first, second = lab.cgroup("first"), lab.cgroup("second")
    edge.attach([first], EdgeSettings())
    # The second edge's own programs and the receiver's stand on the same cgroup.
    edge.attach([second], EdgeSettings())
    origin.attach([second], OriginSettings(Trust.parse(["10.9.0.1", "10.8.0.2"])))
    with listen(lab, second, ("10.8.0.1", 7001), lab.edge) as middle:
        with listen(lab, receiver, SERVER) as listener:
            with inside(first), lab.client.entered(), socket.socket() as sock:
                transparent(sock, CLIENT)
                sock.connect(("10.8.0.1", 7001))
                inbound, peer = middle.accept()
                assert peer == CLIENT
                with inbound, inside(second), lab.edge.entered(), socket.socket() as onward:
                    transparent(onward, inbound.getpeername())
                    onward.connect(SERVER)
                    conn, seen = listener.accept()
                    conn.close()
    assert seen == CLIENT


def test_receiver_covers_every_container_by_default(lab: Lab, sender: Path, servers: Path) -> None:
    assert main(["origin", "attach", "--trust", *EDGE_TO_ORIGIN.values()]) == 0
    container = servers / "container"
    container.mkdir()
    try:
        with listen(lab, container, SERVER) as listener:
            with balancer(lab, sender, CLIENT) as sock:
                sock.connect(SERVER)
                conn, peer = listener.accept()
                conn.close()
        assert peer == CLIENT
        status = origin.status()
        assert status is not None
        assert status.cgroups == (cgroup.root(),)
    finally:
        container.rmdir()


def test_nothing_of_ours_runs(lab: Lab, sender: Path, receiver: Path) -> None:
    """The programs are the kernel's: connections are marked and read with no process of ours."""
    lines = Path("/proc/self/cgroup").read_text()
    assert sender.name not in lines
    server = (
        "import socket; l = socket.create_server(('10.9.0.2', 7000));"
        "c, a = l.accept(); print(*a, flush=True); c.close()"
    )
    balancer = (
        "import socket; s = socket.socket(); s.setsockopt(0, 19, 1);"
        f"s.bind({CLIENT!r}); s.connect({SERVER!r}); s.recv(1)"
    )
    log = lab.files / "seen"
    with log.open("wb") as seen:
        process = lab.start(
            lab.origin, [sys.executable, "-c", server], [SERVER], place=receiver, stdout=seen
        )
    lab.start(lab.edge, [sys.executable, "-c", balancer], [], place=sender).wait(20)
    process.wait(20)
    assert log.read_text().split() == [CLIENT[0], str(CLIENT[1])]


def test_ipv6_client_on_an_ipv4_socket(lab: Lab, sender: Path, receiver: Path) -> None:
    """getpeername() can't name it; getsockopt() does, in our form and as DPVS's module."""
    with listen(lab, receiver, SERVER) as listener:
        with inside(sender), lab.edge.entered(), socket.socket(socket.AF_INET6) as sock:
            transparent(sock, CLIENT6)
            sock.connect((f"::ffff:{SERVER[0]}", SERVER[1]))
            conn, peer = listener.accept()
            with conn:
                assert peer[0] == EDGE_TO_ORIGIN[4]
                assert cloud_toa.client_of(conn) == Client(ip_address(CLIENT6[0]), CLIENT6[1])
                answer = conn.getsockopt(socket.IPPROTO_IP, 4096, 20)
                ip, port = struct.unpack("!16sH", answer[:18])
                assert ip == socket.inet_pton(socket.AF_INET6, CLIENT6[0])
                assert port == CLIENT6[1]
