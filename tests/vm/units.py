# SPDX-License-Identifier: Apache-2.0
"""Run in a virtual machine, with systemd: the package's units, in their sandboxes.

``python -m tests.vm.units PACKAGE NEWER MODULE`` ends with code 0 if all is well.
"""

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from cloud_toa.demo.lab import inside
from cloud_toa.isolation import PRIVATE, Namespace
from tests.netns.traffic import transparent
from tests.vm import bpffs, cluster, container_edge, edge_run, nginx
from tests.vm.systemd import PATIENCE, run, shown, unit

SERVER = ("10.9.0.2", 7000)
EDGE = "10.9.0.1"
METRICS = "127.0.0.1:9100"
RUN_TOML = Path("/etc/cloud-toa/run.toml")
BALANCER = Path("/sys/fs/cgroup/system.slice/haproxy.service")
_ports = count(20001)


def receive(trust: str) -> None:
    """Have the receiver's unit trust the edge."""
    attach = f"/usr/bin/cloud-toa origin attach {trust}"
    lines = [
        "[Service]",
        "ExecStart=",
        f"ExecStart={attach}",
        "ExecReload=",
        f"ExecReload={attach}",
    ]
    unit("cloud-toa-origin.service.d/trust.conf", "\n".join(lines))


def connect(listener: socket.socket) -> None:
    """As a load balancer for a client, whom the server is to see."""
    client = ("203.0.113.7", next(_ports))
    with inside(BALANCER), socket.socket() as sock:
        sock.settimeout(PATIENCE)
        transparent(sock, client)
        sock.connect(SERVER)
        conn, peer = listener.accept()
        conn.close()
    assert peer == client
    print("the server saw", peer, flush=True)


def network() -> socket.socket:
    """An origin, and its server's listener."""
    PRIVATE.mkdir(exist_ok=True)
    origin = Namespace("origin")
    for line in (
        "link add edge type veth peer name origin netns origin",
        f"addr add {EDGE}/24 dev edge",
        "link set edge up",
        f"-n origin addr add {SERVER[0]}/24 dev origin",
        "-n origin link set origin up",
    ):
        run("ip", *line.split())
    with origin.entered():
        return socket.create_server(SERVER)


def settings(datapath: str) -> None:
    RUN_TOML.write_text(f"""
        origin = ["{SERVER[0]}:{SERVER[1]}"]
        auto_setup = true
        datapath = "{datapath}"
        max_queue_id = 2
        sock = "/run/cloud-toa/control.sock"
        sock_group = "nogroup"
        metrics = "{METRICS}"
    """)


def edge_and_origin(listener: socket.socket) -> None:
    receive(f"--trust {EDGE}")
    run("systemctl", "start", "cloud-toa-origin", "haproxy", "cloud-toa-edge")
    connect(listener)
    # Reloading exchanges what runs; a restart would detach it.
    receive(f"--trust {EDGE} 192.0.2.99")
    run("systemctl", "reload", "cloud-toa-origin")
    assert "192.0.2.99" in run("cloud-toa", "origin", "status")
    connect(listener)
    run("systemctl", "stop", "cloud-toa-edge")
    assert "edge: attached" in run("cloud-toa", "edge", "status")
    run("cloud-toa", "edge", "detach")


def one_process(listener: socket.socket, datapath: str) -> str:
    """Start it, use it; answer what carries the connections."""
    settings(datapath)
    run("systemctl", "start", "cloud-toa-run")
    connect(listener)
    with urllib.request.urlopen(f"http://{METRICS}/metrics", timeout=PATIENCE) as answer:
        assert b"cloud_toa" in answer.read()
    assert Path("/run/cloud-toa/control.sock").group() == "nogroup"
    assert shown("cloud-toa-run", "ActiveState", "NRestarts") == ["active", "0"]
    return str(json.loads(run("cloud-toa", "edge", "status", "--json"))["datapath"])


def upgrade(package: Path, listener: socket.socket) -> None:
    """What carries connections goes on as the same process, and what is attached stays so.

    The console is the newer one.
    """
    services = ("cloud-toa-run", "cloud-toa-origin")
    state = ("ActiveState", "InvocationID", "MainPID")
    before, ours = [shown(service, *state) for service in services], RUN_TOML.read_text()
    links = sorted(Path("/sys/fs/bpf/cloud-toa/origin").rglob("*"))
    assert len(links) > 1
    console = shown(cluster.CONSOLE, "MainPID")
    run("dpkg", "--force-confold", "-i", package)
    assert [shown(service, *state) for service in services] == before
    assert sorted(Path("/sys/fs/bpf/cloud-toa/origin").rglob("*")) == links
    assert RUN_TOML.read_text() == ours
    connect(listener)
    assert shown("cloud-toa-run", "NeedDaemonReload") == ["no"]
    assert shown(cluster.CONSOLE, "ActiveState") == ["active"]
    assert shown(cluster.CONSOLE, "MainPID") != console


def module(file: Path) -> None:
    """The receiver's unit loads it, sets it and unloads it."""
    kernel = Path("/lib/modules", file.parent.name.removesuffix("-toa"))
    kernel.unlink()  # a link to those of the kernel, among which depmod would take long
    kernel.mkdir()
    shutil.copy(file, kernel)
    run("depmod", kernel.name)
    for trust in ("192.0.2.10", "192.0.2.99"):
        receive(f"--datapath kmod --trust {trust}")
        run("systemctl", "reload-or-restart", "cloud-toa-origin")
        status = run("cloud-toa", "origin", "status")
        assert "by toa.ko" in status
        assert trust in status
    run("systemctl", "stop", "cloud-toa-origin")
    assert not Path("/sys/module/toa").exists()


def removed() -> None:
    """Services are stopped first, so nothing is attached or set up any more."""
    run("dpkg", "--purge", "cloud-toa")
    assert "cloud_toa" not in run("nft", "list", "tables")
    for place in (
        "/sys/fs/bpf/cloud-toa",
        "/run/cloud-toa",
        "/usr/lib/cloud-toa",
        "/var/lib/cloud-toa/node",
        "/var/log/cloud-toa",
    ):
        assert not Path(place).exists(), place
    # The package's own settings are gone, those that operators wrote are theirs.
    assert set(Path("/etc/cloud-toa").iterdir()) == cluster.WRITTEN
    assert cluster.STORE.exists()
    assert shown("cloud-toa-run", "LoadState") == ["not-found"]


def main(package: Path, newer: Path, toa: Path) -> None:
    # A container's keeps packages from stopping services.
    Path("/usr/sbin/policy-rc.d").unlink(missing_ok=True)
    run("dpkg", "-i", package)
    for name in ("console", "edge", "edge-run", "node", "origin", "run"):
        states = shown(f"cloud-toa-{name}", "ActiveState", "UnitFileState")
        assert states == ["inactive", "disabled"]
    unit("haproxy.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    with ExitStack() as open_:
        listener = open_.enter_context(network())
        listener.settimeout(PATIENCE)
        edge_and_origin(listener)
        run("systemctl", "stop", "cloud-toa-origin")
        container_edge.test("/usr/bin/cloud-toa")
        run("systemctl", "start", "cloud-toa-origin")
        edge = edge_run.Edge(listener)
        edge_run.test(edge, EDGE)
        cluster.test(edge)
        assert one_process(listener, "auto") == "bpf"
        run("systemctl", "stop", "cloud-toa-run")
        assert one_process(listener, "queue") == "queue"
        upgrade(newer, listener)
    run("systemctl", "stop", "cloud-toa-origin")
    run("cloud-toa", "origin", "status", code=1)
    bpffs.test()
    nginx.test()
    module(toa)
    removed()


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:]))
    except BaseException:
        subprocess.run(
            ["journalctl", "-b", "--no-pager", "-o", "cat", "-u", "cloud-toa-*"], check=False
        )
        raise
