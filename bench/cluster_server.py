# SPDX-License-Identifier: Apache-2.0
"""The real API server for ``bench/cluster``, with TLS, and the stores that it can have."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from cloud_toa.errors import ToaError

_PATIENCE = 60.0
_TICKS = 100
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@contextmanager
def sqlite(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The store's URL, and the processes that it has of its own."""
    yield f"sqlite://{folder}/cluster.db", []


@contextmanager
def etcd(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Three members on loopback, with their data on the disk."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    cluster = ",".join(f"m{at}=http://127.0.0.1:{peer}" for at, (_, peer) in enumerate(ports))
    members = []
    try:
        for at, (client, peer) in enumerate(ports):
            here, other = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            members.append(
                subprocess.Popen(
                    [
                        *("etcd", "--name", f"m{at}", "--data-dir", str(folder / f"m{at}")),
                        *("--listen-client-urls", here, "--advertise-client-urls", here),
                        *("--listen-peer-urls", other, "--initial-advertise-peer-urls", other),
                        *("--initial-cluster", cluster, "--log-level", "error"),
                    ],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        _until(lambda: all(_is_healthy(client) for client, _ in ports), "etcd")
        hosts = ",".join(f"127.0.0.1:{client}" for client, _ in ports)
        yield f"etcd://{hosts}", [member.pid for member in members]
    finally:
        for member in members:
            member.kill()
            member.wait()


STORES = {"sqlite": sqlite, "etcd": etcd}


class Server:
    """It, and an administrator who calls it."""

    def __init__(self, folder: Path, store: str) -> None:
        self.ca, pem = certificate(folder)
        self.url = f"https://localhost:{(port := free_port())}"
        self._said = (folder / "console.log").open("wb+")
        command = [sys.executable, "-u", "-m", "cloud_toa", "console"]
        command += ["--listen", f"127.0.0.1:{port}", "--store", store]
        self._process = subprocess.Popen(
            [*command, "--tls-certificate", str(pem)], stdout=self._said, stderr=self._said
        )
        self.pid = self._process.pid
        context = ssl.create_default_context(cafile=self.ca)
        self._client = httpx.Client(
            base_url=self.url, verify=context, timeout=_PATIENCE, trust_env=False
        )
        _until(self._is_up, "the console")
        token = self.log.partition("token=")[2].split()[0]
        person = {"name": "ann", "password": "correct horse battery"}
        self.call("POST", "/api/setup", {"token": token, **person})
        csrf = self.call("POST", "/api/login", person)["csrf"]
        self._client.headers["X-CSRF-Token"] = csrf

    @property
    def log(self) -> str:
        """What it has said."""
        return Path(self._said.name).read_text()

    def call(self, method: str, path: str, said: object = None) -> Any:  # noqa: ANN401  (JSON)
        """Call it as the administrator; answer what it says."""
        response = self._client.request(method, path, json=said)
        if not response.is_success:
            raise ToaError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None

    def close(self) -> None:
        """End it."""
        self._client.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise ToaError(f"the console ended: {self.log}")
        try:
            return self._client.get("/health").is_success
        except httpx.TransportError:
            return False


def certificate(folder: Path) -> tuple[Path, Path]:
    """An authority's, and one of localhost with its key."""
    ca, key, pem = folder / "ca.pem", folder / "ca.key", folder / "localhost.pem"
    asked, own = folder / "localhost.csr", folder / "localhost.key"
    _openssl(
        "req", "-x509", *_NEW_KEY, "-subj", "/CN=bench", "-days", 2, "-keyout", key, "-out", ca
    )
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    _openssl("req", *_NEW_KEY, *name, "-keyout", own, "-out", asked)
    _openssl(
        *("x509", "-req", "-in", asked, "-CA", ca, "-CAkey", key, "-copy_extensions", "copy"),
        *("-days", 2, "-out", pem),
    )
    pem.write_text(pem.read_text() + own.read_text())
    return ca, pem


def processor(pids: list[int]) -> float:
    """Seconds of the processor that these have taken."""
    total = 0
    for pid in pids:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(rest[11]) + int(rest[12])
    return total / _TICKS


def memory(pids: list[int]) -> float:
    """Their megabytes (Pss)."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def free_port() -> int:
    """One that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _is_healthy(client: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{client}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise ToaError(f"{what} is not there after {_PATIENCE:.0f} s")
        time.sleep(0.05)  # nothing tells another's start


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
