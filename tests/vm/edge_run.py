# SPDX-License-Identifier: Apache-2.0
"""The unit of `edge run`, in a virtual machine with systemd and a receiver: see `units`."""

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from cloud_toa.isolation import Namespace
from tests.balancer.haproxy import make_certificate
from tests.netns.traffic import wait_until
from tests.vm.systemd import PATIENCE, run, shown

UNIT = "cloud-toa-edge-run.service"
CGROUP = Path("/sys/fs/cgroup/system.slice", UNIT)
PINS = Path("/sys/fs/bpf/cloud-toa/edge")
FILE = Path("/etc/cloud-toa/edge.toml")
LOG = Path("/var/log/cloud-toa/access.log")
CERTIFICATE = FILE.with_name("shop.pem")
OURS, CLIENT = "203.0.113.1", "203.0.113.7"
NET_BIND_SERVICE = 1 << 10
_ports = count(30001)


def write(origin: tuple[str, int], before: str = "") -> None:
    """The edge's file: what comes to a port, and TLS, are one origin's."""
    of = f'[[service.origin]]\naddress = "{origin[0]}"\nport = {origin[1]}\n'
    FILE.write_text(f"""
        {before}
        [haproxy]
        max_connections = 1000
        threads = 1
        [access_log]
        file = "{LOG}"
        [[service]]
        name = "web"
        listen = ["{OURS}:80"]
        check.enabled = false
        {of}
        [[service]]
        name = "shop"
        listen = ["{OURS}:443"]
        protocol = "tls"
        check.enabled = false
        tls.certificates = [{{ certificate = "{CERTIFICATE}" }}]
        {of}
    """)


class Edge:
    """Clients of an edge's unit, and the origin's listener."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._client = Namespace("client")
        for line in (
            "link add clients type veth peer name client netns client",
            f"addr add {OURS}/24 dev clients",
            "link set clients up",
            f"-n client addr add {CLIENT}/24 dev client",
            "-n client link set client up",
        ):
            run("ip", *line.split())

    @contextmanager
    def connected(
        self, port: int, seen: str | None = None
    ) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A client's connection to a service, and the origin's, which sees that client.

        Or, if so given, somebody else.
        """
        client = (CLIENT, next(_ports))
        with self._client.entered():
            sock = socket.create_connection((OURS, port), PATIENCE, client)
        with sock:
            if port == 443:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.load_verify_locations(CERTIFICATE)
                sock = context.wrap_socket(sock)
            conn, peer = self.listener.accept()
            with sock, conn:
                print("the origin saw", peer, flush=True)
                assert (peer == client) if seen is None else (peer[0] == seen)
                passes(sock, conn)
                yield sock, conn

    def visit(self, seen: str | None = None, ports: tuple[int, ...] = (80, 443)) -> None:
        """Connections to each service are served."""
        for port in ports:
            with self.connected(port, seen):
                pass


def passes(sock: socket.socket, conn: socket.socket) -> None:
    """Data passes both ways."""
    conn.settimeout(PATIENCE)
    for one, other in ((sock, conn), (conn, sock)):
        one.sendall(b"here")
        assert other.recv(10) == b"here"


def haproxy() -> int:
    """The process id of HAProxy's master."""
    (state,) = Path("/run/cloud-toa").glob("*/state.json")
    return int(json.loads(state.read_text())["edge"]["haproxy"])


def may_do_little() -> None:
    """HAProxy, master and worker, with the one privilege, in the sandbox and below the unit."""
    (place,) = CGROUP.glob("cloud-toa-haproxy-*")
    pids = (place / "cgroup.procs").read_text().split()
    assert len(pids) == 2
    assert str(haproxy()) in pids
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        sets = [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
        assert sets == [0, NET_BIND_SERVICE, NET_BIND_SERVICE, NET_BIND_SERVICE, 0]
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test(edge: Edge, edge_address: str) -> None:
    """What an administrator does with it, and what happens to it."""
    origin = edge.listener.getsockname()
    make_certificate(CERTIFICATE)
    write(origin, "toa.enabled = false")
    run("systemctl", "start", UNIT)
    edge.visit(seen=edge_address)
    may_do_little()
    wait_until(lambda: LOG.read_text().count(CLIENT) == 2)
    pid = haproxy()

    write(origin)
    run("systemctl", "reload", UNIT)
    edge.visit()
    write(origin, "tao.enabled = false")
    run("systemctl", "reload", UNIT, code=1)
    said = run("journalctl", "-b", "-o", "cat", "-n", "10", "-u", UNIT)
    assert "the former settings go on: /etc/cloud-toa/edge.toml, line 2: unknown key 'tao'" in said
    edge.visit()
    write(origin)

    # Killed: until it is back, HAProxy serves without it.
    run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT)
    edge.visit()
    assert shown(UNIT, "ActiveState") != ["active"]
    run("systemctl", "start", UNIT)
    assert shown(UNIT, "NRestarts") == ["1"]
    assert haproxy() == pid
    edge.visit()

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: haproxy() not in (pid, None))
    pid = haproxy()
    edge.visit()

    # As an upgrade does, which ends no connection.
    (main,) = shown(UNIT, "MainPID")
    with edge.connected(80) as plain, edge.connected(443) as tls:
        run("deb-systemd-invoke", "try-restart", UNIT)
        passes(*plain)
        passes(*tls)
    assert shown(UNIT, "MainPID") != [main]
    assert haproxy() == pid
    edge.visit()

    run("systemctl", "stop", UNIT)
    assert shown(UNIT, "ActiveState", "Result") == ["inactive", "success"]
    assert not Path(f"/proc/{pid}").exists()
    assert not CGROUP.exists()
    assert list(PINS.iterdir()) == []
    for file in (FILE, CERTIFICATE, Path(f"{CERTIFICATE}.key")):
        file.unlink()
