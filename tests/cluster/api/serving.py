# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa console`` as a process on loopback, and those who call it."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from cloud_toa.cluster.model import random_tokens
from tests.cli.command import CLI
from tests.netns.traffic import wait_until

PATIENCE = 60.0
PASSWORD = "correct horse battery"
SERVICE = """
[[service]]
name = "web"
listen = ["127.0.0.1:8080"]
[[service.origin]]
address = "192.0.2.7"
port = 80
"""
FACTS = {"version": "0.1.0", "kernel": "6.1.0", "architecture": "x86_64", "hostname": "edge-1"}


class Caller(httpx.Client):
    """Somebody who calls; may have called before ``with``, which closes him."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Serving:
    """One that answers."""

    def __init__(self, store: str, *arguments: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.scheme = "https" if "--tls-certificate" in arguments else "http"
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [
                *CLI,
                "console",
                f"--listen=127.0.0.1:{self.port}",
                f"--store={store}",
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._told = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_said("listens on")

    @property
    def setup_token(self) -> str:
        """Of the link that it has printed; empty where it has not."""
        return next((line.partition("token=")[2] for line in self.log if "token=" in line), "")

    def said(self, words: str) -> bool:
        return any(words in line for line in self.log)

    def wait_said(self, words: str) -> None:
        """Wait until it has said so: the line on a call comes after its answer."""
        with self._told:
            self._told.wait_for(lambda: self.said(words) or self._ended, PATIENCE)
        assert self.said(words), self.log

    def client(self, token: str = "", **options: Any) -> Caller:
        """Somebody who calls it, who must close himself."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return Caller(base_url=self.url, headers=headers, timeout=PATIENCE, **options)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and wait; its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._told:
                    self.log.append(line.rstrip("\n"))
                    self._told.notify_all()
        with self._told:
            self._ended = True
            self._told.notify_all()


@contextmanager
def serving(store: str, *arguments: str, port: int | None = None) -> Iterator[Serving]:
    """Start one, and end it afterwards if it has not ended."""
    server = Serving(store, *arguments, port=port)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def set_up(server: Serving, name: str = "ann") -> Caller:
    """Make the first administrator, and log in."""
    client = server.client()
    said = client.post(
        "/api/setup", json={"token": server.setup_token, "name": name, "password": PASSWORD}
    )
    assert said.status_code == 200, said.text
    log_in(client, name)
    return client


def log_in(client: httpx.Client, name: str, password: str = PASSWORD) -> None:
    """Log in; from then on the client shows the page's token."""
    said = client.post("/api/login", json={"name": name, "password": password})
    assert said.status_code == 200, said.text
    client.headers["X-CSRF-Token"] = said.json()["csrf"]


def api_token(admin: httpx.Client, role: str, name: str = "") -> str:
    said = admin.post("/api/tokens", json={"name": name or f"a {role}", "role": role})
    assert said.status_code == 201, said.text
    return str(said.json()["token"])


def wish(name: str) -> dict[str, Any]:
    """What a new node asks with to join."""
    return {"name": name, "facts": FACTS, "secret": random_tokens.secret()}


def join(server: Serving, operator: httpx.Client, name: str) -> tuple[str, Caller]:
    """A new node: its id, and itself."""
    token = operator.post("/api/nodes/join-tokens", json={}).json()["token"]
    with server.client(token) as newcomer:
        said = newcomer.post("/node/join", json=wish(name))
    assert said.status_code == 201, said.text
    return said.json()["id"], server.client(said.json()["token"])


def until_known(node: httpx.Client) -> None:
    """Wait until the server that it asks has heard of it, which joined at another one."""
    wait_until(lambda: node.get("/node/settings").status_code == 200, PATIENCE)


def status(revision: int, wanted: int | None = None, error: str = "") -> dict[str, Any]:
    """What a node says of itself."""
    applied = {"revision": revision, "wanted": revision if wanted is None else wanted}
    return {"facts": FACTS, "time": time.time(), "applied": {**applied, "error": error}}


def save(client: httpx.Client, text: str, why: str = "") -> int:
    """Save settings on top of what is there; the new revision's number."""
    seen = client.get("/api/settings").json()["number"]
    said = client.put("/api/settings", json={"text": text, "seen": seen, "why": why})
    assert said.status_code == 200, said.text
    return int(said.json()["number"])


class Events:
    """An event stream, read by a thread of its own; ``ended`` once it has."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.ended = False
        self.status = 0
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(client, path), daemon=True)
        self._thread.start()
        self.wait(lambda: self.status != 0)

    def wait_for(self, kind: str, **said: Any) -> Any:
        """Wait for an event with these values; answer it."""
        self.wait(lambda: self._found(kind, said) is not None)
        return self._found(kind, said)

    def wait_end(self) -> None:
        self.wait(lambda: self.ended)

    def wait(self, true: Any) -> None:
        with self._moved:
            assert self._moved.wait_for(true, PATIENCE), self.seen

    def _found(self, kind: str, said: dict[str, Any]) -> Any:
        for each, data in self.seen:
            if each == kind and all(data[key] == value for key, value in said.items()):
                return data
        return None

    def _read(self, client: httpx.Client, path: str) -> None:
        try:
            with client.stream("GET", path, timeout=PATIENCE) as response:
                self._set(status=response.status_code)
                kind = ""
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        with self._moved:
                            self.seen.append((kind, json.loads(value)))
                            self._moved.notify_all()
        except httpx.HTTPError as error:
            with self._moved:
                self.seen.append(("error", str(error)))
        self._set(ended=True)

    def _set(self, **values: Any) -> None:
        with self._moved:
            vars(self).update(values)
            self._moved.notify_all()
