# SPDX-License-Identifier: Apache-2.0
"""A real API server with a SQLite store, and nodes that speak the real protocol to it."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec

from cloud_toa.cluster.model import random_tokens
from cloud_toa.cluster.model.protocol import (
    Applied,
    Counts,
    Facts,
    Finding,
    Line,
    Outcome,
    Sample,
    Status,
)

CLI = (sys.executable, "-m", "cloud_toa")
PASSWORD = "correct horse battery"
SERVICE = """\
# Kept by every form.
[[service]]
name = "web"
listen = ["0.0.0.0:8080", "[::]:8080"]

[[service.origin]]
address = "192.0.2.7"
port = 80

[[service.origin]]
address = "192.0.2.8"
port = 80
"""
_LINK = re.compile(r"(http://\S+)/setup\?token=(\S+)")


class Server:
    """A process of ``cloud-toa console``; ended by `stop`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._process = subprocess.Popen(
            [
                *CLI,
                "console",
                "--listen",
                f"127.0.0.1:{port}",
                "--store",
                f"sqlite://{folder}/c.db",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self.url = self.link = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            if found := _LINK.search(line):
                self.url, self.link = found[1], found[0]
            if "listens on" in line:
                self.url = self.url or line.split("listens on ")[1].strip()
                break
        else:
            raise AssertionError("".join(self.said))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.said.extend(self._process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and wait."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def set_up(self) -> "Api":
        """Make the first administrator."""
        token = self.link.partition("token=")[2]
        body = {"token": token, "name": "admin", "password": PASSWORD}
        answer = httpx.post(f"{self.url}/api/setup", json=body)
        assert answer.is_success, answer.text
        return Api(self.url, "admin")


class Api:
    """Somebody who is logged in, by the API."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=20)
        answer = self.client.post("/api/login", json={"name": name, "password": PASSWORD})
        assert answer.is_success, answer.text
        self.client.headers["X-CSRF-Token"] = answer.json()["csrf"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """What the API answers."""
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def save(self, text: str, why: str = "") -> None:
        """Put settings into force."""
        now = self.call("GET", "/api/settings")
        self.call("PUT", "/api/settings", {"text": text, "seen": now["number"], "why": why})

    def add_user(self, name: str, role: str) -> None:
        """Make another account."""
        self.call("POST", "/api/users", {"name": name, "password": PASSWORD, "role": role})

    def add_node(self, name: str) -> "FakeNode":
        """Have a node join."""
        token = self.call("POST", "/api/nodes/join-tokens", {"uses": 1})["token"]
        return FakeNode(self.url, name, token)

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()


class FakeNode:
    """Says what a node says; carries nothing."""

    def __init__(self, url: str, name: str, join_token: str) -> None:
        self.facts = Facts(
            version="0.1.0",
            kernel="6.12.9-amd64",
            architecture="x86_64",
            hostname=f"{name}.example",
        )
        self.client = httpx.Client(base_url=url, timeout=20)
        self._sampled = 0.0
        secret = random_tokens.secret()
        body = {"name": name, "facts": msgspec.to_builtins(self.facts), "secret": secret}
        answer = self.client.post(
            "/node/join", json=body, headers={"Authorization": f"Bearer {join_token}"}
        )
        assert answer.is_success, answer.text
        self.id = answer.json()["id"]
        self.client.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def wanted(self) -> int:
        """The revision that it is told to run."""
        return int(self._call("GET", "/node/settings").json()["revision"])

    def say(self, applied: Applied, **more: Any) -> None:
        """Tell a status."""
        status = Status(facts=self.facts, time=time.time(), applied=applied, **more)
        self._call("PUT", "/node/status", status)

    def say_usual(self) -> None:
        """Tell that all is well."""
        wanted = self.wanted()
        self.say(
            Applied(revision=wanted, wanted=wanted, how="without a reload"),
            datapath="bpf",
            why="the kernel takes the programs",
            counters={"connections": 482_113, "syn": 481_904, "ack": 482_100, "no_room": 12},
            services={
                "": Counts(connections=482_300, current=1_204),
                "web": Counts(
                    connections=482_300,
                    current=1_204,
                    bytes_from_clients=8_204_113_002,
                    bytes_to_clients=91_377_204_118,
                    refused=31,
                ),
            },
            origins={"web": {"192.0.2.7:80": "UP", "192.0.2.8:80": "DOWN"}},
            cpu_percent=12.4,
            memory_bytes=311_000_000,
            findings=[
                Finding(what="eBPF programs can be loaded", state="ok"),
                Finding(
                    what="nf_conntrack_max is 65536",
                    state="warning",
                    remedy="sysctl -w net.netfilter.nf_conntrack_max=1048576",
                ),
            ],
        )

    def log(self, *lines: tuple[str, str, str]) -> None:
        """Tell lines of its log: level, tag and text."""
        now = time.time()
        told = [
            Line(time=now - (len(lines) - at), level=level, tag=tag, text=text)  # type: ignore[arg-type]
            for at, (level, tag, text) in enumerate(lines)
        ]
        self.tell(told)

    def tell(self, lines: list[Line]) -> None:
        """Tell lines of its log as they are."""
        self._call("POST", "/node/logs", lines)

    def sample(self) -> None:
        """Tell rates, as a day's traffic might be: of an hour at first, then what is new."""
        end = time.time() // 10 * 10
        count = int(end - max(self._sampled, end - 3600)) // 10
        self._sampled = end
        told = []
        for at in range(count):
            slot = int(end / 10) - count + at
            rate = 180 + 60 * (slot % 90 / 90) + slot * 37 % 23
            told.append(
                Sample(
                    time=end - (count - at) * 10,
                    connections={"": rate, "web": rate},
                    bytes={"": rate * 61_000, "web": rate * 61_000},
                    with_toa=rate * 0.98,
                    without_toa=rate * 0.02,
                )
            )
        for at in range(0, count, 30):
            self._call("POST", "/node/samples", told[at : at + 30])

    def test_asked(self) -> str:
        """The id of the quick test that the server asks for, waited for."""
        with self.client.stream("GET", "/node/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:") and '"service"' in line:
                    return str(msgspec.json.decode(line[5:].strip())["id"])
        raise AssertionError("the stream ended")

    def finish(self, test: str, outcome: Outcome) -> None:
        """Tell what became of a quick test."""
        self._call("PUT", f"/node/tests/{test}", outcome)

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    def _call(self, method: str, path: str, body: object = None) -> httpx.Response:
        content = None if body is None else msgspec.json.encode(body)
        answer = self.client.request(
            method, path, content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.is_success, answer.text
        return answer
