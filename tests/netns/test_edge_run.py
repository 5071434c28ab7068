# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` with real traffic: who is served, and whom the origin sees."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from cloud_toa.bpf import edge
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.node import state
from tests.netns.edge_node import (
    PORT,
    SERVICE,
    command,
    drawn,
    place,
    running,
    write,
)
from tests.netns.sender import CLIENT, CLIENT6
from tests.netns.traffic import SERVER, SERVER6, listen, wait_until

ONE = f"""
[[service]]
name = "web"
listen = ["{EDGE[4]}:{PORT}", "[{EDGE[6]}]:{PORT}"]
check.enabled = false
[[service.origin]]
address = "{SERVER[0]}"
port = {SERVER[1]}
"""


def visit(
    lab: Lab, listener: socket.socket, client: tuple[str, int], server: tuple[str, int] = SERVICE
) -> tuple[str, int]:
    """Whom the origin sees, once data has passed both ways."""
    with lab.connect(client, server) as sock:
        sock.sendall(b"ask")
        conn, peer = listener.accept()
        with conn:
            conn.settimeout(120)
            assert conn.recv(10) == b"ask"
            conn.sendall(b"answer")
            assert sock.recv(10) == b"answer"
    return peer[0].removeprefix("::ffff:"), peer[1]


@pytest.mark.only_on(kernel="6.12")
def test_one_service_without_a_file(lab: Lab, receiver: Path) -> None:
    options = ("--listen", f"{EDGE[4]}:{PORT}", "--origin", f"{SERVER[0]}:{SERVER[1]}")
    with listen(lab, receiver, SERVER) as listener, running(lab, *options) as node:
        assert "[TOA]starting ..." in node.log
        assert visit_served(lab, listener) == CLIENT
        pid = node.haproxy
        status = Path(f"/proc/{pid}/status").read_text()
        effective = next(line for line in status.splitlines() if line.startswith("CapBnd"))
        assert int(effective.split()[1], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
        node.stop()
        assert not Path(f"/proc/{pid}").exists()
        assert not place(lab).exists()
    assert edge.status() is None


def visit_served(lab: Lab, listener: socket.socket) -> tuple[str, int]:
    """As `visit`; a check of the balancer's, that comes and goes, is not who was meant."""
    with lab.connect(CLIENT, SERVICE) as sock:
        sock.sendall(b"ask")
        while True:
            conn, peer = listener.accept()
            with conn:
                conn.settimeout(120)
                if conn.recv(10) == b"ask":
                    return str(peer[0]), int(peer[1])


@pytest.mark.one_kernel
def test_every_pair_of_families(lab: Lab, receiver: Path) -> None:
    """With no word of it in the file."""
    both = ONE + ONE.replace("web", "six").replace(str(PORT), "8081").replace(SERVER[0], SERVER6[0])
    path = write(lab, both)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, running(lab, "--config", str(path)):
        for port in (PORT, 8081):
            assert visit(lab, listener, CLIENT, (EDGE[4], port)) == CLIENT
            assert visit(lab, listener, CLIENT6, (EDGE[6], port)) == CLIENT6


@pytest.mark.one_kernel
def test_a_changed_file_is_applied(lab: Lab, receiver: Path) -> None:
    path = write(lab, ONE)
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        running(lab, "--config", str(path)) as node,
    ):
        pid = node.haproxy
        write(lab, ONE + "[toa]\noption_type_v4 = 200\n")
        node.until("applied without a reload")
        write(lab, ONE.replace(f":{PORT}", ":8082"))
        node.until("applied by a reload of HAProxy")
        assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT
        assert node.haproxy == pid

        write(lab, ONE.replace("origin]]", "orogin]]"))
        refused = node.until("not applied")
        assert f"{path}, line 6: unknown key 'orogin': did you mean 'origin'?" in refused
        assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT
        said = node.command("edge", "reload")
        assert said.returncode == 2
        assert "unknown key 'orogin'" in said.stderr
        write(lab, ONE)
        assert node.command("edge", "reload").returncode == 0
        assert visit(lab, listener, CLIENT) == CLIENT


@pytest.mark.one_kernel
def test_a_port_that_another_program_has(lab: Lab, receiver: Path) -> None:
    path = write(lab, ONE)
    with lab.edge.entered():
        other = socket.create_server((EDGE[4], 8083))
    with other, running(lab, "--config", str(path)) as node:
        write(lab, ONE.replace(f"{EDGE[4]}:{PORT}", f"{EDGE[4]}:8083"))
        refused = node.until("not applied")
        name = Path("/proc/self/comm").read_text().strip()
        assert f"{EDGE[4]}:8083 is in use by {name} (process {os.getpid()})" in refused


@pytest.mark.one_kernel
def test_a_start_that_fails_leaves_nothing(lab: Lab) -> None:
    """A port that is not to be had, a wrong file, and a program that is none.

    Where it is the metrics' port, HAProxy does not begin to serve.
    """
    path = write(lab, ONE)
    with lab.edge.entered():
        folder = state.directory()
        other = socket.create_server((EDGE[4], PORT))
    with other:
        said = command(lab, "edge", "run", "--config", str(path))
        elsewhere = ONE.replace(str(PORT), "8081")
        path = write(lab, f'metrics = "{EDGE[4]}:{PORT}"\n{elsewhere}')
        without_metrics = command(lab, "edge", "run", "--config", str(path)).stderr
    assert f"{EDGE[4]}:{PORT} is in use" in said.stderr
    assert f"metrics {EDGE[4]}:{PORT} can't be had: Address already in use" in without_metrics
    assert "HAProxy is process" not in without_metrics
    for wrong, why in (
        (ONE + '[haproxy]\nprogram = "/etc"\n', "/etc can't be run: Permission denied"),
        (ONE.replace("[[service]]", "[service]"), "line 2"),
    ):
        said = command(lab, "edge", "run", "--config", str(write(lab, wrong)))
        assert said.returncode == 2
        assert why in said.stderr
    assert not folder.exists()
    assert not place(lab).exists()
    assert edge.status() is None


@pytest.mark.one_kernel
def test_toa_off_and_on_without_a_reload(lab: Lab, receiver: Path) -> None:
    path = write(lab, ONE)
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        running(lab, "--config", str(path)) as node,
    ):
        for off in ("[toa]\nenabled = false\n" + ONE, ONE + "toa = false\n"):
            assert visit(lab, listener, CLIENT) == CLIENT
            write(lab, off)
            node.until("applied without a reload: nothing for HAProxy")
            assert visit(lab, listener, CLIENT)[0] == EDGE_TO_ORIGIN[4]
            write(lab, ONE)
            node.until("applied without a reload")


@pytest.mark.one_kernel
def test_haproxy_is_killed(lab: Lab, receiver: Path) -> None:
    path = write(lab, ONE)
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        running(lab, "--config", str(path)) as node,
    ):
        pid = node.haproxy
        os.kill(pid, signal.SIGKILL)
        node.until("HAProxy has ended: starting it again")
        node.until("HAProxy is process")
        assert node.haproxy != pid
        assert visit(lab, listener, CLIENT) == CLIENT


@pytest.mark.one_kernel
def test_access_log(lab: Lab, receiver: Path) -> None:
    log = lab.files / "access.log"
    path = write(lab, ONE + f'[access_log]\nfile = "{log}"\n')
    with listen(lab, receiver, ("::", SERVER[1])) as listener, running(lab, "--config", str(path)):
        assert visit(lab, listener, CLIENT) == CLIENT
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
        entry = json.loads(log.read_text())
        assert entry.pop("time")
        for name in ("ms", "ms_queued", "ms_to_connect"):
            assert entry.pop(name) >= 0
        assert entry == {
            "service": "web",
            "client": CLIENT[0],
            "client_port": str(CLIENT[1]),
            "listener": EDGE[4],
            "listener_port": str(PORT),
            "origin": f"{SERVER[0]}:{SERVER[1]}",
            "origin_address": SERVER[0],
            "origin_port": str(SERVER[1]),
            "toa": "syn,ack,data",
            "toa_why_not": "-",
            "server_name": "-",
            "end": "--",
            "error": "-",
            "bytes_from_client": 3,
            "bytes_to_client": 6,
        }


@pytest.mark.only_on(kernel="6.12")
def test_by_the_queue(lab: Lab, receiver: Path) -> None:
    """Also switched off and on; a service whose clients may be of both families has no TOA."""
    four = ONE.replace(f', "[{EDGE[6]}]:{PORT}"', "")
    both = ONE.replace("web", "both").replace(f":{PORT}", ":8081")
    toa = '[toa]\ndatapath = "queue"\nmax_queue_id = 2\n'
    path = write(lab, toa + four + both)
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        running(lab, "--config", str(path)) as node,
    ):
        assert visit(lab, listener, CLIENT) == CLIENT
        assert visit(lab, listener, CLIENT, (EDGE[4], 8081))[0] == EDGE_TO_ORIGIN[4]
        shown = json.loads(node.command("edge", "status", "--json").stdout)
        assert (shown["datapath"], shown["counters"]["written"]) == ("queue", 3)
        write(lab, toa + "enabled = false\n" + four + both)
        node.until("applied")
        assert visit(lab, listener, CLIENT)[0] == EDGE_TO_ORIGIN[4]
        write(lab, toa + four + both)
        node.until("applied")
        assert visit(lab, listener, CLIENT) == CLIENT


@pytest.mark.one_kernel
def test_how_it_stands(lab: Lab, receiver: Path) -> None:
    """Status for people and programs; metrics of ours and of HAProxy's in one place."""
    address = (EDGE[4], 9100)
    path = write(lab, f'metrics = "{address[0]}:{address[1]}"\n' + ONE)
    origin = f"{SERVER[0]}:{SERVER[1]}"
    with (
        listen(lab, receiver, ("::", SERVER[1])) as listener,
        running(lab, "--config", str(path)) as node,
    ):
        assert visit(lab, listener, CLIENT) == CLIENT
        shown = json.loads(node.command("edge", "status", "--json").stdout)
        assert shown["counters"]["connections"] == 1
        (service,) = shown["edge"]["services"]
        assert service["name"] == "web"
        assert service["total"] == 1
        assert (service["bytes_from_clients"], service["bytes_to_clients"]) == (3, 6)
        assert [each["name"] for each in service["origins"]] == [origin]
        said = node.command("edge", "status").stdout
        assert f"node: process {node.process.pid}, HAProxy {node.haproxy}" in said
        assert f"    {origin}" in said
        picture = drawn(lab)
        assert b"web" in picture
        assert origin.encode() in picture

        with lab.edge.entered():
            sock = socket.create_connection(address)
        with sock, sock.makefile("rw") as file:
            file.write("GET /metrics HTTP/1.0\r\n\r\n")
            file.flush()
            metrics = file.read()
        assert "cloud_toa_edge_connections_total 1.0" in metrics
        assert "cloud_toa_haproxy_up 1.0" in metrics
        assert f'haproxy_server_sessions_total{{proxy="web",server="{origin}"}} 1.0' in metrics
