# SPDX-License-Identifier: Apache-2.0
"""The units of a cluster, console and node, in a virtual machine with systemd: see `units`."""

import json
import re
import ssl
import time
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from cloud_toa.cluster.console.node_pages import command
from tests.netns.authority import Authority
from tests.netns.traffic import wait_until
from tests.vm.edge_run import OURS, PINS, Edge, haproxy, passes
from tests.vm.systemd import PATIENCE, run, shown, unit

CONSOLE, NODE = "cloud-toa-console.service", "cloud-toa-node.service"
URL = "http://127.0.0.1:7788"
STATE = Path("/var/lib/cloud-toa")
STORE = STATE / "console/cluster.db"
WRITTEN = {Path("/etc/cloud-toa", name) for name in ("node.env", "node.token")}
"""By the command that the console shows."""


class Console:
    """The unit, and its first administrator, who calls it."""

    def __init__(self) -> None:
        run("systemctl", "start", CONSOLE)
        found = re.search(rf"{URL}/setup\?token=(\S+)", _journal())
        assert found
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._csrf = ""
        person = {"name": "ann", "password": "correct horse battery"}
        self.call("POST", "/api/setup", {"token": found[1], **person})
        self._csrf = self.call("POST", "/api/login", person)["csrf"]

    def call(self, method: str, path: str, said: Any = None) -> Any:
        """Call it; answer what it says."""
        body = None if said is None else json.dumps(said).encode()
        headers = {"Content-Type": "application/json", "X-CSRF-Token": self._csrf}
        request = urllib.request.Request(URL + path, body, headers, method=method)
        with self._opener.open(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def until(self, path: str, true: Callable[[Any], bool]) -> Any:
        """Ask until that is true of the answer; answer it as it was then."""
        answer: Any = None

        def seen() -> bool:
            nonlocal answer
            # Each question takes the emulated processor from those who are waited for.
            time.sleep(1)
            answer = self.call("GET", path)
            return true(answer)

        wait_until(seen, PATIENCE, lambda: answer)
        return answer


def _journal() -> str:
    """What the console has said since its last start."""
    run("journalctl", "--sync")
    (invocation,) = shown(CONSOLE, "InvocationID")
    return run("journalctl", "-b", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}")


def _settings(origin: tuple[str, int]) -> str:
    return f"""
        [haproxy]
        max_connections = 1000
        threads = 1
        [[service]]
        name = "web"
        listen = ["{OURS}:80"]
        check.enabled = false
        [[service.origin]]
        address = "{origin[0]}"
        port = {origin[1]}
    """


def _applied(nodes: Any) -> bool:
    (node,) = nodes
    return bool(node["status"] and node["status"]["applied"]["revision"] == 1)


def _tested(console: Console, node: str, edge: Edge) -> None:
    """The console's quick test makes its own client, and reads packets, in the node's sandbox."""
    asked = console.call("POST", f"/api/nodes/{node}/tests", {"service": "web"})
    conn, peer = edge.listener.accept()
    with conn:
        conn.sendall(b"no echo\n")
        said = console.until(f"/api/tests/{asked['id']}", lambda test: test["outcome"] is not None)
    assert said["outcome"]["good"], said
    assert said["outcome"]["client"] == f"{peer[0]}:{peer[1]}", said


def test(edge: Edge) -> None:
    """From nothing to a node that serves, and what an administrator does with both."""
    console = Console()
    (server,) = shown(CONSOLE, "MainPID")
    assert Path(f"/proc/{server}").stat().st_uid != 0
    assert STORE.stat().st_mode & 0o777 == 0o600
    saved = {"text": _settings(edge.listener.getsockname()), "seen": 0}
    assert console.call("PUT", "/api/settings", saved)["number"] == 1

    run("systemctl", "start", NODE, code=1)  # nobody has said which console is its
    token = console.call("POST", "/api/nodes/join-tokens", {})["token"]
    run("sh", "-c", command(URL, token).replace("| sudo ", "| "))
    (node,) = console.until("/api/nodes", lambda nodes: bool(nodes) and _applied(nodes))
    edge.visit(ports=(80,))
    _tested(console, node["id"], edge)

    # As an upgrade does, which ends no connection.
    main, pid = shown(NODE, "MainPID"), haproxy()
    with edge.connected(80) as plain:
        run("deb-systemd-invoke", "try-restart", NODE)
        passes(*plain)
    assert shown(NODE, "MainPID") != main
    assert haproxy() == pid
    edge.visit(ports=(80,))

    run("systemctl", "reload", NODE)
    run("systemctl", "stop", NODE)
    assert shown(NODE, "ActiveState", "Result") == ["inactive", "success"]
    assert not Path(f"/proc/{pid}").exists()
    assert list(PINS.iterdir()) == []
    assert (STATE / "node/node.json").stat().st_mode & 0o777 == 0o600
    _with_tls(Path("/root"))


def _with_tls(folder: Path) -> None:
    """A key that is root's is handed over, and what was kept is there after the restart."""
    authority = Authority(folder)
    certificate, key = authority.issue("localhost")
    key.chmod(0o600)
    options = "--listen [::]:7788 --tls-certificate %d/certificate --tls-key %d/key"
    lines = (
        "[Service]",
        f"LoadCredential=certificate:{certificate}",
        f"LoadCredential=key:{key}",
        f'Environment="OPTIONS={options}"',
    )
    unit(f"{CONSOLE}.d/tls.conf", "\n".join(lines))
    run("systemctl", "restart", CONSOLE)
    context = ssl.create_default_context(cafile=authority.certificate)
    address = "https://localhost:7788/health"
    with urllib.request.urlopen(address, context=context, timeout=PATIENCE) as answer:
        assert answer.status == 200
    # There is an administrator: no link was printed.
    said = _journal()
    assert "listens on https://" in said
    assert "setup?token" not in said
