# SPDX-License-Identifier: Apache-2.0
"""A cluster on the lab's edge: the real console with TLS, and ``cloud-toa node`` beside it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import sweep
from tests.netns.logged import PATIENCE, Logged
from tests.netns.traffic import wait_until

PORT = 7788
URL = f"https://localhost:{PORT}"
_PASSWORD = "correct horse battery"


class Console:
    """An API server, its store, and an administrator who calls it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        authority = Authority(lab.files, "console-authority")
        self.ca = authority.certificate
        self._pem = authority.pem("localhost")
        self._log = lab.files / "console.log"
        self._store = f"sqlite://{lab.files}/cluster.db"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self._client = httpx.Client(
            base_url=URL, verify=_believing(self.ca), timeout=30, trust_env=False
        )
        token = self._log.read_text().partition("token=")[2].split()[0]
        person = {"name": "ann", "password": _PASSWORD}
        self.call("POST", "/api/setup", {"token": token, **person})
        csrf = self.call("POST", "/api/login", person)["csrf"]
        self._client.headers["X-CSRF-Token"] = csrf

    def start(self) -> None:
        """Start it (again)."""
        command = [sys.executable, "-u", "-m", "cloud_toa", "console"]
        command += ["--listen", f"127.0.0.1:{PORT}", "--store", self._store]
        command += ["--tls-certificate", str(self._pem)]
        with self._log.open("w") as log:
            self._process = self._lab.edge.popen(command, stdout=log, stderr=log)
        wait_until(lambda: "listens on" in self._log.read_text(), PATIENCE, self._log.read_text)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        self._client.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def call(self, method: str, path: str, said: Any = None) -> Any:
        """Call it as the administrator; answer what it says."""
        with self._lab.edge.entered():
            # A connection that was kept may be one to a server that was killed.
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                return _answer(self._client.request(method, path, json=said))
            return _answer(self._client.request(method, path, json=said))

    def save(self, text: str) -> int:
        """Put settings into force; answer their revision."""
        seen = self.call("GET", "/api/settings")["number"]
        return int(self.call("PUT", "/api/settings", {"text": text, "seen": seen})["number"])

    def token(self) -> str:
        """For one node to join with."""
        return str(self.call("POST", "/api/nodes/join-tokens", {})["token"])

    def node(self) -> Any:
        """The only node, as the console shows it; without a status before it has said any."""
        nodes = self.call("GET", "/api/nodes")
        assert len(nodes) < 2, nodes
        return nodes[0] if nodes else {"state": "not there", "status": None}

    def until(self, true: Callable[[Any], bool]) -> Any:
        """Wait until that is true of the node; answer it as it was then."""
        node: Any = None

        def seen() -> bool:
            nonlocal node
            node = self.node()
            return node["status"] is not None and true(node)

        wait_until(seen, 60, lambda: node)
        return node

    def until_applied(self, revision: int) -> Any:
        return self.until(
            lambda node: (
                node["state"] == "online" and node["status"]["applied"]["revision"] == revision
            )
        )


def _believing(ca: Path) -> Any:
    import ssl  # noqa: PLC0415

    return ssl.create_default_context(cafile=ca)


def _answer(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json() if response.content else None


class ClusterNode(Logged):
    """``cloud-toa node`` on the lab's edge."""

    READY = "[TOA]args"

    def __init__(self, lab: Lab, *options: str) -> None:
        words = ("--server", URL, "--ca", str(lab.files / "console-authority.pem"))
        state = ("--state", str(folder(lab)), "--token-file", str(token_file(lab)))
        super().__init__(lab, "node", *words, *state, "--name", "edge-1", *options)

    def end(self, by: signal.Signals = signal.SIGTERM) -> str:
        """End it, and wait; answer the rest of its log."""
        self.process.send_signal(by)
        rest = self._stderr.read().decode()
        self.process.wait(PATIENCE)
        self._stderr.close()
        self.log += rest
        return rest


def folder(lab: Lab) -> Path:
    """What a node keeps."""
    return lab.files / "node"


def token_file(lab: Lab) -> Path:
    return lab.files / "token"


@contextmanager
def node_running(lab: Lab, *options: str) -> Iterator[ClusterNode]:
    """Run it; nothing is left of it afterwards."""
    node = None
    try:
        node = ClusterNode(lab, *options)
        yield node
    finally:
        if node is not None and node.process.poll() is None:
            node.end()
            print(node.log)  # shown where the test has failed
        sweep(lab)


@pytest.fixture
def console(lab: Lab) -> Iterator[Console]:
    """It, and a token file that a node can join with."""
    console = Console(lab)
    token_file(lab).write_text(console.token())
    yield console
    console.close()
