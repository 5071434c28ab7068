# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa node`` with the real console and real traffic."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.cluster import (
    Console,
    console,
    folder,
    node_running,
    token_file,
)
from tests.netns.edge_node import PORT, SERVICE, command
from tests.netns.sender import CLIENT
from tests.netns.test_edge_run import ONE, visit
from tests.netns.traffic import SERVER, listen, wait_until

__all__ = ["console"]
pytestmark = pytest.mark.one_kernel

A_DAY = 96
"""Changes, one each quarter of an hour."""
OTHER = ONE.replace(f":{PORT}", ":8082")


def is_refused(lab: Lab, port: int = PORT) -> bool:
    try:
        lab.connect((CLIENT[0], 0), (EDGE[4], port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_settings_reach_a_real_connection(lab: Lab, receiver: Path, console: Console) -> None:
    """From a node without any to one that serves; and what it then says of itself."""
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab) as node:
        node.until("there are no settings yet")
        shown = console.until(lambda node: node["state"] == "online")
        assert shown["status"]["applied"]["revision"] == 0
        first = console.save(ONE)
        shown = console.until_applied(first)
        assert visit(lab, listener, CLIENT) == CLIENT
        assert shown["status"]["datapath"] == "bpf"
        assert shown["status"]["why"] == "the kernel takes the eBPF programs"
        second = console.save(ONE + "[toa]\noption_type_v4 = 200\n")
        shown = console.until_applied(second)
        assert "without a reload" in shown["status"]["applied"]["how"]

        shown = console.until(
            lambda node: (
                node["status"]["services"]["web"]["connections"] == 1 and node["status"]["findings"]
            )
        )
        status = shown["status"]
        assert status["services"]["web"]["bytes_to_clients"] == len("answer")
        assert status["origins"] == {"web": {f"{SERVER[0]}:{SERVER[1]}": "no check"}}
        assert status["counters"]["connections"] == 1
        assert status["memory_bytes"] > 10 << 20
        assert any(each["what"].startswith("haproxy: ") for each in status["findings"])
        for kept in ("node.json", "settings.toml", "revision.json"):
            assert stat.S_IMODE((folder(lab) / kept).stat().st_mode) == 0o600
        rest = node.end()
        assert "[TOA]stopped" in rest
    lines = [line["text"] for line in console.call("GET", "/api/logs")]
    assert any("joined the cluster as edge-1" in line for line in lines)
    assert not any("node_" in line for line in lines)


def test_what_cannot_be_applied_is_said_and_the_former_goes_on(
    lab: Lab, receiver: Path, console: Console
) -> None:
    """A port that another program has, until it has it no more; and a file that is not there."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab):
        console.until_applied(first)
        with lab.edge.entered():
            other = socket.create_server((EDGE[4], 8082))
        with other:
            second = console.save(OTHER)
            shown = console.until(lambda node: node["state"] == "failed")
            name = Path("/proc/self/comm").read_text().strip()
            applied = shown["status"]["applied"]
            assert f"{EDGE[4]}:8082 is in use by {name} (process {os.getpid()})" in applied["error"]
            assert (applied["revision"], applied["wanted"]) == (first, second)
            assert visit(lab, listener, CLIENT) == CLIENT
        console.until_applied(second)  # it is tried again
        assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT

        lost = lab.files / "lost.pem"
        tls = f'protocol = "tls"\ntls.certificates = [{{ certificate = "{lost}" }}]\n'
        console.save(ONE.replace("check.enabled", f"{tls}check.enabled"))
        shown = console.until(lambda node: node["state"] == "failed")
        assert f"{lost}" in shown["status"]["applied"]["error"]
        assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT
        fourth = console.save(ONE)
        console.until_applied(fourth)


def test_without_a_server(lab: Lab, receiver: Path, console: Console) -> None:
    """It starts and serves by what it has; of what was saved meanwhile it applies the last."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        with node_running(lab):
            console.until_applied(first)
        for number in range(A_DAY):
            # One of them could not be applied: SERVER's address is not this host's.
            of = ONE.replace(EDGE[4], SERVER[0]) if number == A_DAY // 2 else ONE
            last = console.save(of.replace("web", f"web{number}"))
        console.kill()
        with node_running(lab) as node:
            node.until("ready: web on")
            assert visit(lab, listener, CLIENT) == CLIENT
            assert "settings that are in force go on" in node.log
            console.start()
            console.until_applied(last)
            assert node.log.count("ready: web on") == 1
            assert f"web{A_DAY // 2}" not in node.log
            console.kill()
            assert visit(lab, listener, CLIENT) == CLIENT
            console.start()
            last = console.save(ONE)
            console.until_applied(last)
            node.end()
            # The last of the day, and the one after the server was killed once more.
            assert node.log.count("applied by a reload") == 2


def test_a_token_that_was_revoked(lab: Lab, receiver: Path, console: Console) -> None:
    """It serves on, hears nothing, and comes back by a token that is written to the file."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab) as node:
        shown = console.until_applied(first)
        console.call("DELETE", f"/api/nodes/{shown['id']}")
        said = node.until("this node's token is not good")
        assert "Have a token issued in the console" in said
        console.save(OTHER)
        assert visit(lab, listener, CLIENT) == CLIENT
        assert console.call("GET", "/api/nodes") == []

        token_file(lab).write_text(console.token())
        node.until("joined the cluster as edge-1")
        again = console.until_applied(first + 1)
        assert again["id"] != shown["id"]
        token = console.call("POST", f"/api/nodes/{again['id']}/token")["token"]
        node.until("this node's token is not good")
        token_file(lab).write_text(token)
        node.until("is the node's own now")
        node.until("follows https://localhost")
        assert token not in node.log


def test_a_drained_node(lab: Lab, receiver: Path, console: Console) -> None:
    """No new connections, by whatever happens meanwhile; those that are there go on."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab) as node:
        path = f"/api/nodes/{console.until_applied(first)['id']}/drain"
        with lab.connect(CLIENT, SERVICE) as sock:
            sock.sendall(b"one")
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(120)
                assert conn.recv(10) == b"one"
                console.call("PUT", path, {"drained": True})
                shown = console.until(lambda node: node["status"]["drained"])
                assert is_refused(lab)
                assert shown["status"]["services"]["web"]["current"] == 1
                second = console.save(OTHER)
                console.until_applied(second)
                assert is_refused(lab)
                assert is_refused(lab, 8082)
                conn.sendall(b"two")
                assert sock.recv(10) == b"two"
                shown = console.until(
                    lambda node: node["status"]["services"]["web"]["current"] == 1
                )
            node.end(signal.SIGKILL)
            sock.close()
            with node_running(lab) as other:
                other.until("took over HAProxy")
                console.until(lambda node: "go on" in node["status"]["applied"]["how"])
                assert is_refused(lab, 8082)
                console.call("PUT", path, {"drained": False})
                console.until(lambda node: not node["status"]["drained"])
                assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT
                # And where the worker that was drained is asked to take them again itself.
                console.call("PUT", path, {"drained": True})
                console.until(lambda node: node["status"]["drained"])
                console.call("PUT", path, {"drained": False})
                console.until(lambda node: not node["status"]["drained"])
                assert visit(lab, listener, CLIENT, (EDGE[4], 8082)) == CLIENT


def test_a_node_that_was_killed(lab: Lab, receiver: Path, console: Console) -> None:
    """HAProxy goes on, and the next one takes it over."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab) as node:
        console.until_applied(first)
        node.end(signal.SIGKILL)
        assert visit(lab, listener, CLIENT) == CLIENT
        with node_running(lab) as other:
            other.until("took over HAProxy")
            # The console may still show what the other one said last.
            shown = console.until(
                lambda node: "HAProxy and connections go on" in node["status"]["applied"]["how"]
            )
            assert shown["status"]["applied"]["revision"] == first
            assert visit(lab, listener, CLIENT) == CLIENT


def test_what_takes_a_new_start(lab: Lab, receiver: Path, console: Console) -> None:
    """Metrics, another datapath, and one that can't be had; nobody logs in to the node for it."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])) as listener, node_running(lab) as node:
        console.until_applied(first)
        with lab.connect(CLIENT, SERVICE) as sock:
            sock.sendall(b"one")
            conn, _ = listener.accept()
            with conn:
                conn.settimeout(120)
                assert conn.recv(10) == b"one"
                metrics = f'metrics = "{EDGE[4]}:9100"\n'
                shown = console.until_applied(console.save(metrics + ONE))
                assert "HAProxy and connections go on" in shown["status"]["applied"]["how"]
                assert lab.edge.listens(9100)
                conn.sendall(b"two")
                assert sock.recv(10) == b"two"
        with lab.edge.entered():
            other = socket.create_server((EDGE[4], 9101))
        with other:
            console.save(f'metrics = "{EDGE[4]}:9101"\n' + ONE)
            shown = console.until(lambda node: node["state"] == "failed")
            assert "9101 can't be had" in shown["status"]["applied"]["error"]
            wait_until(lambda: lab.edge.listens(9100))
            assert visit(lab, listener, CLIENT) == CLIENT
        four = ONE.replace(f', "[{EDGE[6]}]:{PORT}"', "")
        queue = '[toa]\ndatapath = "queue"\nmax_queue_id = 1\n'
        shown = console.until_applied(console.save(queue + four))
        assert shown["status"]["datapath"] == "queue"
        assert (
            "HAProxy for another datapath: connections ended" in (shown["status"]["applied"]["how"])
        )
        assert visit(lab, listener, CLIENT) == CLIENT
        shown = console.until_applied(console.save(queue.replace("= 1", "= 2") + four))
        assert "HAProxy and connections go on" in shown["status"]["applied"]["how"]
        assert visit(lab, listener, CLIENT) == CLIENT
        console.until_applied(console.save(ONE))
        assert visit(lab, listener, CLIENT) == CLIENT
        said = command(lab, "edge", "status").stdout
        assert f"node: process {node.process.pid}" in said


def test_a_quick_test(lab: Lab, receiver: Path, console: Console) -> None:
    """Asked for in the console, made by the node; also of a service that is not there any more."""
    first = console.save(ONE)
    with listen(lab, receiver, ("::", SERVER[1])), node_running(lab):
        shown = console.until_applied(first)
        asked = console.call("POST", f"/api/nodes/{shown['id']}/tests", {"service": "web"})
        path = f"/api/tests/{asked['id']}"
        wait_until(lambda: console.call("GET", path)["outcome"] is not None, 60)
        outcome = console.call("GET", path)["outcome"]
        assert outcome["packets"][:2] == ["SYN", "ACK"]
        assert outcome["origin"] == f"{SERVER[0]}:{SERVER[1]}"
        assert outcome["client"].startswith("203.0.113.77:")
